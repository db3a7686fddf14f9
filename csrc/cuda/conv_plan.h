// ConvPlan: cuDNN's way to compute one convolution, chosen among its engines and ready to run. The one file that
// includes cudnn_frontend is conv_plan.cc; conv.cc turns a kernel's operands into a ConvProblem.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/backend.h"

namespace minimx::cuda {

/// A convolution as cuDNN counts: 4 or 5 axes (N, C, *spatial), strides in elements, packed.
struct ConvProblem {
  enum class Direction { kForward, kData, kWeights };
  struct Tensor {
    std::vector<int64_t> shape, strides;
  };

  Direction direction = Direction::kForward;
  DType dtype = DType::kFloat32;
  Tensor x, w, y;
  std::vector<int64_t> stride, dilation, pad_begin, pad_end;
  bool bias = false, residual = false, relu = false;  // forward only: y = max(0, conv(x, w) + b + z); z is like y
  bool wide_bias = false;                             // b is float32 whatever the dtype
  bool statistics = false;                            // forward only: also the sums of y and of y * y, by channel
  bool tf32 = false, deterministic = true;
  int64_t alignment = 16;            // of every operand, in bytes
  std::optional<int64_t> workspace;  // bytes that there are; empty: as many as are worth it

  /// How many operands a plan takes.
  int operands() const { return 3 + bias + residual + 2 * statistics; }
  /// All of it in one line: equal problems have equal text.
  std::string str() const;
};

class ConvPlan {
 public:
  virtual ~ConvPlan() = default;
  virtual size_t workspace_bytes() const = 0;
  /// Puts it on the stream. Operands are x, w, y as ConvProblem names them, one of which the direction computes; then b
  /// where there is a bias, z where there is a residual, then the two vectors of sums, float32, where there are
  /// statistics. Neither allocates nor waits, so it may be captured in a CUDA graph.
  virtual void enqueue(std::span<void* const> operands, void* workspace, StreamHandle stream) const = 0;
};

/// The plan for the problem, or null where cuDNN has none. Plans are remembered for the process, so asking again is
/// quick. With LibrarySettings::autotune the candidates of the heuristics are timed on the device's compute stream, and
/// the choice is remembered on disk; where `workspace` is given they are not, for that is asked on the way to a launch.
std::shared_ptr<const ConvPlan> find_conv_plan(const ConvProblem& problem, int device);

}  // namespace minimx::cuda
