// Batch normalisation with ReLU and residual add inside, in as few passes over memory as it can be done in.
//
//   batch_norm_fwd_train(x, gamma, beta[, z]) -> y, mean, var[, mask]     y = relu(xhat * gamma + beta + z)
//   batch_norm_fwd_sums(x, gamma, beta, sum, squares[, z]) -> the same    from channel_sums of x
//   batch_norm_fwd_pair(x, gamma, beta, sum, squares, the same of x2) -> y, mask, mean, var, mean2, var2
//                                                       y = relu(xhat * gamma + beta + xhat2 * gamma2 + beta2)
//   batch_norm_bwd(x, dy, mean, var, gamma[, mask]) -> dx, dgamma, dbeta[, dz]
//   batch_norm_infer(x, gamma, beta, mean, var[, z]) -> y
//
// x, y, z, dy, dx, dz: (N, C, *spatial), any strides or layout; mean, var (biased), gamma, beta: (C,) strided; mask:
// uint8, one axis of batch_norm_mask_bytes(x). Types: float32; bfloat16 and float16 through float32 temporaries.
// Attributes: "eps"; "relu" = 1 for the fused ReLU (the backward then needs the mask); "global_stats" = 1 in the
// backward of normalisation by running statistics, which do not depend on x.
//
// Passes: forward reads x for the statistics, reads x (and z), writes y; backward reads x and dy, reads x and dy,
// writes dx (and dz). Where channels can be split over the threads, both passes of a channel block follow each other,
// so that the second finds its data in the cache. oneDNN's takes one pass more forward (mean, then variance). The
// variance is summed around the channel's first element, in blocks of float32 added up in double.
#include "cpu/batch_norm.h"

#include <cmath>
#include <tuple>

#include "cpu/batch_norm_view.h"
#include "cpu/dnnl_engine.h"
#include "cpu/dnnl_kernel.h"

namespace minimx {
namespace batch_norm {

using onednn::StagedKernel;
using Type = dnnl::memory::data_type;

View view_of(const Spec& x) {
  if (x.shape.size() < 2)
    throw Error(ErrorKind::kValue,
                "batch_norm: expected data (N, C, *spatial), got shape " + x.shape.str() + ". Add a batch axis.");
  const int64_t n = x.shape[0], c = x.shape[1];
  const int64_t spatial = n * c == 0 ? 0 : x.size() / (n * c);
  const auto have = onednn::try_desc(x);
  const auto inner = have ? have->get_inner_blks() : dnnl::memory::dims{};
  if (inner.size() == 1 && (inner[0] == 8 || inner[0] == 16) && have->get_inner_idxs()[0] == 1) {
    const onednn::Desc desc = onednn::with_type(*have, Type::f32);
    const int64_t blocks = have->get_padded_dims()[1] / inner[0];
    // Only N outermost then C: "aBcd16b", what oneDNN's convolutions use.
    if (have->get_strides()[0] >= have->get_strides()[1] && onednn::layout_name(desc)[0] == 'a')
      return {Form::kLanes, n, blocks, spatial, inner[0], c, desc};
  }
  const bool last = have && onednn::is_channels_last(*have);
  if (last || spatial == 1)
    return {Form::kLanes,
            1,
            1,
            n * spatial,
            c,
            c,
            last ? onednn::channels_last_desc(x.shape, Type::f32) : onednn::plain_desc(x.shape, Type::f32)};
  return {Form::kRun, n, c, 1, spatial, c, onednn::plain_desc(x.shape, Type::f32)};
}

namespace {

constexpr int64_t kFlushRows = 256;       // rows summed in float32 before they go to the double totals
constexpr int64_t kFlushElements = 4096;  // likewise of a run

/// The operands of one run; null where there is none.
struct Data {
  const float *x = nullptr, *z = nullptr, *dy = nullptr, *gamma = nullptr, *beta = nullptr;
  const float *sum = nullptr, *squares = nullptr;  // of a forward that is given them
  const uint8_t* mask_in = nullptr;
  float *y = nullptr, *dx = nullptr, *dz = nullptr, *mean = nullptr, *var = nullptr, *dgamma = nullptr,
        *dbeta = nullptr;
  uint8_t* mask_out = nullptr;
  float* coefficients = nullptr;  // three arrays of padded_channels: the shift first, then what `apply` needs
  double* totals = nullptr;       // (parts, padded_channels, 2)
  float* sums = nullptr;          // (parts, blocks, sum_width, 2)
};

int64_t sum_width(const View& v) { return v.form == Form::kRun ? 8 : v.length; }

/// Adds the float32 sums of a task to its totals and clears them.
void flush(const View& v, float* sums, double* totals) {
  const int64_t width = sum_width(v);
  for (int64_t i = 0; i < width; ++i) {
    const int64_t c = v.form == Form::kRun ? 0 : i;
    totals[2 * c] += sums[i];
    totals[2 * c + 1] += sums[width + i];
  }
  std::fill(sums, sums + 2 * width, 0.0f);
}

template <Form F, bool kBackward, bool kMask>
void sum_block(const View& v, const Split& split, int64_t block, int64_t part, const Data& d) {
  const int64_t channel = block * v.block_channels(), width = sum_width(v);
  double* totals = d.totals + 2 * (part * v.padded_channels() + channel);
  float* sums = d.sums + (part * v.blocks + block) * 2 * width;
  std::fill(totals, totals + 2 * v.block_channels(), 0.0);
  std::fill(sums, sums + 2 * width, 0.0f);
  const float* shift = d.coefficients + channel;
  const int64_t step = F == Form::kRun ? kFlushElements : v.length;
  int64_t summed = 0;
  each_tile(v, split, block, part, [&](int64_t rows, int64_t at, int64_t mask_at) {
    for (int64_t i = 0; i < v.length; i += step) {
      const int64_t n = std::min(step, v.length - i);
      sum_tile<F, kBackward, kMask>(rows, n, d.x + at + i, kBackward ? d.dy + at + i : nullptr,
                                    kMask ? d.mask_in + mask_at + i / 8 : nullptr, shift, sums, sums + width);
      summed += F == Form::kRun ? n : rows;
      if (summed >= (F == Form::kRun ? kFlushElements : kFlushRows)) flush(v, sums, totals), summed = 0;
    }
  });
  flush(v, sums, totals);
}

/// Adds up the parts of one channel.
std::pair<double, double> channel_sums(const View& v, const Split& split, int64_t channel, const Data& d) {
  double s = 0, q = 0;
  for (int64_t part = 0; part < split.parts; ++part) {
    const double* t = d.totals + 2 * (part * v.padded_channels() + channel);
    s += t[0], q += t[1];
  }
  return {s, q};
}

template <Form F>
void apply_forward(const View& v, const Split& split, int64_t block, int64_t part, const Data& d, bool relu) {
  const int64_t channel = block * v.block_channels();
  const float* scale = d.coefficients + channel;
  const float* offset = scale + v.padded_channels();
  with_flags(
      [&](auto has_relu, auto residual, auto mask) {
        each_tile(v, split, block, part, [&](int64_t rows, int64_t at, int64_t mask_at) {
          normalize_tile<F, has_relu, residual, mask>(rows, v.length, d.x + at, residual ? d.z + at : nullptr, scale,
                                                      offset, d.y + at, mask ? d.mask_out + mask_at : nullptr);
        });
      },
      relu, d.z != nullptr, d.mask_out != nullptr);
}

template <Form F>
void apply_backward(const View& v, const Split& split, int64_t block, int64_t part, const Data& d) {
  const float* a = d.coefficients + block * v.block_channels();
  const float *b = a + v.padded_channels(), *c = b + v.padded_channels();
  with_flags(
      [&](auto mask, auto residual) {
        each_tile(v, split, block, part, [&](int64_t rows, int64_t at, int64_t mask_at) {
          gradient_tile<F, mask, residual>(rows, v.length, d.x + at, d.dy + at, mask ? d.mask_in + mask_at : nullptr, a,
                                           b, c, d.dx + at, residual ? d.dz + at : nullptr);
        });
      },
      d.mask_in != nullptr, d.dz != nullptr);
}

/// scale and offset of a channel from its mean and variance; zero in the padding.
void set_scale(const View& v, const Data& d, int64_t c, double mean, double var, double eps) {
  const double scale = c < v.channels ? d.gamma[c] / std::sqrt(var + eps) : 0;
  d.coefficients[c] = static_cast<float>(scale);
  d.coefficients[v.padded_channels() + c] = c < v.channels ? static_cast<float>(d.beta[c] - mean * scale) : 0.0f;
}

/// dgamma, dbeta and the coefficients of dx = a * g + b * x + c, from the sums of g and g * (x - mean).
void set_gradient(const View& v, const Data& d, int64_t c, double s, double q, double eps, bool global_stats) {
  const int64_t stride = v.padded_channels();
  if (c >= v.channels) {
    d.coefficients[c] = d.coefficients[stride + c] = d.coefficients[2 * stride + c] = 0;
    return;
  }
  const double inv = 1 / std::sqrt(d.var[c] + eps), a = d.gamma[c] * inv;
  const double b = global_stats ? 0 : -a * inv * inv * q / v.count();
  const double offset = global_stats ? 0 : -a * s / v.count() - b * d.mean[c];
  d.dgamma[c] = static_cast<float>(q * inv);
  d.dbeta[c] = static_cast<float>(s);
  d.coefficients[c] = static_cast<float>(a);
  d.coefficients[stride + c] = static_cast<float>(b);
  d.coefficients[2 * stride + c] = static_cast<float>(offset);
}

template <Form F>
void train(const View& v, const Split& split, const Data& d, double eps, bool relu) {
  for (int64_t c = 0; c < v.padded_channels(); ++c)  // the shift: each channel's first element, but of given sums none
    d.coefficients[c] = d.sum ? 0 : d.x[c / v.block_channels() * v.rows * v.length + c % v.block_channels()];
  const auto finish = [&](int64_t block) {
    for (int64_t c = block * v.block_channels(); c < (block + 1) * v.block_channels(); ++c) {
      const auto [s, q] = !d.sum           ? channel_sums(v, split, c, d)
                          : c < v.channels ? std::pair<double, double>(d.sum[c], d.squares[c])
                                           : std::pair<double, double>(0, 0);
      const double shifted = s / v.count(), mean = d.coefficients[c] + shifted;
      const double square = q / v.count() - shifted * shifted, var = square < 0 ? 0 : square;
      if (c < v.channels) d.mean[c] = static_cast<float>(mean), d.var[c] = static_cast<float>(var);
      set_scale(v, d, c, mean, var, eps);
    }
  };
  const auto sum = [&](int64_t block, int64_t part) {
    if (!d.sum) sum_block<F, false, false>(v, split, block, part, d);
  };
  three_phases(v, split, sum, finish,
               [&](int64_t block, int64_t part) { apply_forward<F>(v, split, block, part, d, relu); });
}

template <Form F>
void infer(const View& v, const Split& split, const Data& d, double eps, bool relu) {
  for (int64_t c = 0; c < v.padded_channels(); ++c)
    set_scale(v, d, c, c < v.channels ? d.mean[c] : 0, c < v.channels ? d.var[c] : 0, eps);
  three_phases(
      v, split, [](int64_t, int64_t) {}, [](int64_t) {},
      [&](int64_t block, int64_t part) { apply_forward<F>(v, split, block, part, d, relu); });
}

template <Form F>
void backward(const View& v, const Split& split, const Data& d, double eps, bool global_stats) {
  for (int64_t c = 0; c < v.padded_channels(); ++c) d.coefficients[c] = c < v.channels ? d.mean[c] : 0;
  const auto sum = [&](int64_t block, int64_t part) {
    if (d.mask_in) {
      sum_block<F, true, true>(v, split, block, part, d);
    } else {
      sum_block<F, true, false>(v, split, block, part, d);
    }
  };
  const auto finish = [&](int64_t block) {
    for (int64_t c = block * v.block_channels(); c < (block + 1) * v.block_channels(); ++c) {
      const auto [s, q] = channel_sums(v, split, c, d);
      set_gradient(v, d, c, s, q, eps, global_stats);
    }
  };
  three_phases(v, split, sum, finish,
               [&](int64_t block, int64_t part) { apply_backward<F>(v, split, block, part, d); });
}

/// A kernel in the making: operands are bound to fields of Data by slot.
class Builder {
 public:
  Builder(std::span<const Spec> ins, std::span<const Spec> outs, double passes)
      : view_(view_of(ins[0])),
        cost_(500 + passes * 4.0 * static_cast<double>(ins[0].size()) / 8),
        threads_(onednn::threads_for(cost_)),
        split_(split_of(view_, threads_)),
        parameter_(onednn::plain_desc({view_.channels}, Type::f32)),
        kernel_(std::make_shared<StagedKernel>(ins, outs, cost_, threads_)) {}

  const View& view() const { return view_; }
  /// Data operands take the view's layout, parameters are float32 vectors.
  void read(int i, const float* Data::* field) { bind(kernel_->read(i, view_.desc), field); }
  void write(int i, float* Data::* field) { bind(kernel_->write(i, view_.desc), field); }
  template <class T>
  void read_parameter(int i, T Data::* field) {
    bind(kernel_->read(i, parameter_), field);
  }
  void write_parameter(int i, float* Data::* field) { bind(kernel_->write(i, parameter_), field); }
  /// Masks are bytes in the view's order, in a vector of at least batch_norm_mask_bytes.
  void read_mask(int i, const Spec& spec) {
    check_mask(spec);
    bind(kernel_->raw_input(i), &Data::mask_in);
  }
  void write_mask(int i, const Spec& spec) {
    check_mask(spec);
    bind(kernel_->raw_output(i), &Data::mask_out);
  }

  /// Closes the kernel: `run(view, split, data)` does the work.
  template <class Run>
  KernelPtr finish(Run run) {
    const int64_t channels = view_.padded_channels();
    bind(kernel_->temporary_bytes(3 * channels * sizeof(float)), &Data::coefficients);
    bind(kernel_->temporary_bytes(2 * split_.parts * channels * sizeof(double)), &Data::totals);
    bind(kernel_->temporary_bytes(2 * split_.parts * view_.blocks * sum_width(view_) * sizeof(float)), &Data::sums);
    kernel_->add([view = view_, split = split_, bindings = bindings_, run](char* const* slots) {
      Data data;
      for (const auto& set : bindings) set(data, slots);
      run(view, split, data);
    });
    kernel_->finish();
    return kernel_;
  }

 private:
  void check_mask(const Spec& spec) const {
    if (spec.dtype != DType::kUInt8 || !spec.contiguous() || spec.size() < view_.mask_bytes())
      throw Error(ErrorKind::kValue, "batch_norm: expected a contiguous uint8 mask of " +
                                         std::to_string(view_.mask_bytes()) + " bytes, got " + dtype_name(spec.dtype) +
                                         " " + spec.shape.str() + ". Allocate batch_norm_mask_bytes(x).");
  }
  template <class T>
  void bind(StagedKernel::Slot slot, T Data::* field) {
    bindings_.push_back([=](Data& d, char* const* slots) { d.*field = reinterpret_cast<T>(slots[slot]); });
  }

  View view_;
  double cost_;
  int threads_;
  Split split_;
  onednn::Desc parameter_;
  std::shared_ptr<StagedKernel> kernel_;
  std::vector<std::function<void(Data&, char* const*)>> bindings_;
};

bool flag(const Attrs& attrs, const char* name) { return attrs.has(name) && attrs.integer(name) != 0; }

template <bool kGiven>
KernelPtr make_train(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  if (onednn::any_empty(ins)) return onednn::zero_kernel(ins, outs);
  constexpr size_t kResidual = kGiven ? 5 : 3;
  Builder b(ins, outs, (kGiven ? 2 : 3) + (ins.size() > kResidual));
  b.read(0, &Data::x);
  b.read_parameter(1, &Data::gamma);
  b.read_parameter(2, &Data::beta);
  if (kGiven) b.read_parameter(3, &Data::sum), b.read_parameter(4, &Data::squares);
  if (ins.size() > kResidual) b.read(kResidual, &Data::z);
  b.write(0, &Data::y);
  b.write_parameter(1, &Data::mean);
  b.write_parameter(2, &Data::var);
  if (outs.size() > 3) b.write_mask(3, outs[3]);
  const double eps = attrs.real("eps");
  const bool relu = flag(attrs, "relu");
  return b.finish([=](const View& v, const Split& split, const Data& d) {
    v.form == Form::kRun ? train<Form::kRun>(v, split, d, eps, relu) : train<Form::kLanes>(v, split, d, eps, relu);
  });
}

KernelPtr make_infer(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  if (onednn::any_empty(ins)) return onednn::zero_kernel(ins, outs);
  Builder b(ins, outs, ins.size() > 5 ? 3 : 2);
  b.read(0, &Data::x);
  b.read_parameter(1, &Data::gamma);
  b.read_parameter(2, &Data::beta);
  b.read_parameter(3, &Data::mean);
  b.read_parameter(4, &Data::var);
  if (ins.size() > 5) b.read(5, &Data::z);
  b.write(0, &Data::y);
  const double eps = attrs.real("eps");
  const bool relu = flag(attrs, "relu");
  return b.finish([=](const View& v, const Split& split, const Data& d) {
    v.form == Form::kRun ? infer<Form::kRun>(v, split, d, eps, relu) : infer<Form::kLanes>(v, split, d, eps, relu);
  });
}

KernelPtr make_backward(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  if (onednn::any_empty(ins)) return onednn::zero_kernel(ins, outs);
  if (flag(attrs, "relu") != (ins.size() > 5))
    throw Error(ErrorKind::kValue,
                "batch_norm_bwd: expected the forward's mask as sixth operand exactly where relu=1, "
                "got " +
                    std::to_string(ins.size()) + " operands. Pass the mask and set relu.");
  Builder b(ins, outs, outs.size() > 3 ? 6 : 5);
  b.read(0, &Data::x);
  b.read(1, &Data::dy);
  b.read_parameter(2, &Data::mean);
  b.read_parameter(3, &Data::var);
  b.read_parameter(4, &Data::gamma);
  if (ins.size() > 5) b.read_mask(5, ins[5]);
  b.write(0, &Data::dx);
  b.write_parameter(1, &Data::dgamma);
  b.write_parameter(2, &Data::dbeta);
  if (outs.size() > 3) b.write(3, &Data::dz);
  const double eps = attrs.real("eps");
  const bool global = flag(attrs, "global_stats");
  return b.finish([=](const View& v, const Split& split, const Data& d) {
    v.form == Form::kRun ? backward<Form::kRun>(v, split, d, eps, global)
                         : backward<Form::kLanes>(v, split, d, eps, global);
  });
}

/// The second norm goes into a temporary, which the first takes as its residual.
class Pair final : public Kernel {
 public:
  Pair(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs)
      : temporary_bytes_((static_cast<size_t>(ins[5].size()) * itemsize(ins[5].dtype) + 63) / 64 * 64) {
    const Spec z{ins[5].dtype, ins[5].shape, ins[5].shape.contiguous_strides(), ""};
    const Spec second[] = {z, outs[4], outs[5]}, first[] = {outs[0], outs[2], outs[3], outs[1]};
    const Spec operands[] = {ins[0], ins[1], ins[2], ins[3], ins[4], z};
    second_ = make_train<true>(ins.subspan(5), second, {{{"eps", attrs.real("eps2")}}});
    first_ = make_train<true>(operands, first, {{{"eps", attrs.real("eps")}, {"relu", int64_t{1}}}});
  }
  void run(void* const* data, void* workspace) const override {
    char* z = static_cast<char*>(workspace);
    void* const* outs = data + 10;
    void* second[] = {data[5], data[6], data[7], data[8], data[9], z, outs[4], outs[5]};
    void* first[] = {data[0], data[1], data[2], data[3], data[4], z, outs[0], outs[2], outs[3], outs[1]};
    second_->run(second, z + temporary_bytes_);
    first_->run(first, z + temporary_bytes_);
  }
  size_t workspace_bytes() const override {
    return temporary_bytes_ + std::max(first_->workspace_bytes(), second_->workspace_bytes());
  }
  double cost_ns() const override { return first_->cost_ns() + second_->cost_ns(); }

 private:
  size_t temporary_bytes_;
  KernelPtr first_, second_;
};

KernelPtr make_pair_of_norms(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  return std::make_shared<Pair>(ins, outs, attrs);
}

}  // namespace
}  // namespace batch_norm

size_t batch_norm_mask_bytes(const Spec& x) {
  const int64_t n = x.shape[0], channels = (x.shape[1] + 15) / 16 * 16;
  int64_t spatial = 1;
  for (int i = 2; i < x.shape.size(); ++i) spatial *= x.shape[i];
  return static_cast<size_t>(n * channels * ((spatial + 7) / 8));
}

void register_batch_norm_kernels() {
  register_kernel("batch_norm_fwd_train", batch_norm::make_train<false>);
  register_kernel("batch_norm_fwd_sums", batch_norm::make_train<true>);
  register_kernel("batch_norm_fwd_pair", batch_norm::make_pair_of_norms);
  register_kernel("batch_norm_infer", batch_norm::make_infer);
  register_kernel("batch_norm_bwd", batch_norm::make_backward);
}

}  // namespace minimx
