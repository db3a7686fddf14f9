// Host rows as kernels: a Python callable over NumPy views of the operands.
#pragma once
#include <pybind11/numpy.h>

#include "bind/rules.h"
#include "python/gil.h"
#include "runtime/kernel.h"

namespace minimx::bind {

/// A kernel that is a Python callable over NumPy arrays: kernel(ins, outs) fills the outs.
class PyKernel : public Kernel {
 public:
  PyKernel(py::object call, std::vector<Spec> ins, std::vector<Spec> outs)
      : call_(std::move(call)), ins_(std::move(ins)), outs_(std::move(outs)) {}
  ~PyKernel() override {
    if (!Py_IsInitialized()) {
      call_.release();
      return;
    }
    with_gil([&] { call_ = py::object(); });
  }
  void run(void* const* data, void*) const override {
    with_gil([&] {
      py::list ins, outs;
      for (const Spec& s : ins_) ins.append(numpy_view(s, *data++));
      for (const Spec& s : outs_) outs.append(numpy_view(s, *data++));
      call_(ins, outs);
    });
  }
  double cost_ns() const override { return 0; }  // the caller holds the interpreter's lock anyway: no hop pays

 private:
  static py::object numpy_view(const Spec& s, void* p) {
    std::vector<py::ssize_t> shape(s.shape.begin(), s.shape.end()), strides(s.strides.begin(), s.strides.end());
    for (auto& x : strides) x *= itemsize(s.dtype);
    const py::object owner = py::none();  // makes NumPy take the memory as it is, without a copy
    return py::array(dtype_object(s.dtype), shape, strides, p, owner);
  }
  py::object call_;
  std::vector<Spec> ins_, outs_;
};

}  // namespace minimx::bind
