// What a row must know of the batch norm kernels (batch_norm.cc) to allocate the bitmask of a fused ReLU.
#pragma once
#include <cstddef>

#include "runtime/kernel.h"

namespace minimx {

/// Bytes that hold the ReLU bitmask of data (N, C, *spatial) of this shape in any layout: a bit an element, where each
/// row of memory (a channel's run in C order, else a pixel's channels) starts on a byte. The mask of a forward run is
/// for a backward run with x in the same layout.
size_t batch_norm_mask_bytes(const Spec& x);

}  // namespace minimx
