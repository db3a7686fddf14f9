// ndarray: the array as a C heap type. Slots go straight to invoke; rarer methods are Python's (minimx/ndarray.py sets
// them on the type). Slots with files of their own: slots.h.
#include <new>

#include "bind/slots.h"
#include "runtime/backend.h"
#include "runtime/tape.h"

namespace minimx::bind {

PyTypeObject* g_ndarray_type = nullptr;

namespace {

constexpr int kFreeObjects = 256;
PyObject* g_free[kFreeObjects];
int g_free_count = 0;

void dealloc(PyObject* self) {
  auto* a = reinterpret_cast<NdArray*>(self);
  if (a->weakrefs) PyObject_ClearWeakRefs(self);
  a->array.~Array();
  if (g_free_count < kFreeObjects) {
    g_free[g_free_count++] = self;
    return;  // keeps its reference to the type
  }
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

// ---- operators ----------------------------------------------------------------------------------------------------

/// Room for the outputs of calls, so that few of them ask the heap. Under Python's lock; calls within calls find none.
std::vector<Array> g_spare;

PyObject* call_op(PyOp& op, PyObject* const* args, int n, PyObject* into = nullptr) {
  Operand ins[3];
  std::vector<py::object> keep;
  for (int i = 0; i < n; ++i)
    if (!to_operand(args[i], ins[i], keep, false)) Py_RETURN_NOTIMPLEMENTED;
  if (!keep.empty()) bring_together({ins, static_cast<size_t>(n)}, keep);
  std::vector<Array> outs = std::move(g_spare);
  if (!into) {
    invoke(op, nullptr, {ins, static_cast<size_t>(n)}, outs);
    PyObject* made = wrap(std::move(outs[0]));
    outs.clear();
    g_spare = std::move(outs);
    return made;
  }
  invoke(op, nullptr, {ins, static_cast<size_t>(n)}, outs, {&array_of(into), 1});
  array_of(into) = std::move(outs[0]);
  return Py_NewRef(into);
}

#define MINIMX_UNARY(slot, name)                                                       \
  PyObject* slot(PyObject* x) {                                                        \
    static PyOp& op = op_named(name);                                                  \
    return guard(static_cast<PyObject*>(nullptr), [&] { return call_op(op, &x, 1); }); \
  }
#define MINIMX_BINARY(slot, name)                                                        \
  PyObject* slot(PyObject* x, PyObject* y) {                                             \
    static PyOp& op = op_named(name);                                                    \
    PyObject* args[] = {x, y};                                                           \
    return guard(static_cast<PyObject*>(nullptr), [&] { return call_op(op, args, 2); }); \
  }
#define MINIMX_BINARY_INPLACE(slot, name)                                                   \
  MINIMX_BINARY(slot, name)                                                                 \
  PyObject* inplace_##slot(PyObject* x, PyObject* y) {                                      \
    static PyOp& op = op_named(name);                                                       \
    PyObject* args[] = {x, y};                                                              \
    return guard(static_cast<PyObject*>(nullptr), [&] { return call_op(op, args, 2, x); }); \
  }

MINIMX_UNARY(nb_negative, "negative")
MINIMX_UNARY(nb_absolute, "abs")
MINIMX_UNARY(nb_invert, "bitwise_not")
MINIMX_BINARY_INPLACE(nb_add, "add")
MINIMX_BINARY_INPLACE(nb_subtract, "subtract")
MINIMX_BINARY_INPLACE(nb_multiply, "multiply")
MINIMX_BINARY_INPLACE(nb_true_divide, "divide")
MINIMX_BINARY_INPLACE(nb_floor_divide, "floor_divide")
MINIMX_BINARY_INPLACE(nb_remainder, "remainder")
MINIMX_BINARY_INPLACE(nb_and, "bitwise_and")
MINIMX_BINARY_INPLACE(nb_or, "bitwise_or")
MINIMX_BINARY_INPLACE(nb_xor, "bitwise_xor")
MINIMX_BINARY_INPLACE(nb_lshift, "left_shift")
MINIMX_BINARY_INPLACE(nb_rshift, "right_shift")
MINIMX_BINARY_INPLACE(power2, "power")
MINIMX_BINARY_INPLACE(nb_matrix_multiply, "matmul")
MINIMX_BINARY(compare_lt, "less")
MINIMX_BINARY(compare_le, "less_equal")
MINIMX_BINARY(compare_eq, "equal")
MINIMX_BINARY(compare_ne, "not_equal")
MINIMX_BINARY(compare_gt, "greater")
MINIMX_BINARY(compare_ge, "greater_equal")
#undef MINIMX_BINARY_INPLACE
#undef MINIMX_BINARY

MINIMX_UNARY(squared, "square")

PyObject* nb_power(PyObject* x, PyObject* y, PyObject*) {
  bool square = is_ndarray(x) && PyLong_CheckExact(y) && PyLong_AsLongLong(y) == 2 && array_of(x).dtype != DType::kBool;
  return square ? squared(x) : power2(x, y);  // a product, twenty times as fast as pow
}
#undef MINIMX_UNARY

PyObject* nb_inplace_power(PyObject* x, PyObject* y, PyObject*) { return inplace_power2(x, y); }
PyObject* nb_positive(PyObject* x) { return Py_NewRef(x); }

PyObject* richcompare(PyObject* x, PyObject* y, int how) {
  switch (how) {
    case Py_LT:
      return compare_lt(x, y);
    case Py_LE:
      return compare_le(x, y);
    case Py_EQ:
      if (y == Py_None) Py_RETURN_FALSE;
      return compare_eq(x, y);
    case Py_NE:
      if (y == Py_None) Py_RETURN_TRUE;
      return compare_ne(x, y);
    case Py_GT:
      return compare_gt(x, y);
    default:
      return compare_ge(x, y);
  }
}

Py_hash_t hash(PyObject* x) { return static_cast<Py_hash_t>(reinterpret_cast<uintptr_t>(x) >> 4); }

// ---- values -------------------------------------------------------------------------------------------------------

/// The one element, after waiting for it. Throws for other sizes and under trace.
Scalar item(const Array& a, const char* what) {
  must_have_values(a, what);
  if (a.size() != 1)
    throw Error(ErrorKind::kValue, std::string(what) + ": expected an array of one element, got shape " +
                                       a.shape.str() + ". Use .any(), .all() or an index.");
  const Array here = a.device().kind == Device::Kind::kCpu ? a.detached() : on_device(a.detached(), {});
  engine::wait_to_read(here.var());
  return dispatch(here.dtype, [&](auto zero) {
    using T = decltype(zero);
    T v;
    std::memcpy(&v, here.data(), sizeof v);
    if constexpr (std::is_same_v<T, bool>)
      return Scalar::boolean(v);
    else if constexpr (std::is_integral_v<T>)
      return Scalar::integer(v);
    else
      return Scalar::real(static_cast<double>(static_cast<std::conditional_t<sizeof(T) == 2, float, T>>(v)));
  });
}

PyObject* to_python(Scalar s) {
  if (s.kind == 'b') return PyBool_FromLong(s.i != 0);
  return s.kind == 'i' ? PyLong_FromLongLong(s.i) : PyFloat_FromDouble(s.f);
}

int nb_bool(PyObject* x) {
  return guard(-1, [&] {
    const Array& a = array_of(x);
    return a.size() == 0 && !a.traced() ? 0 : item(a, "bool").value() != 0;
  });
}
PyObject* nb_float(PyObject* x) {
  return guard(static_cast<PyObject*>(nullptr), [&] { return PyFloat_FromDouble(item(array_of(x), "float").value()); });
}
PyObject* nb_int(PyObject* x) {
  return guard(static_cast<PyObject*>(nullptr), [&] {
    Scalar s = item(array_of(x), "int");
    return s.kind == 'f' ? PyLong_FromDouble(s.f) : PyLong_FromLongLong(s.i);
  });
}
PyObject* nb_index(PyObject* x) {
  return guard(static_cast<PyObject*>(nullptr), [&] {
    Scalar s = item(array_of(x), "index");
    if (s.kind == 'f')
      throw Error(ErrorKind::kType, "index: expected an integer array, got a float one. Cast with astype('int64').");
    return PyLong_FromLongLong(s.i);
  });
}
PyObject* method_item(PyObject* x, PyObject*) {
  return guard(static_cast<PyObject*>(nullptr), [&] { return to_python(item(array_of(x), "item")); });
}
PyObject* method_wait(PyObject* x, PyObject*) {
  return guard(static_cast<PyObject*>(nullptr), [&] {
    if (!array_of(x).traced()) wait_for(array_of(x));
    return Py_NewRef(Py_None);
  });
}

Py_ssize_t length(PyObject* self) {
  return guard(Py_ssize_t{-1}, [&]() -> Py_ssize_t {
    if (array_of(self).shape.empty())
      throw Error(ErrorKind::kArgument,
                  "len: expected an array with dimensions, got shape (). Use .item() for its value.");
    return array_of(self).shape[0];
  });
}

// ---- attributes ---------------------------------------------------------------------------------------------------

PyObject* tuple_of(const Dims& d, int64_t scale = 1) {
  PyObject* t = PyTuple_New(d.size());
  for (int i = 0; t && i < d.size(); ++i) PyTuple_SET_ITEM(t, i, PyLong_FromLongLong(d[i] * scale));
  return t;
}

PyObject* get_shape(PyObject* x, void*) { return tuple_of(array_of(x).shape); }
PyObject* get_strides(PyObject* x, void*) { return tuple_of(array_of(x).strides, itemsize(array_of(x).dtype)); }
PyObject* get_ndim(PyObject* x, void*) { return PyLong_FromLong(array_of(x).shape.size()); }
PyObject* get_size(PyObject* x, void*) { return PyLong_FromLongLong(array_of(x).size()); }
PyObject* get_itemsize(PyObject* x, void*) { return PyLong_FromLong(itemsize(array_of(x).dtype)); }
PyObject* get_dtype(PyObject* x, void*) {
  return Py_NewRef(PyTuple_GET_ITEM(g_hooks.dtypes, static_cast<int>(array_of(x).dtype)));
}
PyObject* get_device(PyObject* x, void*) {
  static PyObject* known[2][256];  // the same objects as mx.cpu() and mx.gpu() give
  const Device d = array_of(x).device();
  PyObject*& device = known[d.kind == Device::Kind::kGpu][d.id];
  if (!device) device = PyObject_CallFunction(g_hooks.device, "si", d.kind == Device::Kind::kCpu ? "cpu" : "gpu", d.id);
  return Py_XNewRef(device);
}
PyObject* get_grad(PyObject* x, void*) {
  const Array& a = array_of(x);
  if (!a.edge.leaf) Py_RETURN_NONE;
  return wrap(a.edge.leaf->grad);
}
PyObject* get_traced(PyObject* x, void*) { return PyBool_FromLong(array_of(x).traced()); }

PyObject* repr(PyObject* x) { return PyObject_CallOneArg(g_hooks.repr, x); }

PyMethodDef g_methods[] = {
    {"item", method_item, METH_NOARGS,
     "item($self, /)\n--\n\nThe one element as a Python number; waits for it. ValueError for other sizes."},
    {"asnumpy", asnumpy, METH_NOARGS,
     "asnumpy($self, /)\n--\n\nThe values as a NumPy array of its own; waits for them. bfloat16 comes as "
     "ml_dtypes.bfloat16."},
    {"wait_to_read", method_wait, METH_NOARGS,
     "wait_to_read($self, /)\n--\n\nBlocks until every operator that writes this array has finished."},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef g_getset[] = {
    {"shape", get_shape, nullptr, "Tuple of dimensions.", nullptr},
    {"strides", get_strides, nullptr, "Tuple of bytes to step in each dimension.", nullptr},
    {"ndim", get_ndim, nullptr, "Number of dimensions.", nullptr},
    {"size", get_size, nullptr, "Number of elements.", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes of an element.", nullptr},
    {"dtype", get_dtype, nullptr, "Element type, as numpy.dtype.", nullptr},
    {"device", get_device, nullptr, "Device that holds the elements.", nullptr},
    {"ctx", get_device, nullptr, "Same as device.", nullptr},
    {"context", get_device, nullptr, "Same as device.", nullptr},
    {"grad", get_grad, nullptr, "Gradient array made by attach_grad(), or None.", nullptr},
    {"_traced", get_traced, nullptr, "True while the array is a value of a graph being traced.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMemberDef g_members[] = {{"__weaklistoffset__", T_PYSSIZET, offsetof(NdArray, weakrefs), READONLY, nullptr},
                           {nullptr, 0, 0, 0, nullptr}};

PyObject* no_new(PyTypeObject*, PyObject*, PyObject*) {
  PyErr_SetString(PyExc_TypeError,
                  "ndarray: expected creation by a function, got a call of the class. Use np.array or np.empty.");
  return nullptr;
}

#define SLOT(name, f) {name, reinterpret_cast<void*>(f)}
PyType_Slot g_slots[] = {SLOT(Py_tp_new, no_new),
                         SLOT(Py_tp_dealloc, dealloc),
                         SLOT(Py_tp_richcompare, richcompare),
                         SLOT(Py_tp_hash, hash),
                         SLOT(Py_tp_repr, repr),
                         SLOT(Py_tp_methods, g_methods),
                         SLOT(Py_tp_getset, g_getset),
                         SLOT(Py_tp_members, g_members),
                         SLOT(Py_nb_add, nb_add),
                         SLOT(Py_nb_subtract, nb_subtract),
                         SLOT(Py_nb_multiply, nb_multiply),
                         SLOT(Py_nb_true_divide, nb_true_divide),
                         SLOT(Py_nb_floor_divide, nb_floor_divide),
                         SLOT(Py_nb_remainder, nb_remainder),
                         SLOT(Py_nb_power, nb_power),
                         SLOT(Py_nb_and, nb_and),
                         SLOT(Py_nb_or, nb_or),
                         SLOT(Py_nb_xor, nb_xor),
                         SLOT(Py_nb_lshift, nb_lshift),
                         SLOT(Py_nb_rshift, nb_rshift),
                         SLOT(Py_nb_matrix_multiply, nb_matrix_multiply),
                         SLOT(Py_nb_inplace_add, inplace_nb_add),
                         SLOT(Py_nb_inplace_subtract, inplace_nb_subtract),
                         SLOT(Py_nb_inplace_multiply, inplace_nb_multiply),
                         SLOT(Py_nb_inplace_true_divide, inplace_nb_true_divide),
                         SLOT(Py_nb_inplace_floor_divide, inplace_nb_floor_divide),
                         SLOT(Py_nb_inplace_remainder, inplace_nb_remainder),
                         SLOT(Py_nb_inplace_power, nb_inplace_power),
                         SLOT(Py_nb_inplace_and, inplace_nb_and),
                         SLOT(Py_nb_inplace_or, inplace_nb_or),
                         SLOT(Py_nb_inplace_xor, inplace_nb_xor),
                         SLOT(Py_nb_inplace_lshift, inplace_nb_lshift),
                         SLOT(Py_nb_inplace_rshift, inplace_nb_rshift),
                         SLOT(Py_nb_inplace_matrix_multiply, inplace_nb_matrix_multiply),
                         SLOT(Py_nb_negative, nb_negative),
                         SLOT(Py_nb_positive, nb_positive),
                         SLOT(Py_nb_absolute, nb_absolute),
                         SLOT(Py_nb_invert, nb_invert),
                         SLOT(Py_nb_bool, nb_bool),
                         SLOT(Py_nb_float, nb_float),
                         SLOT(Py_nb_int, nb_int),
                         SLOT(Py_nb_index, nb_index),
                         SLOT(Py_mp_subscript, subscript),
                         SLOT(Py_mp_ass_subscript, assign_subscript),
                         SLOT(Py_mp_length, length),
                         SLOT(Py_bf_getbuffer, get_buffer),
                         SLOT(Py_bf_releasebuffer, release_buffer),
                         {0, nullptr}};
#undef SLOT

PyType_Spec g_spec = {"minimx.np.ndarray", sizeof(NdArray), 0, Py_TPFLAGS_DEFAULT, g_slots};

}  // namespace

void must_have_values(const Array& a, const char* what) {
  if (a.traced())
    throw Error(ErrorKind::kGraph,
                std::string(what) +
                    ": expected no read of a value while a graph is traced, got one. The graph is traced "
                    "once for all values: use np.where, npx.cond-like operators, or do not hybridize this block.");
}

PyObject* wrap(Array a) {
  PyObject* o;
  if (g_free_count > 0) {
    o = g_free[--g_free_count];
    PyObject_Init(o, g_ndarray_type);
    Py_DECREF(g_ndarray_type);  // PyObject_Init took one; the object had kept its own
  } else {
    o = g_ndarray_type->tp_alloc(g_ndarray_type, 0);
    if (!o) return nullptr;
  }
  auto* n = reinterpret_cast<NdArray*>(o);
  new (&n->array) Array(std::move(a));
  n->weakrefs = nullptr;
  return o;
}

void add_ndarray_type(py::module_& m) {
  g_ndarray_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&g_spec));
  if (!g_ndarray_type) throw py::error_already_set();
  m.attr("ndarray") = py::handle(reinterpret_cast<PyObject*>(g_ndarray_type));
}

}  // namespace minimx::bind
