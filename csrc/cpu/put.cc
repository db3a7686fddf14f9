// Writing by index, the reverse of gather.cc: (outer, "n", inner) arrays from values (outer, "count", inner).
//
//   put(v, i[, base]) -> y       y = base ("base" = 1) or zeros; y[:, i, :] += v, or with "set" = 1: = v, the last one
//   wins put_static(v) -> y           zeros; y[:, "indices", :] += v put_elements(v, i[, base])   y = base or zeros;
//   y[o, i[o, k, j], j] += v[o, k, j]
//
// Additions to one element always happen in the order of the indices, and in float for the 16-bit types: results are
// the same whatever the number of threads. The work is split over the elements written, never over the values.
#include <cstring>
#include <vector>

#include "cpu/index_mode.h"
#include "cpu/map_kernel.h"

namespace minimx {
namespace {

struct Target {
  int64_t outer, n, inner, count;
  IndexMode mode = IndexMode::kRaise;
  bool set = false, base = false;
  explicit Target(const Attrs& attrs)
      : outer(attrs.integer("outer")),
        n(attrs.integer("n")),
        inner(attrs.integer("inner")),
        count(attrs.integer("count")) {
    if (attrs.has("mode")) mode = static_cast<IndexMode>(attrs.integer("mode"));
    set = attrs.has("set") && attrs.integer("set");
    base = attrs.has("base") && attrs.integer("base");
  }
};

/// The values that go to each slice, in order: those of slice r are order[first[r]] to order[first[r + 1]].
/// A counting sort, stable, so that additions keep the order of the indices.
struct Lists {
  int64_t* first;  // n + 1
  int64_t* order;  // count
  Lists(void* workspace, int64_t n) : first(static_cast<int64_t*>(workspace)), order(first + n + 1) {}

  template <class IndexAt>
  void sort(int64_t n, int64_t count, IndexAt&& index_at) {
    std::memset(first, 0, (n + 1) * sizeof(int64_t));
    for (int64_t k = 0; k < count; ++k) ++first[index_at(k) + 1];
    for (int64_t r = 0; r < n; ++r) first[r + 1] += first[r];
    for (int64_t k = 0; k < count; ++k) order[first[index_at(k)]++] = k;
    for (int64_t r = n; r > 0; --r) first[r] = first[r - 1];
    first[0] = 0;
  }
};

/// y[0:m] = base[0:m] (or 0) + the listed rows of v, each `stride` apart.
template <class T>
void add_rows(T* y, const T* base, const T* v, const int64_t* order, int64_t rows, int64_t stride, int64_t m) {
  constexpr int64_t kBlock = 256;
  Compute<T> sum[kBlock];
  for (int64_t j = 0; j < m; j += kBlock) {
    const int64_t width = std::min(kBlock, m - j);
    for (int64_t c = 0; c < width; ++c) sum[c] = base ? static_cast<Compute<T>>(base[j + c]) : Compute<T>{};
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = v + order[r] * stride + j;
      for (int64_t c = 0; c < width; ++c) sum[c] += static_cast<Compute<T>>(row[c]);
    }
    for (int64_t c = 0; c < width; ++c) y[j + c] = static_cast<T>(sum[c]);
  }
}

template <class T>
void write_slice(const Target& t, T* y, const T* base, const T* v, const int64_t* order, int64_t rows) {
  if (rows && !t.set) return add_rows(y, base, v, order, rows, t.inner, t.inner);
  if (rows)
    std::memcpy(y, v + order[rows - 1] * t.inner, t.inner * sizeof(T));
  else if (base)
    std::memcpy(y, base, t.inner * sizeof(T));
  else
    std::memset(static_cast<void*>(y), 0, t.inner * sizeof(T));
}

template <class T>
class Put final : public Kernel {
 public:
  Put(const Target& t, std::vector<int64_t> indices) : t_(t), indices_(std::move(indices)) {}

  void run(void* const* data, void* workspace) const override {
    const bool fixed = !indices_.empty() || t_.count == 0;
    const int64_t* index = fixed ? indices_.data() : static_cast<const int64_t*>(data[1]);
    const T* v = static_cast<const T*>(data[0]);
    const T* base = t_.base ? static_cast<const T*>(data[2]) : nullptr;
    T* y = static_cast<T*>(data[outputs_at()]);
    Lists lists(workspace, t_.n);
    lists.sort(t_.n, t_.count, [&](int64_t k) { return resolve_index(index[k], t_.n, t_.mode); });
    parallel_for(t_.outer * t_.n, 1 + 20000 / (t_.inner + 1), [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const int64_t o = s / t_.n, r = s % t_.n, at = s * t_.inner;
        write_slice(t_, y + at, base ? base + at : nullptr, v + o * t_.count * t_.inner, lists.order + lists.first[r],
                    lists.first[r + 1] - lists.first[r]);
      }
    });
  }
  size_t workspace_bytes() const override { return (t_.n + 1 + t_.count) * sizeof(int64_t); }
  double cost_ns() const override {
    return 60 + 6.0 * static_cast<double>(t_.count + t_.n) +
           0.3 * static_cast<double>(t_.outer * t_.inner * (t_.count + t_.n));
  }
  bool is_static = false;

 private:
  int outputs_at() const { return (is_static ? 1 : 2) + t_.base; }
  Target t_;
  std::vector<int64_t> indices_;
};

template <bool kStatic>
KernelPtr put(std::span<const Spec>, std::span<const Spec> outs, const Attrs& attrs) {
  return dispatch(outs[0].dtype, [&](auto zero) -> KernelPtr {
    using T = decltype(zero);
    std::vector<int64_t> indices;
    if (kStatic) indices = std::get<std::vector<int64_t>>(attrs.values.at("indices"));
    auto kernel = std::make_shared<Put<T>>(Target(attrs), std::move(indices));
    kernel->is_static = kStatic;
    return kernel;
  });
}

/// One lane (o, j) at a time: lanes are independent, so they are split over the threads.
KernelPtr put_elements(std::span<const Spec>, std::span<const Spec> outs, const Attrs& attrs) {
  const Target t(attrs);
  return dispatch(outs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    return map_kernel(
        t.outer * t.inner, 2.0 * static_cast<double>(t.n + t.count),
        [=](void* const* data, int64_t begin, int64_t end) {
          const T* v = static_cast<const T*>(data[0]);
          const int64_t* index = static_cast<const int64_t*>(data[1]);
          const T* base = t.base ? static_cast<const T*>(data[2]) : nullptr;
          T* y = static_cast<T*>(data[t.base ? 3 : 2]);
          for (int64_t lane = begin; lane < end; ++lane) {
            const int64_t o = lane / t.inner, j = lane % t.inner, y0 = o * t.n * t.inner + j,
                          v0 = o * t.count * t.inner + j;
            for (int64_t r = 0; r < t.n; ++r) y[y0 + r * t.inner] = base ? base[y0 + r * t.inner] : T{};
            for (int64_t k = 0; k < t.count; ++k) {
              T& place = y[y0 + resolve_index(index[v0 + k * t.inner], t.n, t.mode) * t.inner];
              place = static_cast<T>(static_cast<Compute<T>>(place) + static_cast<Compute<T>>(v[v0 + k * t.inner]));
            }
          }
        });
  });
}

}  // namespace

void register_put_kernels() {
  register_kernel("put", put<false>);
  register_kernel("put_static", put<true>);
  register_kernel("put_elements", put_elements);
}

}  // namespace minimx
