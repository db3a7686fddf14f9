// Kernels as Python holds them, and kernels of a GPU that are Python callables (host rows, which run on CuPy).
#pragma once
#include "bind/object.h"
#include "python/gil.h"
#include "runtime/backend.h"
#include "runtime/captured.h"

namespace minimx::bind {

struct PyKernelHandle {
  KernelPtr kernel;
};

/// Calls `call(addresses, stream)`, which enqueues its work on that stream and returns.
class CallbackKernel : public DeviceKernel {
 public:
  CallbackKernel(py::object call, size_t operands) : call_(std::move(call)), operands_(operands) {}
  ~CallbackKernel() override {
    if (!Py_IsInitialized()) {
      call_.release();
      return;
    }
    with_gil([&] { call_ = py::object(); });
  }
  void enqueue(void* const* data, void*, StreamHandle stream) const override {
    if (capturing)  // it allocates as it likes, and may wait: a graph would keep memory that is somebody else's by then
      throw Error(ErrorKind::kNotImplemented,
                  "host row: expected a run that is not captured, got one. Run it plainly.");
    with_gil([&] {
      py::list addresses;
      for (size_t i = 0; i < operands_; ++i) addresses.append(reinterpret_cast<uintptr_t>(data[i]));
      call_(addresses, reinterpret_cast<uintptr_t>(stream));
    });
  }

 private:
  py::object call_;
  size_t operands_;
};

}  // namespace minimx::bind
