// Making arrays from NumPy and other memory, memory figures, the random stream.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bind/rules.h"
#include "bind/submodules.h"
#include "runtime/backend.h"
#include "runtime/trace.h"

namespace minimx::bind {
namespace {

py::object take(Array a) { return py::reinterpret_steal<py::object>(wrap(std::move(a))); }

Array& checked(py::handle x) {
  if (!is_ndarray(x.ptr()))
    throw Error(ErrorKind::kType, std::string("array: expected an ndarray, got ") + Py_TYPE(x.ptr())->tp_name +
                                      ". Convert it with np.array.");
  return array_of(x.ptr());
}

/// An array over NumPy's memory, which stays alive as long as the array does.
py::object borrow(py::array source, const std::string& dtype) {
  Array a;
  a.dtype = dtype_code(py::str(dtype));
  int64_t size = itemsize(a.dtype), low = 0, high = size;
  for (py::ssize_t i = 0; i < source.ndim(); ++i) {
    a.shape.push_back(source.shape(i));
    if (source.strides(i) % size)
      throw Error(
          ErrorKind::kValue,
          "from_numpy: expected strides that are multiples of the element size, got others. Copy the array first.");
    a.strides.push_back(source.strides(i) / size);
    int64_t reach = std::max<int64_t>(source.shape(i) - 1, 0) * source.strides(i);
    (reach < 0 ? low : high) += reach;
  }
  char* base = static_cast<char*>(const_cast<void*>(source.data()));
  a.offset = -low / size;
  PyObject* owner = source.ptr();
  Py_INCREF(owner);
  auto done = [owner] {
    if (!Py_IsInitialized()) return;
    with_gil([&] { Py_DECREF(owner); });
  };
  a.storage = Storage::borrow(base + low, static_cast<size_t>(high - low), {}, done, !source.writeable());
  return take(std::move(a));
}

/// kind: "cpu" or "gpu".
Device device_from(const std::string& kind, int id) {
  return {kind == "gpu" ? Device::Kind::kGpu : Device::Kind::kCpu, static_cast<uint8_t>(id)};
}

/// An array over memory of a GPU that another library owns; `owner` stays alive as long as the array does.
py::object borrow_device(uintptr_t address, const std::vector<int64_t>& shape, const std::string& dtype,
                         const std::vector<int64_t>& strides, int id, py::object owner, bool read_only) {
  Array a;
  a.dtype = dtype_code(py::str(dtype));
  a.shape = Dims(shape);
  a.strides = Dims(strides);
  int64_t low = 0, high = 1;
  for (int i = 0; i < a.shape.size(); ++i) {
    const int64_t reach = std::max<int64_t>(a.shape[i] - 1, 0) * a.strides[i];
    (reach < 0 ? low : high) += reach;
  }
  const int64_t size = itemsize(a.dtype);
  a.offset = -low;
  PyObject* kept = owner.release().ptr();
  auto done = [kept] {
    if (Py_IsInitialized()) with_gil([&] { Py_DECREF(kept); });
  };
  char* base = reinterpret_cast<char*>(address) + low * size;
  a.storage = Storage::borrow(base, static_cast<size_t>((high - low) * size), device_from("gpu", id), done, read_only);
  return take(std::move(a));
}

py::object empty(const std::vector<int64_t>& shape, const std::string& dtype) {
  for (int64_t n : shape)
    if (n < 0)
      throw Error(ErrorKind::kShape,
                  "empty: expected dimensions of at least 0, got " + Dims(shape).str() + ". Check the shape.");
  return take(Array::empty(Dims(shape), dtype_code(py::str(dtype)), mode().device));
}

}  // namespace

void add_arrays(py::module_& m) {
  m.def("borrow", borrow);
  m.def("empty", empty);
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
      [](py::handle x, const std::string& kind, int id, bool fresh) {
        Array& a = concrete(x, "to_device");
        const Device device = device_from(kind, id);
        if (fresh && a.device().shares_memory(device)) a.storage->set_device(device);
        return a.device() == device ? py::reinterpret_borrow<py::object>(x) : take(on_device(a.detached(), device));
      },
      py::arg("x"), py::arg("kind"), py::arg("id"), py::arg("fresh") = false,
      "x if it lies there, else a copy, off the tape. A fresh array, which nobody else has, only gets its CPU number.");
  m.def(
      "set_device",
      [](const std::string& kind, int id) {
        mode().device = device_from(kind, id);
        if (kind == "gpu") backend_of(mode().device);
      },
      "Where this thread's operators without array operands put their results.");
  m.def("borrow_device", borrow_device);
  m.def(
      "address",
      [](py::handle x) {
        Array& a = concrete(x, "address");
        engine::wait_to_write(a.var());  // what comes after is put on the stream behind what is there now
        if (a.device().kind == Device::Kind::kGpu) a.storage->use_on(StreamKind::kCompute);
        return reinterpret_cast<uintptr_t>(a.data());
      },
      "Address of the first element, on whatever device.");
  m.def("bump_version", [](py::handle x) { concrete(x, "bump_version").storage->bump_version(); });
  m.def("set_gpu_backend",
        [](const py::capsule& backend) { set_gpu_backend(static_cast<Backend*>(backend.get_pointer())); });
  m.def("synchronize", [](int id) {
    py::gil_scoped_release release;
    backend_of({Device::Kind::kGpu, static_cast<uint8_t>(id)}).synchronize(id);
  });
  m.def("memory_info", [](const std::string& kind, int id) {
    MemoryInfo i = memory_info(device_from(kind, id));
    py::dict d;
    d["used"] = i.used, d["cached"] = i.cached, d["peak"] = i.peak;
    return d;
  }, py::arg("kind") = "cpu", py::arg("id") = 0);
  m.def("reset_peak_memory",
        [](const std::string& kind, int id) { reset_peak_memory(device_from(kind, id)); },
        py::arg("kind") = "cpu", py::arg("id") = 0);
  m.def("empty_memory_cache",
        [](const std::string& kind, int id) { empty_memory_cache(device_from(kind, id)); },
        py::arg("kind") = "cpu", py::arg("id") = 0);
  m.def("random_state", [] { return std::make_pair(random_state().seed, random_state().call); });
  m.def("set_random_state", [](uint64_t seed, uint64_t call) { random_state() = {seed, call}; });
}

}  // namespace minimx::bind
