// The "argreduce" kernel: position of the first largest or smallest element along one axis (or all, of a contiguous
// array). Two passes over a tile of neighbouring results: the extreme values by the loops of max and min, then where
// they are.
#include <memory>

#include "cpu/convert.h"
#include "cpu/reduce_loop.h"
#include "cpu/strided.h"
#include "engine/parallel.h"

namespace minimx {
namespace {

constexpr int64_t kTile = 256;    // results found together
constexpr int64_t kBlock = 1024;  // elements of a run looked at together
constexpr int64_t kGlance = 64;   // elements compared at once in search of the extreme
constexpr double kTaskNs = 20000;
constexpr double kElementNs = 0.5;

DType compute_type(DType t) {
  switch (t) {
    case DType::kFloat64:
    case DType::kFloat32:
      return t;
    case DType::kFloat16:
    case DType::kBFloat16:
      return DType::kFloat32;
    default:
      return DType::kInt64;
  }
}

/// Is x the extreme value that was found? NaN is one that equals itself here. Without branches, so that it vectorises.
template <class T>
bool is_found(T x, T extreme) {
  return (x == extreme) | ((x != x) & (extreme != extreme));
}

template <class T>
class ArgReduceKernel final : public Kernel {
 public:
  ArgReduceKernel(const ReduceEntry& entry, const Spec& in, const Spec& out, const Dims& axes)
      : entry_(entry),
        load_(find_convert(in.dtype, entry.dtype)),
        same_type_(in.dtype == entry.dtype),
        outputs_(out.size()) {
    if (outputs_ == 0) return;
    split_axes(in, out, axes);
    grain_ = std::max<int64_t>(1, static_cast<int64_t>(kTaskNs / (kElementNs * n_ * std::min(kTile, width_))));
  }

  void run(void* const* data, void*) const override {
    if (outputs_ == 0) return;
    const int64_t tiles = (width_ + kTile - 1) / kTile;
    parallel_for(outputs_ / width_ * tiles, grain_, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const auto at = position_of(t / tiles, kept_);
        const int64_t column = t % tiles * kTile;
        int64_t from = column * in_step_, to = column * out_step_;
        for (int d = 0; d < kept_.size(); ++d) {
          from += at[d] * kept_in_[d];
          to += at[d] * kept_out_[d];
        }
        search(static_cast<const char*>(data[0]) + from, std::min(kTile, width_ - column),
               static_cast<char*>(data[1]) + to);
      }
    });
  }

  double cost_ns() const override { return 30 + kElementNs * static_cast<double>(outputs_ * n_); }

 private:
  /// The axis with the operand's smallest stride becomes the tile's if it is kept; else a tile is one result.
  void split_axes(const Spec& in, const Spec& out, const Dims& axes) {
    const int size = itemsize(in.dtype);
    const bool keeps = out.shape.size() == in.shape.size();
    Dims reduced = Dims::filled(in.shape.size(), 0);
    for (int64_t a : axes) reduced[static_cast<int>(a)] = 1;
    AxisSpace<2> kept;
    kept.operands = 2;
    for (int i = 0, o = 0; i < in.shape.size(); ++i) {
      if (!reduced[i])
        kept.push(in.shape[i], [&](int k) { return k == 0 ? in.strides[i] * size : out.strides[o] * 8; });
      o += keeps || !reduced[i];
    }
    n_ = in.size() / outputs_;
    step_ = axes.empty() ? 0 : (axes.size() == 1 ? in.strides[static_cast<int>(axes[0])] : 1) * size;
    kept.normalise(0);
    const int inner = kept.inner();
    const bool tile = std::abs(kept.strides[0][inner]) < std::abs(step_) || n_ < 16;
    for (int d = 0; d < (tile ? inner : inner + 1); ++d) {
      kept_.push_back(kept.shape[d]);
      kept_in_.push_back(kept.strides[0][d]);
      kept_out_.push_back(kept.strides[1][d]);
    }
    if (kept_.empty()) {
      kept_.push_back(1);
      kept_in_.push_back(0);
      kept_out_.push_back(0);
    }
    if (!tile) return;
    width_ = kept.shape[inner];
    in_step_ = kept.strides[0][inner];
    out_step_ = kept.strides[1][inner];
  }

  const T* load(const char* p, int64_t step, int64_t n, T* block) const {
    if (same_type_ && step == sizeof(T)) return reinterpret_cast<const T*>(p);
    load_(p, step, reinterpret_cast<char*>(block), sizeof(T), n);
    return block;
  }

  void search(const char* in, int64_t width, char* out) const {
    if (width == 1)
      *reinterpret_cast<int64_t*>(out) = search_run(in);
    else
      search_tile(in, width, out);
  }

  int64_t search_run(const char* in) const {
    alignas(64) T block[kBlock];
    T extreme;
    entry_.start(1, reinterpret_cast<char*>(&extreme));
    for (int64_t i = 0; i < n_; i += kBlock) {
      const int64_t n = std::min(kBlock, n_ - i);
      entry_.fold(reinterpret_cast<const char*>(load(in + i * step_, step_, n, block)), n,
                  reinterpret_cast<char*>(&extreme));
    }
    for (int64_t i = 0; i < n_; i += kGlance) {
      const int64_t n = std::min(kGlance, n_ - i);
      const T* x = load(in + i * step_, step_, n, block);
      int32_t here = 0;
      for (int64_t j = 0; j < n; ++j) here += is_found(x[j], extreme);
      for (int64_t j = 0; here != 0; ++j)
        if (is_found(x[j], extreme)) return i + j;
    }
    return 0;
  }

  void search_tile(const char* in, int64_t width, char* out) const {
    alignas(64) T block[kTile], extreme[kTile];
    int64_t found[kTile];
    entry_.start(width, reinterpret_cast<char*>(extreme));
    for (int64_t r = 0; r < n_; ++r)
      entry_.accumulate(reinterpret_cast<const char*>(load(in + r * step_, in_step_, width, block)), width,
                        reinterpret_cast<char*>(extreme));
    std::fill_n(found, width, -1);
    for (int64_t r = n_ - 1; r >= 0; --r) {  // from the last one back, so that the first one stays
      const T* x = load(in + r * step_, in_step_, width, block);
      for (int64_t i = 0; i < width; ++i) found[i] = is_found(x[i], extreme[i]) ? r : found[i];
    }
    for (int64_t i = 0; i < width; ++i) *reinterpret_cast<int64_t*>(out + i * out_step_) = found[i];
  }

  const ReduceEntry& entry_;
  Convert load_;
  bool same_type_;
  int64_t outputs_, n_ = 0, step_ = 0;              // elements to search for one result, and their distance
  Dims kept_, kept_in_, kept_out_;                  // axes of results other than the tile's
  int64_t width_ = 1, in_step_ = 0, out_step_ = 0;  // results side by side
  int64_t grain_ = 1;
};

KernelPtr make_argreduce(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const DType type = compute_type(ins[0].dtype);
  const ReduceEntry& entry = *find_reduce(attrs.text("loop") == "argmax" ? "max" : "min", type);
  const Dims axes = attrs.dims("axes");
  if (type == DType::kFloat32) return std::make_shared<ArgReduceKernel<float>>(entry, ins[0], outs[0], axes);
  if (type == DType::kFloat64) return std::make_shared<ArgReduceKernel<double>>(entry, ins[0], outs[0], axes);
  return std::make_shared<ArgReduceKernel<int64_t>>(entry, ins[0], outs[0], axes);
}

}  // namespace

void register_argreduce_kernels() { register_kernel("argreduce", make_argreduce); }

}  // namespace minimx
