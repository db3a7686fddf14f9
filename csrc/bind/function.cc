// OpFunction: an operator as a Python callable by the vectorcall protocol, and as a method of ndarray.
// Arguments are sorted into operands and attributes by the row's parameters; attributes are interned, so that a
// repeated call hashes at most one small tuple.

#include <algorithm>

#include "bind/object.h"
#include "runtime/backend.h"

namespace minimx::bind {
namespace {

constexpr int kMaxParameters = 32;

struct OpFunction {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyOp* op;        // owned by the operator registry, never freed
  PyObject* dict;  // __doc__, __name__, __signature__, set by Python
};

PyTypeObject* g_function_type = nullptr;

bool same_name(PyObject* a, PyObject* b) { return a == b || PyUnicode_Compare(a, b) == 0; }

[[noreturn]] void bad_call(const PyOp& op, const std::string& rest) {
  throw Error(ErrorKind::kArgument, op.name + ": " + rest);
}

/// Sorts the arguments of a call by parameter. `out` is the keyword that every operator takes.
void sort_arguments(const PyOp& op, PyObject* const* args, size_t n, PyObject* names, PyObject** values,
                    PyObject*& out) {
  size_t count = op.parameters.size();
  if (n > count)
    bad_call(op,
             "expected at most " + std::to_string(count) + " arguments, got " + std::to_string(n) + ". See help().");
  std::copy(args, args + n, values);
  std::fill(values + n, values + count, nullptr);
  Py_ssize_t n_named = names ? PyTuple_GET_SIZE(names) : 0;
  for (Py_ssize_t k = 0; k < n_named; ++k) {
    PyObject* name = PyTuple_GET_ITEM(names, k);
    PyObject* value = args[n + k];
    size_t i = 0;
    while (i < count && !same_name(op.parameters[i].name, name)) ++i;
    if (i < count) {
      if (values[i])
        bad_call(op, "expected argument '" + std::string(PyUnicode_AsUTF8(name)) + "' once, got it twice. Drop one.");
      values[i] = value;
    } else if (PyUnicode_CompareWithASCIIString(name, "out") == 0) {
      out = value == Py_None ? nullptr : value;
    } else {
      std::string known;
      for (const Parameter& p : op.parameters)
        known += std::string(known.empty() ? "" : ", ") + PyUnicode_AsUTF8(p.name);
      bad_call(op, "expected arguments among (" + known + ", out), got '" + PyUnicode_AsUTF8(name) +
                       "'. Check the spelling.");
    }
  }
  for (size_t i = 0; i < count; ++i) {
    if (values[i]) continue;
    if (!op.parameters[i].fallback)
      bad_call(op,
               "expected argument '" + std::string(PyUnicode_AsUTF8(op.parameters[i].name)) + "', got none. Pass it.");
    values[i] = op.parameters[i].fallback;
  }
}

/// `keep` owns the sequence or the rows, `made` what becomes of its elements that are no arrays.
void add_sequence(const PyOp& op, PyObject* x, std::vector<Operand>& ins, std::vector<py::object>& keep,
                  std::vector<py::object>& made) {
  if (is_ndarray(x)) {  // a list of its rows, as NumPy has it
    Py_ssize_t rows = PyObject_Length(x);
    if (rows < 0) throw py::error_already_set();
    for (Py_ssize_t i = 0; i < rows; ++i) {
      PyObject* row = PySequence_GetItem(x, i);
      if (!row) throw py::error_already_set();
      keep.push_back(py::reinterpret_steal<py::object>(row));
      to_operand(row, ins.emplace_back(), made);
    }
    return;
  }
  PyObject* fast = PySequence_Fast(x, (op.name + ": expected a sequence of arrays").c_str());
  if (!fast) throw py::error_already_set();
  keep.push_back(py::reinterpret_steal<py::object>(fast));
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(fast); ++i)
    to_operand(PySequence_Fast_GET_ITEM(fast, i), ins.emplace_back(), made);
}

PyObject* results(std::vector<Array>& outs, PyObject* into) {
  if (into) {
    bool many = PyTuple_Check(into);
    for (size_t i = 0; i < outs.size(); ++i) array_of(many ? PyTuple_GET_ITEM(into, i) : into) = std::move(outs[i]);
    return Py_NewRef(into);
  }
  if (outs.size() == 1) return wrap(std::move(outs[0]));
  PyObject* t = PyTuple_New(static_cast<Py_ssize_t>(outs.size()));
  if (!t) return nullptr;
  for (size_t i = 0; i < outs.size(); ++i) PyTuple_SET_ITEM(t, i, wrap(std::move(outs[i])));
  return t;
}

std::vector<Array> arrays_to_fill(const PyOp& op, PyObject* out) {
  std::vector<Array> into;
  auto add = [&](PyObject* x) {
    if (!is_ndarray(x))
      bad_call(op,
               std::string("expected out to be an ndarray, got ") + Py_TYPE(x)->tp_name + ". Pass an array, or none.");
    into.push_back(array_of(x));
  };
  if (!out) return into;
  if (PyTuple_Check(out))
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(out); ++i) add(PyTuple_GET_ITEM(out, i));
  else
    add(out);
  return into;
}

PyObject* call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* names) {
  return guard(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
    PyOp& op = *reinterpret_cast<OpFunction*>(self)->op;
    PyObject* values[kMaxParameters];
    PyObject* out = nullptr;
    sort_arguments(op, args, PyVectorcall_NARGS(nargsf), names, values, out);
    std::vector<Operand> ins;
    std::vector<py::object> keep, made;
    PyObject* attributes[kMaxParameters];
    int n_attributes = 0;
    ins.reserve(op.parameters.size());
    for (size_t i = 0; i < op.parameters.size(); ++i) {
      const Parameter& p = op.parameters[i];
      if (!p.is_operand)
        attributes[n_attributes++] = values[i];
      else if (p.arrays)
        add_sequence(op, values[i], ins, keep, made);
      else
        to_operand(values[i], ins.emplace_back(), made);
    }
    if (!made.empty()) bring_together(ins, made);
    std::vector<Array> into = arrays_to_fill(op, out), outs;
    invoke(op, intern_attributes(op, attributes), ins, outs, into);
    return results(outs, out);
  });
}

PyObject* descr_get(PyObject* self, PyObject* instance, PyObject*) {
  return instance ? PyMethod_New(self, instance) : Py_NewRef(self);
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(reinterpret_cast<OpFunction*>(self)->dict);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* repr(PyObject* self) {
  return PyUnicode_FromFormat("<operator %s>", reinterpret_cast<OpFunction*>(self)->op->name.c_str());
}

PyMemberDef g_members[] = {{"__vectorcalloffset__", T_PYSSIZET, offsetof(OpFunction, vectorcall), READONLY, nullptr},
                           {"__dictoffset__", T_PYSSIZET, offsetof(OpFunction, dict), READONLY, nullptr},
                           {nullptr, 0, 0, 0, nullptr}};
PyType_Slot g_slots[] = {{Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                         {Py_tp_descr_get, reinterpret_cast<void*>(descr_get)},
                         {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
                         {Py_tp_repr, reinterpret_cast<void*>(repr)},
                         {Py_tp_members, g_members},
                         {0, nullptr}};
PyType_Spec g_spec = {"minimx.OpFunction", sizeof(OpFunction), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR, g_slots};

}  // namespace

void add_function_type(py::module_& m) {
  g_function_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&g_spec));
  if (!g_function_type) throw py::error_already_set();
  m.def("make_function", [](const std::string& name) {
    auto* f = reinterpret_cast<OpFunction*>(g_function_type->tp_alloc(g_function_type, 0));
    if (!f) throw py::error_already_set();
    f->vectorcall = call;
    f->op = &op_named(name);
    f->dict = PyDict_New();
    return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(f));
  });
}

bool to_operand(PyObject* x, Operand& out, std::vector<py::object>& keep, bool strict) {
  if (is_ndarray(x)) {
    out = Operand(array_of(x));
  } else if (PyFloat_CheckExact(x)) {
    out = Operand(Scalar::real(PyFloat_AS_DOUBLE(x)));
  } else if (PyBool_Check(x)) {
    out = Operand(Scalar::boolean(x == Py_True));
  } else if (PyLong_CheckExact(x)) {
    int64_t v = PyLong_AsLongLong(x);
    if (v == -1 && PyErr_Occurred()) throw py::error_already_set();
    out = Operand(Scalar::integer(v));
  } else if (x == Py_None && strict) {
    out = Operand();
  } else {
    if (x == Py_None) return false;
    PyObject* a = PyObject_CallFunctionObjArgs(g_hooks.asarray, x, strict ? Py_True : Py_False, nullptr);
    if (!a) throw py::error_already_set();
    keep.push_back(py::reinterpret_steal<py::object>(a));
    if (a == Py_NotImplemented) return false;
    return to_operand(a, out, keep, strict);
  }
  return true;
}

void bring_together(std::span<const Operand> ins, std::span<py::object> made) {
  auto is_made = [&](const Operand& x) {
    return std::ranges::any_of(
        made, [&](const py::object& m) { return is_ndarray(m.ptr()) && x.array == &array_of(m.ptr()); });
  };
  for (const Operand& x : ins) {
    if (!x.is_array() || is_made(x)) continue;
    const Device home = x.array->device();
    for (py::object& m : made) {
      if (!is_ndarray(m.ptr())) continue;
      Array& a = array_of(m.ptr());
      if (!a.storage || a.device() == home) continue;
      if (a.device().shares_memory(home))
        a.storage->set_device(home);
      else
        a = on_device(a.detached(), home);
    }
    return;
  }
}

}  // namespace minimx::bind
