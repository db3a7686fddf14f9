// The "multi_sum_squares" and "multi_all_finite" kernels: one look at many contiguous arrays. Arrays are cut into
// chunks of a fixed size, whose results are joined in order: sums are the same for any number of threads.
#include <memory>

#include "cpu/convert.h"
#include "engine/parallel.h"
#include "runtime/kernel.h"

namespace minimx {
namespace {

constexpr int64_t kChunk = 16384;  // elements that one task takes
constexpr int64_t kBlock = 256;    // of them converted at once
constexpr int kLanes = 8;          // sums carried side by side
constexpr double kElementNs = 0.2;

struct Squares {
  template <class A>
  static double of(const A* x, int64_t n) {
    A lanes[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
      for (int k = 0; k < kLanes; ++k) lanes[k] += x[i + k] * x[i + k];
    double sum = 0;
    for (; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
    for (A lane : lanes) sum += lane;
    return sum;
  }
  static void finish(const double* sums, int64_t arrays, DType t, void* out) {
    for (int64_t i = 0; i < arrays; ++i)
      if (t == DType::kFloat64)
        static_cast<double*>(out)[i] = sums[i];
      else
        static_cast<float*>(out)[i] = static_cast<float>(sums[i]);
  }
};

/// How many elements are not finite.
struct NotFinite {
  template <class A>
  static double of(const A* x, int64_t n) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; ++i) found += !(x[i] - x[i] == 0);
    return static_cast<double>(found);
  }
  static void finish(const double* sums, int64_t arrays, DType, void* out) {
    double found = 0;
    for (int64_t i = 0; i < arrays; ++i) found += sums[i];
    *static_cast<bool*>(out) = found == 0;
  }
};

template <class F>
class MultiKernel final : public Kernel {
 public:
  MultiKernel(std::span<const Spec> ins, const Spec& out) : arrays_(static_cast<int64_t>(ins.size())), out_(out.dtype) {
    for (int64_t a = 0; a < arrays_; ++a) {
      const bool wide = ins[a].dtype == DType::kFloat64;
      const Convert load = find_convert(ins[a].dtype, wide ? DType::kFloat64 : DType::kFloat32);
      for (int64_t at = 0; at < ins[a].size(); at += kChunk)
        chunks_.push_back({a, at, std::min(kChunk, ins[a].size() - at), itemsize(ins[a].dtype), load, wide});
      elements_ += ins[a].size();
    }
  }

  void run(void* const* data, void* workspace) const override {
    double* found = static_cast<double*>(workspace);
    const auto count = static_cast<int64_t>(chunks_.size());
    engine::parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        found[c] = chunks_[c].wide ? take<double>(chunks_[c], data) : take<float>(chunks_[c], data);
    });
    double* sums = found + count;
    std::fill_n(sums, arrays_, 0.0);
    for (int64_t c = 0; c < count; ++c) sums[chunks_[c].array] += found[c];
    F::finish(sums, arrays_, out_, data[arrays_]);
  }

  size_t workspace_bytes() const override { return (chunks_.size() + arrays_) * sizeof(double); }
  double cost_ns() const override { return 50 + kElementNs * static_cast<double>(elements_); }

 private:
  struct Chunk {
    int64_t array, begin, n, bytes;  // bytes of an element
    Convert load;
    bool wide;
  };

  template <class A>
  static double take(const Chunk& c, void* const* data) {
    const char* x = static_cast<const char*>(data[c.array]) + c.begin * c.bytes;
    A block[kBlock];
    double found = 0;
    for (int64_t i = 0; i < c.n; i += kBlock) {
      const int64_t n = std::min(kBlock, c.n - i);
      c.load(x + i * c.bytes, c.bytes, reinterpret_cast<char*>(block), sizeof(A), n);
      found += F::of(block, n);
    }
    return found;
  }

  std::vector<Chunk> chunks_;
  int64_t arrays_, elements_ = 0;
  DType out_;
};

template <class F>
KernelPtr make_multi(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs&) {
  return std::make_shared<MultiKernel<F>>(ins, outs[0]);
}

}  // namespace

void register_multi_kernels() {
  register_kernel("multi_sum_squares", make_multi<Squares>);
  register_kernel("multi_all_finite", make_multi<NotFinite>);
}

}  // namespace minimx
