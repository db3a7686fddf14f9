// From NumPy and to it: np.array of lists and NumPy's arrays, asnumpy, the buffer protocol.
#include <pybind11/numpy.h>

#include <cmath>
#include <limits>

#include "bind/borrow.h"
#include "bind/slots.h"
#include "bind/submodules.h"
#include "engine/op.h"
#include "python/convert.h"
#include "runtime/backend.h"
#include "runtime/checked.h"

namespace minimx::bind {
namespace {

// ---- from NumPy and lists -----------------------------------------------------------------------------------------

/// An array over NumPy's memory, which stays alive as long as the array does. `pinned`: it is pinned memory. `alone`:
/// nobody else uses it.
py::object borrow(py::array source, const std::string& dtype, bool pinned, bool alone) {
  const DType type = dtype_code(py::str(dtype));
  Dims shape, strides;
  for (py::ssize_t i = 0; i < source.ndim(); ++i) {
    if (source.strides(i) % itemsize(type))
      throw Error(
          ErrorKind::kValue,
          "from_numpy: expected strides that are multiples of the element size, got others. Copy the array first.");
    shape.push_back(source.shape(i));
    strides.push_back(source.strides(i) / itemsize(type));
  }
  void* first = const_cast<void*>(source.data());
  const bool read_only = !source.writeable();
  Array a = borrowed(first, type, shape, strides, {}, dropping(source.release().ptr()), read_only, pinned);
  if (alone) a.storage->set_private();
  return take(std::move(a));
}

constexpr size_t kLongCopy = 1 << 20;  // bytes whose copy lets other threads of Python run

bool is_list(PyObject* x) { return PyList_CheckExact(x) || PyTuple_CheckExact(x); }

/// A number of Python as an element: floats as floats, integers (`whole`) as either. False for other objects, and for
/// what T has no place for.
template <class T>
bool write_number(PyObject* x, bool whole, T& to) {
  if (whole) {
    int overflow = 0;
    if (!PyLong_CheckExact(x)) return false;
    const int64_t v = PyLong_AsLongLongAndOverflow(x, &overflow);
    to = static_cast<T>(v);
    return !overflow && (std::is_floating_point_v<T> || static_cast<int64_t>(to) == v);
  }
  if (!PyFloat_CheckExact(x)) return false;
  const double v = PyFloat_AS_DOUBLE(x);
  if (std::isfinite(v) && std::abs(v) > std::numeric_limits<T>::max()) return false;
  to = static_cast<T>(v);
  return true;
}

/// Writes the numbers of nested lists and tuples of this shape, from `axis` on. False where they are of another.
template <class T>
bool write_numbers(PyObject* x, const Dims& shape, int axis, bool whole, T*& to) {
  if (axis == shape.size()) return write_number(x, whole, *to++);
  const auto items = items_of(x);
  return is_list(x) && std::ssize(items) == shape[axis] &&
         std::ranges::all_of(items, [&](PyObject* v) { return write_numbers(v, shape, axis + 1, whole, to); });
}

/// Writes a number, or nested lists, to a new array: with `whole` integers only, else floats only.
bool write_list(PyObject* source, const Array& a, bool whole) {
  return dispatch(a.dtype, [&]<class T>(T) {
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      auto* to = reinterpret_cast<T*>(a.data());
      return (whole || std::is_floating_point_v<T>) && write_numbers(source, a.shape, 0, whole, to);
    }
    return false;
  });
}

/// A copy of a C-contiguous NumPy array of one of our types; an array without memory for others.
Array numpy_copy(const py::array& source, py::handle dtype, Device home) {
  const PyObject* type = py::detail::array_proxy(source.ptr())->descr;
  const Py_ssize_t types = PyTuple_GET_SIZE(g_hooks.dtypes);
  int code = 0;
  while (code < types && PyTuple_GET_ITEM(g_hooks.dtypes, code) != type) ++code;
  const bool same = code < types && (dtype.is_none() || dtype_code(py::str(dtype)) == static_cast<DType>(code));
  if (!same || !(source.flags() & py::array::c_style) || source.ndim() > kMaxDims) return {};
  Dims shape;
  for (py::ssize_t i = 0; i < source.ndim(); ++i) shape.push_back(source.shape(i));
  Array a = Array::empty(shape, static_cast<DType>(code), home);
  if (a.bytes() < kLongCopy) {
    std::memcpy(a.data(), source.data(), a.bytes());
  } else {
    const python::WithoutGil unlocked;
    std::memcpy(a.data(), source.data(), a.bytes());
  }
  return a;
}

/// np.array of what is quick to copy, on a device (kind, number; None: the current one): NumPy arrays of our types, a
/// number, or nested lists of one length that are all floats or all integers (float32 without `dtype`). None for what
/// needs a closer look: mixtures, other types, ragged or empty lists.
py::object plain_array(py::handle source, py::handle dtype, py::handle device) {
  Device there = mode().device;
  if (!device.is_none()) {
    const auto [kind, id] = device.cast<std::pair<std::string, int>>();
    there = device_from(kind, id);
  }
  const Device home = there.kind == Device::Kind::kCpu ? there : Device{};
  Array a;
  if (py::isinstance<py::array>(source)) {
    a = numpy_copy(py::reinterpret_borrow<py::array>(source), dtype, home);
  } else {
    Dims shape;
    PyObject* x = source.ptr();
    for (; is_list(x); x = items_of(x)[0]) {
      if (items_of(x).empty() || shape.size() == kMaxDims) return py::none();
      shape.push_back(std::ssize(items_of(x)));
    }
    const bool whole = PyLong_CheckExact(x);
    if (!whole && !PyFloat_CheckExact(x)) return py::none();
    a = Array::empty(shape, dtype.is_none() ? DType::kFloat32 : dtype_code(py::str(dtype)), home);
    if (!write_list(source.ptr(), a, whole)) return py::none();
  }
  if (!a.storage) return py::none();
  return take(there == home ? std::move(a) : on_device(a, there));
}

// ---- to NumPy -----------------------------------------------------------------------------------------------------

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

}  // namespace

/// A NumPy array of its own; from a GPU it keeps the copy that was made of it.
PyObject* asnumpy(PyObject* x, PyObject*) {
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

void add_numpy(py::module_& m) {
  m.def("borrow", borrow, py::arg("source"), py::arg("dtype"), py::arg("pinned") = false, py::arg("alone") = false);
  m.def("plain_array", plain_array);
}

}  // namespace minimx::bind
