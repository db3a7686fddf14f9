// Traces for minimx/graph: begin and end one, read its nodes.
#include "runtime/trace.h"

#include <pybind11/stl.h>

#include "bind/rules.h"
#include "bind/submodules.h"

namespace minimx::bind {
namespace {

py::object scalar_object(const Scalar& s) {
  if (s.kind == 'b') return py::bool_(s.i != 0);
  if (s.kind == 'i') return py::int_(s.i);
  return py::float_(s.f);
}

/// A traced graph as Python sees it while it is being made.
class PyTrace {
 public:
  /// gpu: number of the GPU that the graph will run on, -1 for the CPU.
  explicit PyTrace(int gpu) : trace_(make_ref<Trace>()) {
    if (gpu >= 0) trace_->device = {Device::Kind::kGpu, static_cast<uint8_t>(gpu)};
  }
  py::object input(const std::vector<int64_t>& shape, const std::string& dtype) {
    return take(trace_->input(Dims(shape), dtype_code(py::str(dtype))));
  }
  py::object array(int id) { return take(trace_->array(id)); }
  int value_of(py::handle x) {
    int id = trace_->value_of(array_of(x.ptr()));
    trace_->check_current("hybridize", id);
    return id;
  }
  void settle() { trace_->follows_writes = false; }
  void enter(bool training) {
    saved_.push_back(mode());
    const int8_t low = trace_->follows_writes ? mode().low : Mode::kOff;  // gradient rules keep the types they find
    mode() = {true, training, trace_.get(), trace_->device, low};
  }
  void leave() {
    mode() = saved_.back();
    saved_.pop_back();
  }
  /// (shape, dtype, detached) by value id.
  py::list values() const {
    py::list out;
    for (const auto& v : trace_->values) {
      py::tuple shape(v.shape.size());
      for (int i = 0; i < v.shape.size(); ++i) shape[i] = v.shape[i];
      out.append(py::make_tuple(shape, dtype_name(v.dtype), v.detached));
    }
    return out;
  }
  /// (op name, attributes, arguments: value id as ("v", id), number, or None; output ids, site), from node `first` on.
  py::list nodes(size_t first) const {
    py::list out;
    for (size_t i = first; i < trace_->nodes.size(); ++i) {
      const Trace::Node& n = trace_->nodes[i];
      py::list args;
      for (const auto& a : n.args) {
        if (a.kind == Trace::Arg::Kind::kValue)
          args.append(py::make_tuple("v", a.value));
        else if (a.kind == Trace::Arg::Kind::kScalar)
          args.append(scalar_object(a.scalar));
        else
          args.append(py::none());
      }
      out.append(
          py::make_tuple(n.op->name, attributes_dict(n.attrs.get()), args, n.outs, n.site ? *n.site : std::string()));
    }
    return out;
  }
  /// (array, input value, value at the end) of every concrete array that was used.
  py::list captures() const {
    py::list out;
    for (const auto& c : trace_->captures) out.append(py::make_tuple(take(c.array), c.input, c.value));
    return out;
  }
  size_t node_count() const { return trace_->nodes.size(); }

 private:
  Ref<Trace> trace_;
  std::vector<Mode> saved_;
};

}  // namespace

void add_trace(py::module_& m) {
  py::class_<PyTrace>(m, "Trace")
      .def(py::init<int>(), py::arg("gpu") = -1)
      .def("input", &PyTrace::input)
      .def("array", &PyTrace::array)
      .def("value_of", &PyTrace::value_of)
      .def("settle", &PyTrace::settle, "The traced code has run: gradient rules may use values as they once were.")
      .def("enter", &PyTrace::enter)
      .def("leave", &PyTrace::leave)
      .def("values", &PyTrace::values)
      .def("nodes", &PyTrace::nodes)
      .def("captures", &PyTrace::captures)
      .def("node_count", &PyTrace::node_count);
}

}  // namespace minimx::bind
