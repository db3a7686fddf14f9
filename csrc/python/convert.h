// What Python's side and C++ say of a kernel, in each other's words: element types, Specs, attributes, classes of
// errors. Shared by the extension modules minimx._core (bind) and minimx._cuda (cuda). Headers only.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/kernel.h"

namespace minimx::python {

namespace py = pybind11;

inline DType dtype_code(py::handle name) {
  static const auto* codes = new std::unordered_map<std::string, DType>{
#define MINIMX_DTYPE(id, text, type, size) {text, DType::id},
#include "generated/dtypes.inc"
#undef MINIMX_DTYPE
  };
  const auto text = name.cast<std::string>();
  const auto it = codes->find(text);
  if (it == codes->end())
    throw Error(ErrorKind::kType, "dtype: expected a type minimx has, got '" + text + "'. See minimx/ops/dtypes.py.");
  return it->second;
}

inline Dims dims_from(py::handle numbers) {
  Dims d;
  for (py::handle x : py::reinterpret_borrow<py::sequence>(numbers)) d.push_back(x.cast<int64_t>());
  return d;
}

inline py::tuple tuple_of(const Dims& d) {
  py::tuple t(d.size());
  for (int i = 0; i < d.size(); ++i) t[i] = py::int_(d[i]);
  return t;
}

/// From (shape, dtype[, element strides[, layout]][, is a number of the host]); a table.Spec is one without a layout.
/// Empty strides without a layout mean C order.
inline Spec spec_from(py::handle h) {
  const auto t = py::reinterpret_borrow<py::sequence>(h);
  Spec s{dtype_code(t[1]), dims_from(t[0]), {}, ""};
  if (t.size() > 2) s.strides = dims_from(t[2]);
  const bool has_layout = t.size() > 3 && py::isinstance<py::str>(t[3]);
  if (has_layout) s.layout = t[3].cast<std::string>();
  const size_t scalar = has_layout ? 4 : 3;
  if (t.size() > scalar) s.scalar = t[scalar].cast<bool>();
  if (s.layout.empty() && s.strides.size() != s.shape.size()) s.strides = s.shape.contiguous_strides();
  return s;
}

inline std::vector<Spec> specs_from(const py::sequence& list) {
  std::vector<Spec> out;
  for (py::handle h : list) out.push_back(spec_from(h));
  return out;
}

/// A table.Spec.
inline py::object rule_spec(const Dims& shape, const char* dtype, const Dims& strides, bool scalar) {
  static const auto* make = new py::object(py::module_::import("minimx.ops.table").attr("Spec"));
  return (*make)(tuple_of(shape), dtype, tuple_of(strides), scalar);
}

inline py::list specs_to(std::span<const Spec> specs) {
  py::list out;
  for (const Spec& s : specs) out.append(rule_spec(s.shape, dtype_name(s.dtype), s.strides, s.scalar));
  return out;
}

inline Attrs attrs_from(const py::dict& named) {
  Attrs out;
  for (auto [key, v] : named) {
    Attrs::Value& value = out.values[key.cast<std::string>()];
    if (py::isinstance<py::str>(v))
      value = v.cast<std::string>();
    else if (py::isinstance<py::int_>(v))  // bool too
      value = v.cast<int64_t>();
    else if (py::isinstance<py::float_>(v))
      value = v.cast<double>();
    else
      value = v.cast<std::vector<int64_t>>();
  }
  return out;
}

inline py::dict attrs_to(const Attrs& attrs) {
  py::dict named;
  for (const auto& [key, value] : attrs.values) std::visit([&](const auto& v) { named[key.c_str()] = v; }, value);
  return named;
}

/// The class of minimx.errors that an error is raised as.
inline const char* error_class(ErrorKind kind) {
  static const char* const kClasses[] = {"EngineError",      "ArgumentError", "ShapeError",       "DTypeError",
                                         "IndexOutOfBounds", "OutOfMemory",   "DeviceError",      "AutogradError",
                                         "GraphError",       "NotSupported",  "ArgumentTypeError"};
  return kClasses[static_cast<int>(kind)];
}

}  // namespace minimx::python
