// ndarray: the array as a C heap type. Slots go straight to invoke; rarer methods are Python's (minimx/ndarray.py sets
// them on the type). Basic indexing makes a view here; other keys go to minimx.ops.rows.index through a hook.

#include <pybind11/numpy.h>

#include <new>

#include "bind/object.h"
#include "engine/op.h"
#include "runtime/backend.h"
#include "runtime/checked.h"
#include "runtime/tape.h"
#include "runtime/trace.h"

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
void must_have_values(const Array& a, const char* what) {
  if (a.traced())
    throw Error(ErrorKind::kGraph,
                std::string(what) +
                    ": expected no read of a value while a graph is traced, got one. The graph is traced "
                    "once for all values: use np.where, npx.cond-like operators, or do not hybridize this block.");
}

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
/// A NumPy array of its own; from a GPU it keeps the copy that was made of it.
PyObject* method_asnumpy(PyObject* x, PyObject*) {
  return guard(static_cast<PyObject*>(nullptr), [&] {
    const Array& own = array_of(x);
    must_have_values(own, "asnumpy");
    const bool there = own.device().kind == Device::Kind::kGpu;
    const Array a = there ? on_device(own.detached(), {}) : own.detached();
    checked::describe(a);
    engine::wait_to_read(a.var());
    std::vector<py::ssize_t> strides(a.strides.begin(), a.strides.end());
    for (py::ssize_t& step : strides) step *= itemsize(a.dtype);
    const auto type = py::reinterpret_borrow<py::dtype>(PyTuple_GET_ITEM(g_hooks.dtypes, static_cast<int>(a.dtype)));
    const py::object keeper = there ? py::reinterpret_steal<py::object>(wrap(a)) : py::object();
    return py::array(type, std::vector<py::ssize_t>(a.shape.begin(), a.shape.end()), std::move(strides), a.data(),
                     keeper)
        .release()
        .ptr();
  });
}
PyObject* method_wait(PyObject* x, PyObject*) {
  return guard(static_cast<PyObject*>(nullptr), [&] {
    if (!array_of(x).traced()) wait_for(array_of(x));
    return Py_NewRef(Py_None);
  });
}

// ---- indexing -----------------------------------------------------------------------------------------------------

bool is_basic(PyObject* k) {
  return k == Py_None || k == Py_Ellipsis || PySlice_Check(k) || (PyLong_Check(k) && !PyBool_Check(k));
}

/// The view for a key of integers, slices, None and Ellipsis; false if the key has anything else.
bool basic_view(const Array& a, PyObject* key, Array& view) {
  PyObject* const* items = &key;
  Py_ssize_t n = 1;
  if (PyTuple_Check(key)) {
    items = &PyTuple_GET_ITEM(key, 0);
    n = PyTuple_GET_SIZE(key);
  }
  int consumed = 0;
  bool ellipsis = false;
  for (Py_ssize_t i = 0; i < n; ++i) {
    if (!is_basic(items[i])) return false;
    if (items[i] == Py_Ellipsis && std::exchange(ellipsis, true))
      throw Error(ErrorKind::kIndex, "index: expected one '...', got two. Name the axes with ':'.");
    if (items[i] != Py_None && items[i] != Py_Ellipsis) ++consumed;
  }
  if (consumed > a.shape.size())
    throw Error(ErrorKind::kIndex, "index: expected at most " + std::to_string(a.shape.size()) + " indices for shape " +
                                       a.shape.str() + ", got " + std::to_string(consumed) + ". Drop some.");
  view = a.detached();
  view.shape.resize(0);
  view.strides.resize(0);
  int axis = 0;
  auto keep_axes = [&](int count) {
    for (; count > 0; --count, ++axis) {
      view.shape.push_back(a.shape[axis]);
      view.strides.push_back(a.strides[axis]);
    }
  };
  for (Py_ssize_t i = 0; i < n; ++i) {
    PyObject* k = items[i];
    if (k == Py_None) {
      view.shape.push_back(1);
      view.strides.push_back(0);
    } else if (k == Py_Ellipsis) {
      keep_axes(a.shape.size() - consumed);
    } else if (PySlice_Check(k)) {
      Py_ssize_t start, stop, step;
      if (PySlice_Unpack(k, &start, &stop, &step) < 0) throw py::error_already_set();
      Py_ssize_t length = PySlice_AdjustIndices(a.shape[axis], &start, &stop, step);
      view.offset += length ? start * a.strides[axis] : 0;
      view.shape.push_back(length);
      view.strides.push_back(a.strides[axis] * step);
      ++axis;
    } else {
      int64_t index = PyLong_AsLongLong(k), dim = a.shape[axis];
      if (index == -1 && PyErr_Occurred()) throw py::error_already_set();
      if (index < -dim || index >= dim)
        throw Error(ErrorKind::kIndex, "index: expected an index in [" + std::to_string(-dim) + ", " +
                                           std::to_string(dim) + ") for axis " + std::to_string(axis) + " of shape " +
                                           a.shape.str() + ", got " + std::to_string(index) + ". Use one inside.");
      view.offset += (index < 0 ? index + dim : index) * a.strides[axis];
      ++axis;
    }
  }
  keep_axes(a.shape.size() - axis);
  return true;
}

/// x[i] for an array of integers: rows along the first axis. Null where the key is something else, or elsewhere.
PyObject* rows_at(const Array& x, PyObject* key) {
  if (!is_ndarray(key) || !x.shape.size()) return nullptr;
  const Array& i = array_of(key);
  if (!i.shape.size() || !is_integer(i.dtype) || !(i.device() == x.device())) return nullptr;
  static PyOp& take = op_named("take");
  static const auto* along_first = new Ref<const AttrSet>(attributes_from(take, py::dict(py::arg("axis") = 0)));
  return wrap(invoke1(take, along_first->get(), {Operand(x), Operand(i)}));
}

PyObject* subscript(PyObject* self, PyObject* key) {
  return guard(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
    const Array& a = array_of(self);
    Array view;
    bool plain = !a.traced() && !(mode().recording && a.edge);
    if (plain && basic_view(a, key, view)) return wrap(std::move(view));
    if (PyObject* rows = rows_at(a, key)) return rows;
    return PyObject_CallFunctionObjArgs(g_hooks.index_get, self, key, nullptr);
  });
}

int assign_subscript(PyObject* self, PyObject* key, PyObject* value) {
  return guard(-1, [&] {
    if (!value)
      throw Error(ErrorKind::kType, "del: expected arrays to keep their size, got a deletion. Use np.delete.");
    Array& a = array_of(self);
    Array view;
    bool value_on_tape = is_ndarray(value) && (array_of(value).edge || array_of(value).traced());
    bool plain = !a.traced() && !mode().trace && !(mode().recording && (a.edge || value_on_tape));
    if (plain && !a.storage->read_only() && (is_ndarray(value) || PyFloat_Check(value) || PyLong_Check(value)) &&
        basic_view(a, key, view)) {
      Array source;
      if (is_ndarray(value)) {
        source = array_of(value).detached();
      } else {
        source = Array::empty(Dims{}, a.dtype, {});
        Scalar s =
            PyFloat_Check(value) ? Scalar::real(PyFloat_AS_DOUBLE(value)) : Scalar::integer(PyLong_AsLongLong(value));
        if (PyErr_Occurred()) throw py::error_already_set();
        s.store(a.dtype, source.data());
        source = on_device(source, a.device());
      }
      int extra = source.shape.size() - view.shape.size();
      bool fits = true;
      for (int i = 0; i < extra; ++i) fits = fits && source.shape[i] == 1;
      Dims strides = Dims::filled(view.shape.size(), 0);
      for (int i = 0; i < view.shape.size(); ++i) {
        int j = i + extra;
        if (j < 0) continue;
        fits = fits && (source.shape[j] == view.shape[i] || source.shape[j] == 1);
        if (source.shape[j] != 1) strides[i] = source.strides[j];
      }
      if (!fits)
        throw Error(ErrorKind::kShape, "setitem: expected a value that broadcasts to shape " + view.shape.str() +
                                           ", got " + source.shape.str() + ". Reshape it.");
      source.shape = view.shape;
      source.strides = strides;
      if (source.storage == view.storage && !(source.offset == view.offset && source.strides == view.strides)) {
        Array copy = Array::empty(source.shape, source.dtype, source.device());
        copy_into(source, copy);
        source = copy;
      }
      copy_into(source, view);
      a.storage->bump_version();
      return 0;
    }
    PyObject* r = PyObject_CallFunctionObjArgs(g_hooks.index_set, self, key, value, nullptr);
    Py_XDECREF(r);
    return r ? 0 : -1;
  });
}

Py_ssize_t length(PyObject* self) {
  return guard(Py_ssize_t{-1}, [&]() -> Py_ssize_t {
    if (array_of(self).shape.empty())
      throw Error(ErrorKind::kType, "len: expected an array with dimensions, got shape (). Use .item() for its value.");
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

// ---- buffer protocol: NumPy sees the same memory ------------------------------------------------------------------

const char* format_of(DType t) {
  switch (t) {
    case DType::kBool:
      return "?";
    case DType::kUInt8:
      return "B";
    case DType::kInt8:
      return "b";
    case DType::kInt16:
      return "h";
    case DType::kInt32:
      return "i";
    case DType::kInt64:
      return "q";
    case DType::kFloat16:
      return "e";
    case DType::kFloat32:
      return "f";
    case DType::kFloat64:
      return "d";
    default:
      return nullptr;
  }
}

/// What a buffer that was given out keeps.
struct LentBuffer {
  Ref<Storage> storage;
  Py_ssize_t dims[2 * kMaxDims];
};

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  int rc = guard(-1, [&] {
    const Array& a = array_of(self);
    must_have_values(a, "numpy");
    const char* format = format_of(a.dtype);
    if (!format)
      throw Error(ErrorKind::kType,
                  "buffer: expected a type that the buffer protocol knows, got bfloat16. Use asnumpy().");
    if (a.device().kind == Device::Kind::kGpu)
      throw Error(ErrorKind::kDevice, "buffer: expected an array in main memory, got one on " + a.device().str() +
                                          ". Use asnumpy(), which copies it.");
    checked::describe(a);
    // The function of an operator that declares it as read may look at it, and not write.
    const engine::Use* use = engine::t_running ? engine::t_running->declared(a.var()) : nullptr;
    const bool reads = use && !use->writes;
    reads ? engine::wait_to_read(a.var()) : engine::wait_to_write(a.var());
    auto* lent = new LentBuffer{a.storage, {}};
    lent->storage->lend();
    Py_ssize_t* dims = lent->dims;
    for (int i = 0; i < a.shape.size(); ++i) {
      dims[i] = a.shape[i];
      dims[kMaxDims + i] = a.strides[i] * itemsize(a.dtype);
    }
    view->internal = lent;
    view->buf = a.data();
    view->obj = Py_NewRef(self);
    view->len = static_cast<Py_ssize_t>(a.bytes());
    view->itemsize = itemsize(a.dtype);
    view->readonly = reads || a.storage->read_only();
    view->ndim = a.shape.size();
    view->format = const_cast<char*>(format);
    view->shape = dims;
    view->strides = dims + kMaxDims;
    view->suboffsets = nullptr;
    return 0;
  });
  if (rc < 0) view->obj = nullptr;
  (void)flags;
  return rc;
}

void release_buffer(PyObject*, Py_buffer* view) {
  auto* lent = static_cast<LentBuffer*>(view->internal);
  lent->storage->take_back();
  delete lent;
}

PyMethodDef g_methods[] = {
    {"item", method_item, METH_NOARGS,
     "item($self, /)\n--\n\nThe one element as a Python number; waits for it. ValueError for other sizes."},
    {"asnumpy", method_asnumpy, METH_NOARGS,
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
