// A Kernel: one operator (or a fused group) bound to the shapes, types and layouts of its operands, ready to run.
// It holds no array and no state that a run changes, so one Kernel serves many threads and many Programs at once.
// Kernels are made by named factories: the row in minimx/ops names the factory, csrc/cpu registers it.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "common/dims.h"
#include "common/dtype.h"

namespace minimx {

/// What a kernel knows of an operand. `layout` is empty for a strided array; otherwise a blocked layout in oneDNN's
/// notation ("aBcd8b"), which only appears inside Programs, and `strides` is then empty.
struct Spec {
  DType dtype{};
  Dims shape;
  Dims strides;  // in elements
  std::string layout;
  bool scalar = false;  // a number of the caller's, in host memory on every device

  bool contiguous() const;
  int64_t size() const { return shape.product(); }
};

/// Attributes as the Python rule states them for a kernel: numbers, strings and lists of integers by name.
class Attrs {
 public:
  using Value = std::variant<int64_t, double, std::string, std::vector<int64_t>>;
  std::map<std::string, Value> values;

  int64_t integer(const std::string& name) const;
  double real(const std::string& name) const;  // accepts an integer
  const std::string& text(const std::string& name) const;
  Dims dims(const std::string& name) const;
  bool has(const std::string& name) const { return values.count(name) != 0; }
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  /// Runs to completion. `data` points to the inputs, then the outputs, in the order of the specs it was made with;
  /// `workspace` to workspace_bytes() of scratch, 64-byte aligned. May split work with parallel_for.
  virtual void run(void* const* data, void* workspace) const = 0;
  virtual size_t workspace_bytes() const { return 0; }
  /// Rough time of a run on one core, in nanoseconds: decides between running inline and a hop to a worker.
  virtual double cost_ns() const = 0;
};

using KernelPtr = std::shared_ptr<const Kernel>;
using KernelFactory = KernelPtr (*)(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs);

/// Makes the factory known under `name`. Called by the register_*_kernels functions of csrc/cpu at load.
void register_kernel(const std::string& name, KernelFactory factory);

/// The kernel of the CPU. Throws Error(kInternal) when no factory has that name.
KernelPtr make_kernel(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs,
                      const Attrs& attrs);

}  // namespace minimx
