// Making arrays from NumPy and other memory, memory figures, the random stream.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bind/rules.h"
#include "bind/submodules.h"
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

py::object empty(const std::vector<int64_t>& shape, const std::string& dtype) {
  for (int64_t n : shape)
    if (n < 0)
      throw Error(ErrorKind::kShape,
                  "empty: expected dimensions of at least 0, got " + Dims(shape).str() + ". Check the shape.");
  return take(Array::empty(Dims(shape), dtype_code(py::str(dtype)), {}));
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
      "place",
      [](py::handle x, int id) {
        Array& a = checked(x);
        if (a.storage) a.storage->set_device({Device::Kind::kCpu, static_cast<uint8_t>(id)});
        return py::reinterpret_borrow<py::object>(x);
      },
      "Gives a new array its CPU number; returns it.");
  m.def("memory_info", [] {
    MemoryInfo i = memory_info();
    py::dict d;
    d["used"] = i.used, d["cached"] = i.cached, d["peak"] = i.peak;
    return d;
  });
  m.def("reset_peak_memory", reset_peak_memory);
  m.def("random_state", [] { return std::make_pair(random_state().seed, random_state().call); });
  m.def("set_random_state", [](uint64_t seed, uint64_t call) { random_state() = {seed, call}; });
}

}  // namespace minimx::bind
