// A convolution's operands by role, the form in which cuDNN gets them, and the ConvProblem that makes: what conv.cc
// builds kernels from. How a plan for the problem is found: conv_plan.h.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "cuda/conv_plan.h"

namespace minimx::cuda {

constexpr int64_t kAlignment = 16;  // in bytes; what cuDNN's best engines want of every operand

/// The operands by role, with their places in `data`. `x` stands for x or dx, `y` for y or dy, and so on.
struct ConvCall {
  using Direction = ConvProblem::Direction;
  struct Operand {
    const Spec* spec = nullptr;
    int place = -1;
  };
  Direction direction = Direction::kForward;
  Operand x, w, y, b, z, sum, squares;
  std::vector<int64_t> stride, pad, dilation;
  bool relu = false;
  int device = 0;

  const Operand& out() const { return direction == Direction::kForward ? y : direction == Direction::kData ? x : w; }
};

/// How cuDNN gets the operands.
struct ConvForm {
  bool channels_last = false;
  bool fused = false;    // with bias, residual, ReLU and statistics
  int64_t channels = 0;  // that x and w are filled up to with zeros; 0: they stay as they are
  bool narrow = false;   // with a bias of the others' type, whatever it comes in

  /// The operand as cuDNN gets it.
  Spec of(const ConvCall& c, const ConvCall::Operand& o) const;
};

/// The call of a kernel by its factory's name (library_kernels.h), whose specs must outlive it.
ConvCall call_of(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs,
                 int device);

/// True where elements follow each other in the order (N, C, *spatial), or (N, *spatial, C).
bool is_packed(const Spec& spec, bool channels_last);
/// The layout that fewest operands must be copied for; the output's where that is even.
bool prefers_channels_last(const ConvCall& c);

/// What cuDNN is asked for, under the settings in force.
ConvProblem problem_of(const ConvCall& c, const ConvForm& form);

}  // namespace minimx::cuda
