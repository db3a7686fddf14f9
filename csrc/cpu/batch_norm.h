// What a row must know of the batch norm kernels (batch_norm.cc) to allocate the bitmask of a fused ReLU.
#pragma once
#include <cstddef>

#include "runtime/kernel.h"

namespace minimx {

/// Bytes of the ReLU bitmask that batch_norm_fwd_train writes for data of this Spec: one bit an element, each row of
/// memory (a channel's run in C order, else a pixel's channels) starting on a byte.
size_t batch_norm_mask_bytes(const Spec& x);

}  // namespace minimx
