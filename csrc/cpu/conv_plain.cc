// Convolution and pooling as their definitions say: loops, no library. For float64, which oneDNN does not compute with,
// and the plain twin that the library's kernels are tested against. Slow; names and operands as in dnnl_conv.cc and
// dnnl_pool.cc with "_plain" after the name. Any strides; float32 and float64; serial.
//
//   pool_gather(x, index) -> y    the elements of x that a max pool's index names: the transpose of its gradient
#include <cmath>
#include <memory>
#include <vector>

#include "cpu/strided.h"

namespace minimx {
namespace {

/// An operand's data and strides (elements).
template <class T>
struct View {
  T* data;
  const Spec* spec;
  T& at(const std::array<int64_t, kMaxDims>& i) const {
    int64_t offset = 0;
    for (int d = 0; d < spec->shape.size(); ++d) offset += i[d] * spec->strides[d];
    return data[offset];
  }
};

/// Calls f(index) for every index of `shape`.
template <class F>
void each_index(const Dims& shape, F&& f) {
  const int64_t n = shape.product();
  for (int64_t i = 0; i < n; ++i) f(position_of(i, shape));
}

/// Sets every element of `spec` to `value`.
template <class T>
void fill(const Spec& spec, T* data, T value) {
  const View<T> v{data, &spec};
  each_index(spec.shape, [&](const auto& i) { v.at(i) = value; });
}

enum class Role { kForward, kData, kWeights };
enum class Pass { kForward, kBackward, kGather };

template <class T>
class PlainConv final : public Kernel {
 public:
  PlainConv(Role role, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& a)
      : role_(role),
        ins_(ins.begin(), ins.end()),
        outs_(outs.begin(), outs.end()),
        stride_(a.dims("stride")),
        pad_(a.dims("pad")),
        dilate_(a.dims("dilate")),
        groups_(a.integer("groups")) {}
  double cost_ns() const override {
    return 3.0 * static_cast<double>(y().size() * w().size()) / static_cast<double>(w().shape[0]);
  }

  void run(void* const* data, void*) const override {
    T* out = static_cast<T*>(data[ins_.size()]);
    fill(outs_[0], out, T(0));
    T *first = static_cast<T*>(data[0]), *second = static_cast<T*>(data[1]);
    const View<T> vx{role_ == Role::kData ? out : first, &x()}, vw{role_ == Role::kWeights ? out : second, &w()},
        vy{role_ == Role::kForward ? out
           : role_ == Role::kData  ? first
                                   : second,
           &y()};
    each_term([&](const auto& ix, const auto& iw, const auto& iy) {
      if (role_ == Role::kForward) vy.at(iy) += vx.at(ix) * vw.at(iw);
      if (role_ == Role::kData) vx.at(ix) += vy.at(iy) * vw.at(iw);
      if (role_ == Role::kWeights) vw.at(iw) += vx.at(ix) * vy.at(iy);
    });
    if (role_ == Role::kForward && ins_.size() > 2) {
      const T* bias = static_cast<const T*>(data[2]);
      each_index(y().shape, [&](const auto& i) { vy.at(i) += bias[i[1] * ins_[2].strides[0]]; });
    }
    if (role_ == Role::kWeights && outs_.size() > 1) {
      T* bias = static_cast<T*>(data[ins_.size() + 1]);
      std::fill(bias, bias + outs_[1].size(), T(0));
      each_index(y().shape, [&](const auto& i) { bias[i[1]] += vy.at(i); });
    }
  }

 private:
  const Spec& x() const { return role_ == Role::kData ? outs_[0] : ins_[0]; }
  const Spec& w() const { return role_ == Role::kWeights ? outs_[0] : ins_[1]; }
  const Spec& y() const { return role_ == Role::kForward ? outs_[0] : ins_[role_ == Role::kData ? 0 : 1]; }

  /// Calls f with the places in x, w and y of every product that the convolution sums.
  template <class F>
  void each_term(F&& f) const {
    const Dims &ws = w().shape, &xs = x().shape;
    Dims taps = ws;  // (1, C / groups, *kernel)
    taps[0] = 1;
    const int64_t per_group = ws[0] / groups_;
    each_index(y().shape, [&](const std::array<int64_t, kMaxDims>& iy) {
      each_index(taps, [&](const std::array<int64_t, kMaxDims>& tap) {
        auto iw = tap, ix = iy;
        iw[0] = iy[1];
        ix[1] = iy[1] / per_group * ws[1] + tap[1];
        for (int d = 2; d < xs.size(); ++d) {
          ix[d] = iy[d] * stride_[d - 2] + tap[d] * dilate_[d - 2] - pad_[d - 2];
          if (ix[d] < 0 || ix[d] >= xs[d]) return;
        }
        f(ix, iw, iy);
      });
    });
  }

  Role role_;
  std::vector<Spec> ins_, outs_;
  Dims stride_, pad_, dilate_;
  int64_t groups_;
};

template <class T>
class PlainPool final : public Kernel {
 public:
  PlainPool(Pass pass, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& a)
      : pass_(pass),
        ins_(ins.begin(), ins.end()),
        outs_(outs.begin(), outs.end()),
        kernel_(a.dims("kernel")),
        stride_(a.dims("stride")),
        pad_(a.dims("pad")),
        max_(a.text("kind") == "max"),
        include_(a.text("kind") == "avg_include") {}
  double cost_ns() const override { return 5.0 * static_cast<double>(y().size() * kernel_.product()); }

  void run(void* const* data, void*) const override {
    T* out = static_cast<T*>(data[ins_.size()]);
    const bool backward = pass_ == Pass::kBackward;
    const View<T> vx{backward ? out : static_cast<T*>(data[0]), &x()},
        vy{backward ? static_cast<T*>(data[0]) : out, &y()};
    void* places = max_ ? data[pass_ == Pass::kForward ? 2 : 1] : nullptr;
    if (backward) fill(x(), out, T(0));
    each_index(y().shape, [&](const auto& iy) {
      if (max_)
        largest(vx, vy, iy, places);
      else
        average(vx, vy, iy);
    });
  }

 private:
  using Index = std::array<int64_t, kMaxDims>;
  const Spec& x() const { return pass_ == Pass::kBackward ? outs_[0] : ins_[0]; }
  const Spec& y() const { return pass_ == Pass::kBackward ? ins_[0] : outs_[0]; }

  /// Calls f(place in x, number of the tap) for the elements of a window that are not padding.
  template <class F>
  void each_tap(const Index& iy, F&& f) const {
    int64_t number = 0;
    each_index(kernel_, [&](const Index& tap) {
      Index ix = iy;
      const int64_t k = number++;
      for (int d = 0; d < kernel_.size(); ++d) {
        ix[d + 2] = iy[d + 2] * stride_[d] + tap[d] - pad_[d];
        if (ix[d + 2] < 0 || ix[d + 2] >= x().shape[d + 2]) return;
      }
      f(ix, k);
    });
  }

  void largest(const View<T>& vx, const View<T>& vy, const Index& iy, void* places) const {
    const Spec& spec = pass_ == Pass::kForward ? outs_[1] : ins_[1];
    int64_t offset = 0, best = -1;
    for (int d = 0; d < spec.shape.size(); ++d) offset += iy[d] * spec.strides[d];
    const bool narrow = spec.dtype == DType::kUInt8;
    if (pass_ != Pass::kForward) {
      best = narrow ? static_cast<uint8_t*>(places)[offset] : static_cast<int32_t*>(places)[offset];
      each_tap(iy, [&](const Index& ix, int64_t k) {
        if (k != best) return;
        if (pass_ == Pass::kGather)
          vy.at(iy) = vx.at(ix);
        else
          vx.at(ix) += vy.at(iy);
      });
      return;
    }
    T top = 0;
    each_tap(iy, [&](const Index& ix, int64_t k) {
      const T v = vx.at(ix);
      if (best < 0 || v > top || v != v) top = v, best = k;
    });
    vy.at(iy) = top;
    if (narrow)
      static_cast<uint8_t*>(places)[offset] = static_cast<uint8_t>(best);
    else
      static_cast<int32_t*>(places)[offset] = static_cast<int32_t>(best);
  }

  void average(const View<T>& vx, const View<T>& vy, const Index& iy) const {
    int64_t count = 0;
    T sum = 0;
    each_tap(iy, [&](const Index& ix, int64_t) {
      ++count;
      if (pass_ == Pass::kForward) sum += vx.at(ix);
    });
    const T share = T(1) / static_cast<T>(include_ ? kernel_.product() : count);
    if (pass_ == Pass::kForward)
      vy.at(iy) = sum * share;
    else
      each_tap(iy, [&](const Index& ix, int64_t) { vx.at(ix) += vy.at(iy) * share; });
  }

  Pass pass_;
  std::vector<Spec> ins_, outs_;
  Dims kernel_, stride_, pad_;
  bool max_, include_;
};

template <Role R>
KernelPtr conv(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& a) {
  if (outs[0].dtype == DType::kFloat64) return std::make_shared<PlainConv<double>>(R, ins, outs, a);
  return std::make_shared<PlainConv<float>>(R, ins, outs, a);
}

template <Pass P>
KernelPtr pool(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& a) {
  if (outs[0].dtype == DType::kFloat64) return std::make_shared<PlainPool<double>>(P, ins, outs, a);
  return std::make_shared<PlainPool<float>>(P, ins, outs, a);
}

}  // namespace

void register_plain_kernels() {
  register_kernel("conv_fwd_plain", conv<Role::kForward>);
  register_kernel("conv_bwd_data_plain", conv<Role::kData>);
  register_kernel("conv_bwd_weights_plain", conv<Role::kWeights>);
  register_kernel("pool_fwd_plain", pool<Pass::kForward>);
  register_kernel("pool_bwd_plain", pool<Pass::kBackward>);
  register_kernel("pool_gather", pool<Pass::kGather>);
}

}  // namespace minimx
