// ProductKernel: a product of matrices by cuBLASLt, with what its epilogues do on the way. The one file that includes
// the library is product_kernel.cc; matmul.cc turns a kernel's operands into a Product.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/backend.h"

namespace minimx::cuda {

constexpr uintptr_t kProductAlignment = 16;  // in bytes; what the best algorithms want of every operand

/// A matrix of r rows and c columns with strides in elements, as cuBLASLt is told of it.
struct Stored {
  bool transposed;
  int64_t rows, columns, step;  // of memory read by columns; `step` from one to the next
};

/// Nothing where neither rows nor columns are runs of memory that do not overlap.
std::optional<Stored> stored(int64_t r, int64_t c, int64_t r_stride, int64_t c_stride);

/// c (batch, m, n) = a (batch, m, k) b (batch, k, n), with strides in elements; those of broadcast axes are 0.
struct Product {
  struct Axis {
    int64_t extent, a, b, c;
  };
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col, c_row, c_col;
  std::vector<Axis> batch;  // axes of extent 1 and neighbours that are one run are gone

  /// Calls that it takes: one for each place in all batch axes but the longest.
  int64_t calls() const;
};

enum class Activation { kNone, kRelu, kGeluTanh };

/// What is done to c before it is written, or to a while it is read. A bias excludes sums, and what is added.
struct Epilogue {
  bool bias = false;
  Activation activation = Activation::kNone;
  bool sums = false;  // of the rows of a
  bool adds = false;  // z, of c's strides, in which c may lie

  bool vector() const { return bias || sums; }
  bool plain() const { return !vector() && activation == Activation::kNone; }  // to cuBLASLt, which adds always
};

/// Data: a, b, c and, where there are such, bias or sums (stride 1), z.
class ProductKernel : public DeviceKernel {
 public:
  /// False where there is no algorithm for operands that are aligned to their elements only.
  virtual bool takes_unaligned() const = 0;
};

/// Null where cuBLASLt has no algorithm, which may be for the epilogue.
std::shared_ptr<const ProductKernel> find_product(const Product& p, DType dtype, const Epilogue& epilogue, int device);

}  // namespace minimx::cuda
