// Sums by channel, as the statistics of a batch norm, and a convolution that gives them along with its result:
//
//   channel_sums(y) -> sum, squares                    sum[c] of y and of y * y over all axes but the second
//   conv_fwd_stats(x, w) -> y, sum, squares            conv_fwd, then channel_sums of y as it was rounded
//
// y: (N, C, *spatial) of a float type, any strides; sums: float32 (C,), added up in double. Only graphs for a GPU ask
// for them (minimx/graph/passes/conv_stats.py), where cuDNN has engines that sum by the way (csrc/cuda/conv.cc); here
// is the plain twin.
#include "cpu/convert_scalar.h"
#include "cpu/map_kernel.h"

namespace minimx {
namespace {

template <class T>
void sum_channel(const T* y, const Spec& spec, float& sum, float& squares) {
  const int rank = spec.shape.size();
  Dims at = Dims::filled(rank, 0);
  double s = 0, q = 0;
  for (int64_t left = spec.size() / spec.shape[1]; left > 0; --left) {
    const double value = static_cast<double>(static_cast<Compute<T>>(*y));
    s += value, q += value * value;
    for (int d = rank - 1; d >= 0; --d) {
      if (d == 1) continue;
      y += spec.strides[d];
      if (++at[d] < spec.shape[d]) break;
      y -= at[d] * spec.strides[d], at[d] = 0;
    }
  }
  sum = static_cast<float>(s), squares = static_cast<float>(q);
}

KernelPtr channel_sums(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs&) {
  const Spec y = ins[0];
  if (y.shape.size() < 2 || !y.layout.empty())
    throw Error(ErrorKind::kValue, "channel_sums: expected strided data (N, C, *spatial), got shape " + y.shape.str() +
                                       " in layout '" + y.layout + "'. Add a batch axis, or reorder it.");
  const int64_t channels = y.shape[1], each = channels ? y.size() / channels : 0;
  return dispatch_float("channel_sums", y.dtype, [&](auto type) {
    using T = decltype(type);
    return map_kernel(
        channels, 2.0 * static_cast<double>(each),
        [y, a = outs[0].strides[0], b = outs[1].strides[0]](void* const* data, int64_t begin, int64_t end) {
          for (int64_t c = begin; c < end; ++c)
            sum_channel(static_cast<const T*>(data[0]) + c * y.strides[1], y, static_cast<float*>(data[1])[c * a],
                        static_cast<float*>(data[2])[c * b]);
        });
  });
}

/// Data: x, w, y, sum, squares.
class ConvStatistics final : public Kernel {
 public:
  ConvStatistics(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs)
      : conv_(make_kernel("conv_fwd", ins, outs.first(1), attrs)),
        sums_(make_kernel("channel_sums", outs.first(1), outs.subspan(1), {})) {}
  void run(void* const* data, void* workspace) const override {
    conv_->run(data, workspace);
    sums_->run(data + 2, nullptr);
  }
  size_t workspace_bytes() const override { return conv_->workspace_bytes(); }
  double cost_ns() const override { return conv_->cost_ns() + sums_->cost_ns(); }

 private:
  KernelPtr conv_, sums_;
};

KernelPtr conv_statistics(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  return std::make_shared<ConvStatistics>(ins, outs, attrs);
}

}  // namespace

void register_channel_sums_kernels() {
  register_kernel("channel_sums", channel_sums);
  register_kernel("conv_fwd_stats", conv_statistics);
}

}  // namespace minimx
