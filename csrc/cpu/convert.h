// Conversion of runs of elements between all element types. Used by the cast kernel and, a block at a time, around the
// loops of elementwise operators and reductions. Whole arrays: cast.cc.
#pragma once
#include <cstdint>
#include <string>

#include "common/dtype.h"

namespace minimx {

/// to[i] = from[i] for n elements whose distances are given in bytes (a from_step of 0 fills).
using Convert = void (*)(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t n);

/// The conversion between two types, a copy if they are equal. NumPy's rules: floats are truncated towards zero, a
/// float that an integer type cannot hold gives what the wrapped low bits or the lowest int32/int64 give (never
/// undefined behaviour), everything but zero is true.
Convert find_convert(DType from, DType to);

/// The element type of that name ("float32"), as rules write it into attributes.
DType dtype_named(const std::string& name);

}  // namespace minimx
