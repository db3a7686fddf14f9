// What several GPUs compute together: sums over their copies of an array, by NCCL on their communication streams.
#pragma once
#include <vector>

#include "common/dtype.h"

namespace minimx::cuda {

/// The copies of one array: where they are and where their sum goes, on each device. The two may be the same.
struct Copies {
  DType dtype;
  size_t count;  // of elements
  std::vector<void*> data, sums;
};

/// Puts the sum of the copies on every device, the same bits everywhere. It runs on the communication streams; how
/// those stand to the compute streams is `communicate`'s (runtime/backend.h). `devices`: distinct, in the order of the
/// addresses. Throws Error(kDevice) where NCCL is missing or says no.
void sum_copies(const std::vector<int>& devices, const std::vector<Copies>& arrays);

}  // namespace minimx::cuda
