// x[key] and x[key] = value. Keys of integers, slices, None and Ellipsis make a view here; other keys go to
// minimx.ops.rows.index through a hook.
#include "bind/slots.h"
#include "runtime/backend.h"

namespace minimx::bind {
namespace {

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

/// A value to be assigned, off the tape: an ndarray, or a number as an element of a's type where `a` lies.
Array value_for(const Array& a, PyObject* value) {
  if (is_ndarray(value)) return array_of(value).detached();
  Array made = Array::empty(Dims{}, a.dtype, {});
  const Scalar s =
      PyFloat_Check(value) ? Scalar::real(PyFloat_AS_DOUBLE(value)) : Scalar::integer(PyLong_AsLongLong(value));
  if (PyErr_Occurred()) throw py::error_already_set();
  s.store(a.dtype, made.data());
  return on_device(made, a.device());
}

/// A view of `source` in the shape of `view`, by broadcasting; axes of one in front fall away.
Array broadcast_to(const Array& source, const Array& view) {
  const int extra = source.shape.size() - view.shape.size();
  bool fits = true;
  for (int i = 0; i < extra; ++i) fits = fits && source.shape[i] == 1;
  Dims strides = Dims::filled(view.shape.size(), 0);
  for (int i = 0; i < view.shape.size(); ++i) {
    const int j = i + extra;
    if (j < 0) continue;
    fits = fits && (source.shape[j] == view.shape[i] || source.shape[j] == 1);
    if (source.shape[j] != 1) strides[i] = source.strides[j];
  }
  if (!fits)
    throw Error(ErrorKind::kShape, "setitem: expected a value that broadcasts to shape " + view.shape.str() + ", got " +
                                       source.shape.str() + ". Reshape it.");
  Array out = source;
  out.shape = view.shape;
  out.strides = strides;
  return out;
}

}  // namespace

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
      throw Error(ErrorKind::kArgument, "del: expected arrays to keep their size, got a deletion. Use np.delete.");
    Array& a = array_of(self);
    Array view;
    const bool value_on_tape = is_ndarray(value) && (array_of(value).edge || array_of(value).traced());
    const bool plain = !a.traced() && !mode().trace && !(mode().recording && (a.edge || value_on_tape)) &&
                       !a.storage->read_only() && (is_ndarray(value) || PyFloat_Check(value) || PyLong_Check(value));
    if (!plain || !basic_view(a, key, view)) {
      PyObject* r = PyObject_CallFunctionObjArgs(g_hooks.index_set, self, key, value, nullptr);
      Py_XDECREF(r);
      return r ? 0 : -1;
    }
    Array source = broadcast_to(value_for(a, value), view);
    if (source.storage == view.storage && !(source.offset == view.offset && source.strides == view.strides)) {
      Array copy = Array::empty(source.shape, source.dtype, source.device());
      copy_into(source, copy);
      source = copy;
    }
    copy_into(source, view);
    a.storage->bump_version();
    return 0;
  });
}

}  // namespace minimx::bind
