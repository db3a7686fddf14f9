// CompositeFunction: a composite row as a Python callable. It calls the row's own function; what that makes from
// nothing (a range, a mask, an identity) lies where its array arguments lie, not on the current device.

#include "bind/object.h"

namespace minimx::bind {
namespace {

struct CompositeFunction {
  PyObject_HEAD vectorcallfunc vectorcall;
  PyObject* function;  // Python's, owned
  PyObject* dict;      // __doc__, __name__, __signature__, set by Python
};

PyTypeObject* g_composite_type = nullptr;

/// The first array among the arguments, or in a list or tuple among them; null if there is none.
const Array* first_array(PyObject* const* args, Py_ssize_t n, bool inside = false) {
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* x = args[i];
    if (is_ndarray(x)) return &array_of(x);
    if (inside || !(PyList_CheckExact(x) || PyTuple_CheckExact(x))) continue;
    if (const Array* a = first_array(PySequence_Fast_ITEMS(x), PySequence_Fast_GET_SIZE(x), true)) return a;
  }
  return nullptr;
}

PyObject* call(PyObject* self, PyObject* const* args, size_t nargsf, PyObject* names) {
  PyObject* function = reinterpret_cast<CompositeFunction*>(self)->function;
  const Py_ssize_t n = PyVectorcall_NARGS(nargsf) + (names ? PyTuple_GET_SIZE(names) : 0);
  const Array* beside = first_array(args, n);
  if (!beside) return PyObject_Vectorcall(function, args, nargsf, names);
  const Device before = std::exchange(mode().device, beside->device());
  PyObject* result = PyObject_Vectorcall(function, args, nargsf, names);
  mode().device = before;
  return result;
}

PyObject* descr_get(PyObject* self, PyObject* instance, PyObject*) {
  return instance ? PyMethod_New(self, instance) : Py_NewRef(self);
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  auto* f = reinterpret_cast<CompositeFunction*>(self);
  Py_XDECREF(f->function);
  Py_XDECREF(f->dict);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* repr(PyObject* self) {
  return PyUnicode_FromFormat("<composite %R>", reinterpret_cast<CompositeFunction*>(self)->function);
}

PyMemberDef g_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(CompositeFunction, vectorcall), READONLY, nullptr},
    {"__dictoffset__", T_PYSSIZET, offsetof(CompositeFunction, dict), READONLY, nullptr},
    {"__wrapped__", T_OBJECT, offsetof(CompositeFunction, function), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};
PyType_Slot g_slots[] = {{Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                         {Py_tp_descr_get, reinterpret_cast<void*>(descr_get)},
                         {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
                         {Py_tp_repr, reinterpret_cast<void*>(repr)},
                         {Py_tp_members, g_members},
                         {0, nullptr}};
PyType_Spec g_spec = {"minimx.CompositeFunction", sizeof(CompositeFunction), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR, g_slots};

}  // namespace

void add_composite_type(py::module_& m) {
  g_composite_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&g_spec));
  if (!g_composite_type) throw py::error_already_set();
  m.def("make_composite", [](py::object function) {
    auto* f = reinterpret_cast<CompositeFunction*>(g_composite_type->tp_alloc(g_composite_type, 0));
    if (!f) throw py::error_already_set();
    f->vectorcall = call;
    f->function = function.release().ptr();
    f->dict = PyDict_New();
    return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(f));
  });
}

}  // namespace minimx::bind
