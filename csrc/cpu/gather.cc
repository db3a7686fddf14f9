// Reading by index. Operands are contiguous, indices int64. An array is seen as ("outer", "n", "inner") around the
// axis.
//
//   gather(x, i) -> y             y (outer, "count", inner) = x[:, i, :]
//   gather_static(x) -> y         the same with the indices in the attribute "indices", which are in range
//   gather_elements(x, i) -> y    y[o, k, j] = x[o, i[o, k, j], j], k < "count"
//   ravel_index(i...) -> y        place in C order of element (i0, i1, ...) of an array of shape "dims"; i broadcast
#include <array>
#include <cstring>
#include <vector>

#include "cpu/index_mode.h"
#include "cpu/map_kernel.h"
#include "cpu/strided.h"

namespace minimx {
namespace {

struct Blocks {
  int64_t outer, n, inner, count;
  IndexMode mode = IndexMode::kRaise;
  explicit Blocks(const Attrs& attrs)
      : outer(attrs.integer("outer")),
        n(attrs.integer("n")),
        inner(attrs.integer("inner")),
        count(attrs.integer("count")) {
    if (attrs.has("mode")) mode = static_cast<IndexMode>(attrs.integer("mode"));
  }
};

/// Copies slice `from` of x to slice `to` of y for every (outer, count) pair in [begin, end).
template <class IndexAt>
void copy_slices(const Blocks& b, int64_t bytes, const char* x, char* y, int64_t begin, int64_t end,
                 IndexAt&& index_at) {
  for (int64_t r = begin; r < end; ++r) {
    const int64_t o = r / b.count, from = o * b.n + index_at(r % b.count);
    if (bytes == 4)
      std::memcpy(y + r * 4, x + from * 4, 4);
    else
      std::memcpy(y + r * bytes, x + from * bytes, bytes);
  }
}

KernelPtr gather(std::span<const Spec> ins, std::span<const Spec>, const Attrs& attrs) {
  const Blocks b(attrs);
  const int64_t bytes = b.inner * itemsize(ins[0].dtype);
  return map_kernel(b.outer * b.count, 3 + 0.1 * static_cast<double>(bytes),
                    [=](void* const* data, int64_t begin, int64_t end) {
                      const int64_t* index = static_cast<const int64_t*>(data[1]);
                      copy_slices(b, bytes, static_cast<const char*>(data[0]), static_cast<char*>(data[2]), begin, end,
                                  [&](int64_t k) { return resolve_index(index[k], b.n, b.mode); });
                    });
}

KernelPtr gather_static(std::span<const Spec> ins, std::span<const Spec>, const Attrs& attrs) {
  const Blocks b(attrs);
  const int64_t bytes = b.inner * itemsize(ins[0].dtype);
  auto index = std::get<std::vector<int64_t>>(attrs.values.at("indices"));
  return map_kernel(b.outer * b.count, 3 + 0.1 * static_cast<double>(bytes),
                    [=, index = std::move(index)](void* const* data, int64_t begin, int64_t end) {
                      copy_slices(b, bytes, static_cast<const char*>(data[0]), static_cast<char*>(data[1]), begin, end,
                                  [&](int64_t k) { return index[k]; });
                    });
}

template <class T>
KernelPtr gather_elements_of(const Blocks& b) {
  return map_kernel(b.outer * b.count, 2.0 * static_cast<double>(b.inner),
                    [=](void* const* data, int64_t begin, int64_t end) {
                      const T* x = static_cast<const T*>(data[0]);
                      const int64_t* index = static_cast<const int64_t*>(data[1]);
                      T* y = static_cast<T*>(data[2]);
                      for (int64_t r = begin; r < end; ++r) {
                        const T* lane = x + r / b.count * b.n * b.inner;
                        for (int64_t j = 0; j < b.inner; ++j) {
                          const int64_t at = r * b.inner + j;
                          y[at] = lane[resolve_index(index[at], b.n, b.mode) * b.inner + j];
                        }
                      }
                    });
}

KernelPtr gather_elements(std::span<const Spec> ins, std::span<const Spec>, const Attrs& attrs) {
  const Blocks b(attrs);
  switch (itemsize(ins[0].dtype)) {
    case 1:
      return gather_elements_of<int8_t>(b);
    case 2:
      return gather_elements_of<int16_t>(b);
    case 4:
      return gather_elements_of<int32_t>(b);
    default:
      return gather_elements_of<int64_t>(b);
  }
}

KernelPtr ravel_index(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const Dims dims = attrs.dims("dims"), shape = outs[0].shape;
  const auto mode = static_cast<IndexMode>(attrs.integer("mode"));
  std::vector<Dims> strides;
  for (const Spec& x : ins) strides.push_back(broadcast_strides(x, shape));
  const int n = dims.size();
  return map_kernel(outs[0].size(), 4.0 * n,
                    [=, strides = std::move(strides)](void* const* data, int64_t begin, int64_t end) {
                      int64_t* y = static_cast<int64_t*>(data[n]);
                      for (int64_t i = begin; i < end; ++i) {
                        const auto at = position_of(i, shape);
                        int64_t flat = 0;
                        for (int k = 0; k < n; ++k) {
                          const char* p = static_cast<const char*>(data[k]);
                          for (int d = 0; d < shape.size(); ++d) p += at[d] * strides[k][d];
                          flat = flat * dims[k] + resolve_index(*reinterpret_cast<const int64_t*>(p), dims[k], mode);
                        }
                        y[i] = flat;
                      }
                    });
}

}  // namespace

void register_gather_kernels() {
  register_kernel("gather", gather);
  register_kernel("gather_static", gather_static);
  register_kernel("gather_elements", gather_elements);
  register_kernel("ravel_index", ravel_index);
}

}  // namespace minimx
