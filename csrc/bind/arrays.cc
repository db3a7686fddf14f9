// Making arrays, their memory and devices, memory figures, the random stream.
#include <pybind11/stl.h>

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
    throw Error(ErrorKind::kArgument, std::string("array: expected an ndarray, got ") + Py_TYPE(x.ptr())->tp_name +
                                          ". Convert it with np.array.");
  return array_of(x.ptr());
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

}  // namespace

void add_arrays(py::module_& m) {
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
