// Kernels compiled at run time: cubins become DeviceKernels that launch without Python.
#pragma once
#include <string>
#include <vector>

#include "runtime/backend.h"

namespace minimx::cuda {

/// Where a parameter of a launch comes from; see minimx/rtc/cuda/recipe.py.
struct Argument {
  enum class Kind : uint8_t { kPointer, kScalar, kScratch, kValue, kState, kTable } kind;
  int index = 0;       // of the operand (kPointer, kScalar); how many of the next are its members (kTable)
  int64_t offset = 0;  // bytes (kPointer, kScratch)
  uint64_t value = 0;  // the bytes of the number (kValue)
};

struct LaunchSpec {
  std::string cubin, name;
  unsigned grid[3], block[3], shared;
  std::vector<Argument> arguments;
};

/// A kernel of these launches in order. Loads the cubins; throws Error(kDevice) if the driver refuses one.
KernelPtr make_recipe_kernel(const std::vector<LaunchSpec>& launches, size_t workspace_bytes);

}  // namespace minimx::cuda
