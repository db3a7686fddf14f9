// Steps: a DeviceKernel that is a short list of others over its operands and temporaries. For factories whose library
// wants an operand packed first, or leaves a bias to be added after. The GPU's cousin of csrc/cpu/dnnl_kernel.h.
#pragma once
#include <vector>

#include "cuda/library_kernels.h"

namespace minimx::cuda {

class Steps final : public DeviceKernel {
 public:
  /// A place that a step reads or writes: an operand (inputs, then outputs), or a temporary.
  struct Place {
    int operand = -1;   // or, where it is -1,
    size_t offset = 0;  // bytes into the workspace
  };

  Place temporary(const Spec& spec);
  /// Appends a step; `places` are its inputs, then its outputs.
  void add(KernelPtr kernel, std::vector<Place> places);
  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override;
  /// Temporaries, then one scratch area that the steps share.
  size_t workspace_bytes() const override { return temporaries_ + scratch_; }

 private:
  struct Step {
    std::shared_ptr<const DeviceKernel> kernel;
    std::vector<Place> places;
  };
  std::vector<Step> steps_;
  size_t temporaries_ = 0, scratch_ = 0;
};

/// A kernel of the device by its factory's name, through the maker given to set_kernel_maker.
KernelPtr device_kernel(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs,
                        const Attrs& attrs, int device);

/// Writes zeros to `out`, of any strides.
KernelPtr zeros(const Spec& out, int device);
/// Copies `from` to `to`, of one shape and any strides.
KernelPtr copy(const Spec& from, const Spec& to, int device);
/// y = x + b; all of y's shape, broadcast axes with stride 0.
KernelPtr sum_of(const Spec& x, const Spec& b, const Spec& y, int device);

/// `shape` packed in C order.
Spec packed(DType dtype, const Dims& shape);
/// True when some dimension of any of them is 0.
bool any_empty(std::span<const Spec> specs);

}  // namespace minimx::cuda
