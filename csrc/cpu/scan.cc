// The "scan" kernel: cumulative sum and product along one axis. Sums of floats are carried in double.
// Neighbouring lines along the axis are carried together where they lie side by side in memory.
#include <memory>

#include "cpu/convert.h"
#include "cpu/strided.h"
#include "engine/parallel.h"

namespace minimx {
namespace {

constexpr int64_t kTile = 256;  // lines carried together, or elements of a line taken at a time
constexpr double kTaskNs = 20000;
constexpr double kElementNs = 1.5;

struct Sum {
  template <class A>
  static A init() {
    return 0;
  }
  template <class A>
  static A step(A acc, A x) {
    return acc + x;
  }
};
struct Product {
  template <class A>
  static A init() {
    return 1;
  }
  template <class A>
  static A step(A acc, A x) {
    return acc * x;
  }
};

/// A is the type that is carried: double or int64.
template <class F, class A>
class ScanKernel final : public Kernel {
 public:
  ScanKernel(const Spec& in, const Spec& out, int axis)
      : load_(find_convert(in.dtype, DTypeOf<A>::value)),
        store_(find_convert(DTypeOf<A>::value, out.dtype)),
        size_(in.size()) {
    lines_.operands = 2;
    // A flattened operand is contiguous: one line of all elements.
    const bool flat = in.shape.size() != out.shape.size() || in.shape.empty();
    n_ = flat ? in.size() : in.shape[axis];
    step_in_ = itemsize(in.dtype) * (flat ? 1 : in.strides[axis]);
    step_out_ = itemsize(out.dtype) * (flat ? 1 : out.strides[axis]);
    for (int d = 0; !flat && d < in.shape.size(); ++d)
      if (d != axis)
        lines_.push(in.shape[d], [&](int k) {
          return k == 0 ? in.strides[d] * itemsize(in.dtype) : out.strides[d] * itemsize(out.dtype);
        });
    lines_.normalise(1);
    together_ = std::abs(lines_.strides[1].back()) < std::abs(step_out_) && lines_.inner_size() > 1;
    tile_ = together_ ? std::min(kTile, lines_.inner_size()) : 1;
    grain_ = std::max<int64_t>(1, static_cast<int64_t>(kTaskNs / (kElementNs * (n_ * tile_ + 1))));
  }

  void run(void* const* data, void*) const override {
    if (size_ == 0) return;
    const int64_t inner = lines_.inner_size(), tiles = (inner + tile_ - 1) / tile_;
    parallel_for(lines_.size() / inner * tiles, grain_, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t column = t % tiles * tile_;
        const auto at = position_of(t / tiles * inner + column, lines_.shape);
        const char* in = static_cast<const char*>(data[0]);
        char* out = static_cast<char*>(data[1]);
        for (int d = 0; d < lines_.shape.size(); ++d) {
          in += at[d] * lines_.strides[0][d];
          out += at[d] * lines_.strides[1][d];
        }
        if (together_)
          scan_tile(in, out, std::min(tile_, inner - column));
        else
          scan_line(in, out);
      }
    });
  }

  double cost_ns() const override { return 20 + kElementNs * static_cast<double>(size_); }

 private:
  void scan_line(const char* in, char* out) const {
    A block[kTile], acc = F::template init<A>();
    for (int64_t i = 0; i < n_; i += kTile) {
      const int64_t n = std::min(kTile, n_ - i);
      load_(in + i * step_in_, step_in_, reinterpret_cast<char*>(block), sizeof(A), n);
      for (int64_t j = 0; j < n; ++j) block[j] = acc = F::step(acc, block[j]);
      store_(reinterpret_cast<char*>(block), sizeof(A), out + i * step_out_, step_out_, n);
    }
  }

  void scan_tile(const char* in, char* out, int64_t width) const {
    A block[kTile], acc[kTile];
    std::fill_n(acc, width, F::template init<A>());
    for (int64_t r = 0; r < n_; ++r) {
      load_(in + r * step_in_, lines_.strides[0].back(), reinterpret_cast<char*>(block), sizeof(A), width);
      for (int64_t i = 0; i < width; ++i) acc[i] = F::step(acc[i], block[i]);
      store_(reinterpret_cast<char*>(acc), sizeof(A), out + r * step_out_, lines_.strides[1].back(), width);
    }
  }

  Convert load_, store_;
  int64_t size_, n_ = 0, step_in_ = 0, step_out_ = 0;
  AxisSpace<2> lines_;  // every axis but the scanned one
  bool together_ = false;
  int64_t tile_ = 1, grain_ = 1;
};

template <class F>
KernelPtr make(bool integer, const Spec& in, const Spec& out, int axis) {
  if (integer) return std::make_shared<ScanKernel<F, int64_t>>(in, out, axis);
  return std::make_shared<ScanKernel<F, double>>(in, out, axis);
}

KernelPtr make_scan(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const bool integer = attrs.text("dtype") == "int64";
  const int axis = static_cast<int>(attrs.integer("axis"));
  return attrs.text("loop") == "cumsum" ? make<Sum>(integer, ins[0], outs[0], axis)
                                        : make<Product>(integer, ins[0], outs[0], axis);
}

}  // namespace

void register_scan_kernels() { register_kernel("scan", make_scan); }

}  // namespace minimx
