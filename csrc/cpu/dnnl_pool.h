// What a row must know of the pooling kernels (dnnl_pool.cc) to allocate the index they save.
#pragma once
#include "common/dims.h"
#include "common/dtype.h"

namespace minimx {

/// Type of the index output of pool_fwd: uint8 where a window of shape `kernel` has at most 255 elements, else int32.
DType pool_index_dtype(const Dims& kernel);

}  // namespace minimx
