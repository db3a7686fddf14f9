// The Python objects of the hot path: ndarray and OpFunction, C types of their own (pybind11 binds everything else).
// A pybind11 class costs about 400 ns a call; a heap type with slots and a free list costs about 20.
#pragma once
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pybind11/pybind11.h>
#include <structmember.h>

#include "python/gil.h"
#include "runtime/array.h"
#include "runtime/invoke.h"
#include "runtime/plan.h"

namespace minimx::bind {

namespace py = pybind11;
using namespace python;

struct NdArray {
  PyObject_HEAD Array array;
  PyObject* weakrefs;
};

extern PyTypeObject* g_ndarray_type;

inline bool is_ndarray(PyObject* x) { return Py_TYPE(x) == g_ndarray_type; }
inline Array& array_of(PyObject* x) { return reinterpret_cast<NdArray*>(x)->array; }

/// The array of `x`, which must be an ndarray with elements: kArgument for other objects, kGraph while it is traced.
inline Array& concrete(py::handle x, const char* where) {
  if (!is_ndarray(x.ptr()))
    throw Error(ErrorKind::kArgument, std::string(where) + ": expected an ndarray, got " + Py_TYPE(x.ptr())->tp_name +
                                          ". Convert it with np.array.");
  Array& a = array_of(x.ptr());
  if (a.traced())
    throw Error(ErrorKind::kGraph, std::string(where) +
                                       ": expected an array with elements, got one of a graph being traced. Return it "
                                       "from the hybridized code, and do this outside.");
  return a;
}

/// kind: "cpu" or "gpu".
inline Device device_from(const std::string& kind, int id) {
  return {kind == "gpu" ? Device::Kind::kGpu : Device::Kind::kCpu, static_cast<uint8_t>(id)};
}

/// The items of a list or tuple; any other object is one item itself.
inline std::span<PyObject* const> items_of(PyObject* const& x) {
  if (!PyList_Check(x) && !PyTuple_Check(x)) return {&x, 1};
  return {PySequence_Fast_ITEMS(x), static_cast<size_t>(PySequence_Fast_GET_SIZE(x))};
}

/// A new Python ndarray that holds `a`. Returns null with an error set if there is no memory.
PyObject* wrap(Array a);
inline py::object take(Array a) { return py::reinterpret_steal<py::object>(wrap(std::move(a))); }
/// Make the ndarray type and those of operators and composites, and add them to the module.
void add_ndarray_type(py::module_& m);
void add_function_type(py::module_& m);
void add_composite_type(py::module_& m);

/// Attributes with their Python values, in the order of the row's attribute parameters.
class PyAttrs : public AttrSet {
 public:
  py::tuple values;
  py::dict named;  // by name, for the rules
  ~PyAttrs() override;
};

/// A row as the bind layer knows it: parameters with defaults, interned attributes.
struct Parameter {
  PyObject* name;      // interned string
  PyObject* fallback;  // default value, or null if it must be given
  bool is_operand, arrays;
};
class PyOp : public Op {
 public:
  explicit PyOp(std::string name) : Op(std::move(name)) {}
  std::vector<Parameter> parameters;
  int n_attributes = 0;
  py::dict interned;  // tuple of values -> capsule of a PyAttrs
};
/// The operator of that name; KeyError-like Error if the table has no such row.
PyOp& op_named(const std::string& name);

/// Interns attribute values (borrowed, one per attribute parameter). Null for an operator without attributes.
const AttrSet* intern_attributes(PyOp& op, PyObject* const* values);
/// Attributes from a dict, absent ones take their defaults.
const AttrSet* attributes_from(PyOp& op, const py::dict& named);

/// Turns the C++ exception in flight into a Python one.
void set_python_error() noexcept;

/// Runs f, turning exceptions into a Python error and `failed`.
template <class F, class R>
R guard(R failed, F&& f) noexcept {
  try {
    return or_stop(f);
  } catch (...) {
    set_python_error();
    return failed;
  }
}

/// An operand from any Python object: ndarray, number, None, or what mx.np.asarray takes (then `keep` owns it).
/// Returns false if `x` cannot be one and `strict` is off.
bool to_operand(PyObject* x, Operand& out, std::vector<py::object>& keep, bool strict = true);
/// Moves what to_operand made of objects of the host (`made`) to where the call's other arrays are.
void bring_together(std::span<const Operand> ins, std::span<py::object> made);

/// Python callables and objects that minimx.ndarray hands over once.
struct Hooks {
  PyObject* asarray = nullptr;    // asarray(object) -> ndarray
  PyObject* index_get = nullptr;  // index_get(x, key) for keys that are not basic
  PyObject* index_set = nullptr;  // index_set(x, key, value)
  PyObject* repr = nullptr;
  PyObject* dtypes = nullptr;            // tuple: numpy dtype by code
  PyObject* canonical = nullptr;         // canonical(attribute value) -> hashable
  PyObject* device = nullptr;            // device(kind, id) -> Device object
  PyObject* errors = nullptr;            // the module minimx.errors
  PyObject* host_call = nullptr;         // host_call(row, attrs, present) -> f(ins, outs) over NumPy arrays
  PyObject* device_kernel = nullptr;     // device_kernel(name, ins, outs, attrs, device id) -> Kernel
  PyObject* device_host_call = nullptr;  // device_host_call(row, attrs, present, ins, outs, id) -> f(addresses, stream)
};
extern Hooks g_hooks;

}  // namespace minimx::bind
