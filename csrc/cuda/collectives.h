// What several GPUs compute together: sums over their copies of an array, by NCCL on their communication streams.
#pragma once
#include <vector>

#include "common/dtype.h"

namespace minimx::cuda {

/// The copies of one array: an address on each device.
struct Copies {
  DType dtype;
  size_t count;  // of elements
  std::vector<void*> data;
};

/// Every copy becomes the sum of them, the same bits on every device. It runs behind what is on the compute streams of
/// the devices now, and what is put there later runs behind it. `devices`: distinct, in the order of the addresses.
/// Throws Error(kDevice) where NCCL is missing or says no.
void sum_copies(const std::vector<int>& devices, const std::vector<Copies>& arrays);

}  // namespace minimx::cuda
