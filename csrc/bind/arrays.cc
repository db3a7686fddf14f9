// Making arrays from NumPy and other memory, memory figures, the random stream.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>

#include "bind/borrow.h"
#include "bind/rules.h"
#include "bind/submodules.h"
#include "runtime/backend.h"
#include "runtime/checked.h"
#include "runtime/deferred.h"
#include "runtime/trace.h"

namespace minimx::bind {
namespace {

Array& checked(py::handle x) {
  if (!is_ndarray(x.ptr()))
    throw Error(ErrorKind::kType, std::string("array: expected an ndarray, got ") + Py_TYPE(x.ptr())->tp_name +
                                      ". Convert it with np.array.");
  return array_of(x.ptr());
}

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

/// kind: "cpu" or "gpu".
Device device_from(const std::string& kind, int id) {
  return {kind == "gpu" ? Device::Kind::kGpu : Device::Kind::kCpu, static_cast<uint8_t>(id)};
}

/// An array over memory of a GPU that another library owns; `owner` stays alive as long as the array does.
py::object borrow_device(uintptr_t address, const std::vector<int64_t>& shape, const std::string& dtype,
                         const std::vector<int64_t>& strides, int id, py::object owner, bool read_only) {
  backend_of(device_from("gpu", id));
  return take(borrowed(reinterpret_cast<void*>(address), dtype_code(py::str(dtype)), Dims(shape), Dims(strides),
                       device_from("gpu", id), dropping(owner.release().ptr()), read_only));
}

/// Device memory that another library gets from us: bytes that know their owner.
py::object device_bytes(size_t bytes, int id) {
  const char* before = std::exchange(allocating_operator, "another library");
  Array a = Array::empty(Dims{static_cast<int64_t>(bytes)}, DType::kUInt8, device_from("gpu", id));
  allocating_operator = before;
  return take(std::move(a));
}

py::object empty(const std::vector<int64_t>& shape, const std::string& dtype) {
  for (int64_t n : shape)
    if (n < 0)
      throw Error(ErrorKind::kShape,
                  "empty: expected dimensions of at least 0, got " + Dims(shape).str() + ". Check the shape.");
  return take(Array::empty(Dims(shape), dtype_code(py::str(dtype)), mode().device));
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

}  // namespace

void add_arrays(py::module_& m) {
  m.def("borrow", borrow, py::arg("source"), py::arg("dtype"), py::arg("pinned") = false, py::arg("alone") = false);
  m.def("is_pinned", [](py::handle x) { return concrete(x, "is_pinned").storage->pinned(); });
  m.def("device_bytes", device_bytes);
  m.def("empty", empty);
  m.def(
      "numbers",
      [](const py::sequence& values, py::handle x) {
        const Device there = concrete(x, "numbers").device();
        const bool host = there.kind == Device::Kind::kCpu;
        Array a = Array::empty(Dims{static_cast<int64_t>(values.size())}, DType::kFloat32, host ? there : Device{});
        auto* to = reinterpret_cast<float*>(a.data());
        for (PyObject* v : items_of(values.ptr())) *to++ = static_cast<float>(PyFloat_AsDouble(v));
        if (PyErr_Occurred()) throw py::error_already_set();
        return take(host ? a : on_device(a, there));
      },
      "A float32 array of some numbers, on the device of x.");
  m.def("plain_array", plain_array);
  m.def("bits", [](py::handle x) {  // 16-bit floats as int16, sharing memory
    Array a = concrete(x, "bits").detached();
    a.dtype = DType::kInt16;
    return take(a);
  });
  m.def("dtype_name", [](py::handle x) { return dtype_name(checked(x).dtype); });
  m.def("shares_memory",
        [](py::handle x, py::handle y) { return checked(x).storage && checked(x).storage == checked(y).storage; });
  m.def(
      "version", [](py::handle x) { return concrete(x, "version").storage->version(); },
      "Counts in-place writes to the memory of x.");
  m.def(
      "wrote", [](py::handle x) { concrete(x, "wrote").storage->bump_version(); },
      "Counts an in-place write to the memory of x by somebody else.");
  m.def(
      "lend", [](py::handle x) { concrete(x, "lend").storage->lend(); },
      "Says that others may write to x from now on.");
  m.def(
      "versions",
      [](const py::sequence& xs) -> std::optional<py::bytes> {
        std::vector<uint32_t> found;
        for (PyObject* x : items_of(xs.ptr())) {
          const Storage& s = *concrete(x, "versions").storage;
          if (s.shared()) return std::nullopt;
          found.push_back(s.version());
        }
        return py::bytes(reinterpret_cast<const char*>(found.data()), found.size() * sizeof(uint32_t));
      },
      "The versions of many arrays; None where others may write to one of them uncounted.");
  m.def(
      "types",
      [](const py::sequence& xs) {
        std::vector<int64_t> found;
        found.reserve(8 * xs.size());
        for (PyObject* x : items_of(xs.ptr())) {
          const Array& a = concrete(x, "types");
          const Device d = a.device();
          found.push_back(static_cast<int64_t>(a.dtype) << 32 | static_cast<int64_t>(d.kind) << 16 | d.id);
          found.push_back(a.shape.size());
          found.insert(found.end(), a.shape.begin(), a.shape.end());
        }
        return py::bytes(reinterpret_cast<const char*>(found.data()), found.size() * sizeof(int64_t));
      },
      "What tells arrays of other types, shapes or devices apart.");
  m.def("is_contiguous", [](py::handle x) { return checked(x).contiguous(); });
  m.def("copy_into", [](py::handle from, py::handle to) {
    concrete(from, "copyto"), concrete(to, "copyto");
    if (checked(from).shape != checked(to).shape)
      throw Error(ErrorKind::kShape, "copyto: expected a target of shape " + checked(from).shape.str() + ", got " +
                                         checked(to).shape.str() + ". Make one with empty_like.");
    if (checked(to).storage->read_only())
      throw Error(ErrorKind::kValue,
                  "copyto: expected a target that may be written to, got a read-only one. Copy it first.");
    copy_into(checked(from), checked(to));
    checked(to).storage->bump_version();
  });
  m.def(
      "to_device",
      [](py::handle x, const std::string& kind, int id, bool fresh, bool beside) {
        Array& a = concrete(x, "to_device");
        const Device device = device_from(kind, id);
        if (fresh && a.device().shares_memory(device)) a.storage->set_device(device);
        return a.device() == device ? py::reinterpret_borrow<py::object>(x)
                                    : take(on_device(a.detached(), device, beside));
      },
      py::arg("x"), py::arg("kind"), py::arg("id"), py::arg("fresh") = false, py::arg("beside") = false,
      "x if it lies there, else a copy, off the tape. A fresh array, which nobody else has, only gets its CPU number. "
      "beside: from a GPU to the host without waiting.");
  m.def(
      "set_device",
      [](const std::string& kind, int id) {
        mode().device = device_from(kind, id);
        if (kind == "gpu") backend_of(mode().device);
      },
      "Where this thread's operators without array operands put their results.");
  m.def("current_device", [] {
    const Device d = mode().device;
    return std::make_pair(d.kind == Device::Kind::kGpu ? "gpu" : "cpu", static_cast<int>(d.id));
  });
  m.def("borrow_device", borrow_device);
  m.def(
      "address",
      [](py::handle x) {
        Array& a = concrete(x, "address");
        checked::describe(a);
        engine::wait_to_write(a.var());  // what comes after is put on the stream behind what is there now
        if (a.device().kind == Device::Kind::kGpu) a.storage->use_on(StreamKind::kCompute);
        return reinterpret_cast<uintptr_t>(a.data());
      },
      "Address of the first element, on whatever device.");
  m.def(
      "communicate",
      [](const std::vector<int>& devices, const std::string& name, size_t bytes, const py::function& work) {
        communicate(devices, name.c_str(), bytes, [&] { work(); });
      },
      "Begins what GPUs compute together: work() puts it on their communication streams.");
  m.def(
      "join_communication", [](const std::vector<int>& devices) { join_communication(devices); },
      "What is put on the compute streams of these GPUs later runs behind what they have begun together.");
  m.def("set_gpu_backend",
        [](const py::capsule& backend) { set_gpu_backend(static_cast<Backend*>(backend.get_pointer())); });
  m.def("gpu_backend", [] { return py::capsule(gpu_backend(), [](void*) {}); });
  m.def(
      "memory_info",
      [](const std::string& kind, int id) {
        Deferred::run_all();
        MemoryInfo i = memory_info(device_from(kind, id));
        py::dict d;
        d["used"] = i.used, d["cached"] = i.cached, d["peak"] = i.peak;
        return d;
      },
      py::arg("kind") = "cpu", py::arg("id") = 0);
  m.def(
      "reset_peak_memory", [](const std::string& kind, int id) { reset_peak_memory(device_from(kind, id)); },
      py::arg("kind") = "cpu", py::arg("id") = 0);
  m.def(
      "empty_memory_cache", [](const std::string& kind, int id) { empty_memory_cache(device_from(kind, id)); },
      py::arg("kind") = "cpu", py::arg("id") = 0);
  m.def("random_state", [] { return std::make_pair(random_state().seed, random_state().call); });
  m.def("set_random_state", [](uint64_t seed, uint64_t call) { random_state() = {seed, call}; });
}

}  // namespace minimx::bind
