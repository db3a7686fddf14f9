// Convolutions of a GPU, 1d to 3d: conv_fwd, conv_bwd_data and conv_bwd_weights, as csrc/cpu/dnnl_conv.cc defines them.
//
// cuDNN gets operands packed with channels first or all packed with channels last, whichever most of them already are;
// the others are copied through temporaries. A bias or ReLU that no engine of cuDNN takes in is a step of its own, as
// is the sum for the bias' gradient. What cuDNN does not compute at all goes to the plain kernel of minimx/rtc/cuda.
#include <algorithm>
#include <mutex>

#include "cuda/conv_plan.h"
#include "cuda/device.h"
#include "cuda/steps.h"

namespace minimx::cuda {
namespace {

using Direction = ConvProblem::Direction;

constexpr int64_t kAlignment = 16;  // in bytes; what cuDNN's best engines want of every operand

/// The operands by role, with their places in `data`. `x` stands for x or dx, `y` for y or dy, and so on.
struct Call {
  struct Operand {
    const Spec* spec = nullptr;
    int place = -1;
  };
  Direction direction = Direction::kForward;
  Operand x, w, y, b;
  std::vector<int64_t> stride, pad, dilation;
  bool relu = false;
  int device = 0;

  const Operand& out() const { return direction == Direction::kForward ? y : direction == Direction::kData ? x : w; }
};

std::vector<int64_t> list_of(const Attrs& attrs, const char* name) {
  return std::get<std::vector<int64_t>>(attrs.values.at(name));
}

Call call_of(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs,
             int device) {
  Call c;
  c.device = device;
  const int n = static_cast<int>(ins.size());
  if (name == "conv_fwd") {
    c.x = {&ins[0], 0}, c.w = {&ins[1], 1}, c.y = {&outs[0], n};
    if (n > 2) c.b = {&ins[2], 2};
    const auto relu = attrs.values.find("relu");
    c.relu = relu != attrs.values.end() && std::get<int64_t>(relu->second) != 0;
  } else if (name == "conv_bwd_data") {
    c.direction = Direction::kData;
    c.y = {&ins[0], 0}, c.w = {&ins[1], 1}, c.x = {&outs[0], n};
  } else {
    c.direction = Direction::kWeights;
    c.x = {&ins[0], 0}, c.y = {&ins[1], 1}, c.w = {&outs[0], n};
    if (outs.size() > 1) c.b = {&outs[1], n + 1};
  }
  c.stride = list_of(attrs, "stride"), c.pad = list_of(attrs, "pad"), c.dilation = list_of(attrs, "dilate");
  return c;
}

// --- layouts
// -----------------------------------------------------------------------------------------------------------

/// Strides of a packed (N, C, *spatial), or of (N, *spatial, C) seen as that.
Dims packed_strides(const Dims& shape, bool channels_last) {
  if (!channels_last) return shape.contiguous_strides();
  Dims strides = Dims::filled(shape.size(), 1);
  int64_t step = shape[1];
  for (int i = shape.size() - 1; i >= 2; --i) strides[i] = step, step *= shape[i];
  strides[0] = step;
  return strides;
}

bool is_packed(const Spec& spec, bool channels_last) {
  const Dims strides = packed_strides(spec.shape, channels_last);
  for (int i = 0; i < spec.shape.size(); ++i)
    if (spec.shape[i] != 1 && spec.strides[i] != strides[i]) return false;
  return true;
}

/// The layout that fewest operands must be copied for; the output's where that is even.
bool prefers_channels_last(const Call& c) {
  int last = is_packed(*c.out().spec, true) - is_packed(*c.out().spec, false);
  for (const Spec* s : {c.x.spec, c.w.spec, c.y.spec}) last += 2 * (is_packed(*s, true) - is_packed(*s, false));
  return last > 0;
}

Spec as_packed(const Spec& spec, bool channels_last) {
  return {spec.dtype, spec.shape, packed_strides(spec.shape, channels_last), ""};
}

/// What cuDNN sees: at least two spatial axes.
ConvProblem::Tensor tensor_of(const Spec& spec, bool channels_last) {
  Dims shape = spec.shape;
  if (shape.size() == 3) shape = {shape[0], shape[1], 1, shape[2]};
  const Dims strides = packed_strides(shape, channels_last);
  return {{shape.begin(), shape.end()}, {strides.begin(), strides.end()}};
}

/// Padding at the end: that of the beginning where the shapes allow, which more engines take, else what they ask for.
std::vector<int64_t> pad_end(const ConvProblem& p) {
  std::vector<int64_t> end;
  for (size_t i = 0; i < p.stride.size(); ++i) {
    const int64_t x = p.x.shape[i + 2], y = p.y.shape[i + 2], step = p.stride[i], begin = p.pad_begin[i];
    const int64_t extent = (p.w.shape[i + 2] - 1) * p.dilation[i] + 1;
    const bool symmetric = x + 2 * begin >= extent && (x + 2 * begin - extent) / step + 1 == y;
    end.push_back(symmetric ? begin : std::max<int64_t>(0, (y - 1) * step + extent - x - begin));
  }
  return end;
}

ConvProblem problem_of(const Call& c, bool channels_last, bool fused) {
  const LibrarySettings settings = library_settings();
  ConvProblem p;
  p.direction = c.direction;
  p.dtype = c.out().spec->dtype;
  p.x = tensor_of(*c.x.spec, channels_last);
  p.w = tensor_of(*c.w.spec, channels_last);
  p.y = tensor_of(*c.y.spec, channels_last);
  p.stride = c.stride, p.dilation = c.dilation, p.pad_begin = c.pad;
  if (p.stride.size() == 1) {
    p.stride.insert(p.stride.begin(), 1), p.dilation.insert(p.dilation.begin(), 1);
    p.pad_begin.insert(p.pad_begin.begin(), 0);
  }
  p.pad_end = pad_end(p);
  p.bias = fused && c.b.spec && c.direction == Direction::kForward;
  p.relu = fused && c.relu;
  p.tf32 = settings.allow_tf32 && p.dtype == DType::kFloat32;
  p.deterministic = settings.deterministic;
  p.alignment = kAlignment;
  return p;
}

// --- kernels
// -----------------------------------------------------------------------------------------------------------

/// cuDNN's part. Data: x, w, y and, where fused, b. Immutable but for a second plan, made when operands are first seen
/// that are aligned to their elements only (a slice of a batch).
class ConvKernel final : public DeviceKernel {
 public:
  ConvKernel(ConvProblem problem, std::shared_ptr<const ConvPlan> plan, int device)
      : problem_(std::move(problem)), plan_(std::move(plan)), device_(device) {}
  size_t workspace_bytes() const override { return plan_->workspace_bytes(); }

  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override {
    uintptr_t bits = 0;
    for (int i = 0; i < (problem_.bias ? 4 : 3); ++i) bits |= reinterpret_cast<uintptr_t>(data[i]);
    const ConvPlan& plan = bits % kAlignment == 0 ? *plan_ : unaligned();
    plan.enqueue(data[0], data[1], data[2], problem_.bias ? data[3] : nullptr, workspace, stream);
  }

 private:
  const ConvPlan& unaligned() const {
    std::call_once(once_, [this] {
      ConvProblem p = problem_;
      p.alignment = itemsize(p.dtype);
      p.workspace = static_cast<int64_t>(plan_->workspace_bytes());
      unaligned_ = find_conv_plan(p, device_);
    });
    if (!unaligned_)
      throw Error(ErrorKind::kNotImplemented,
                  "convolution: expected operands whose memory begins at a multiple of 16 bytes, got a view that does "
                  "not, and cuDNN has no other way for this shape. Copy it first.");
    return *unaligned_;
  }

  ConvProblem problem_;
  std::shared_ptr<const ConvPlan> plan_;
  int device_;
  mutable std::once_flag once_;
  mutable std::shared_ptr<const ConvPlan> unaligned_;
};

/// Collects the steps around cuDNN's: each operand's place in the layout that cuDNN gets.
class Builder {
 public:
  Builder(const Call& call, bool channels_last) : c_(call), last_(channels_last), steps_(std::make_shared<Steps>()) {}

  KernelPtr build(const std::shared_ptr<ConvKernel>& kernel, bool fused) {
    const Steps::Place x = place(c_.x), w = place(c_.w), y = place(c_.y);
    std::vector<Steps::Place> places{x, w, y};
    if (fused && c_.b.spec) places.push_back(bias());
    steps_->add(kernel, places);
    if (c_.direction == Direction::kForward && !fused) finish_forward(y);
    if (c_.direction == Direction::kWeights && c_.b.spec) add_bias_gradient();
    write_back(places[c_.direction == Direction::kForward ? 2 : c_.direction == Direction::kData ? 0 : 1]);
    return steps_;
  }

 private:
  Steps::Place place(const Call::Operand& o) {
    if (is_packed(*o.spec, last_)) return {o.place};
    const Spec seen = as_packed(*o.spec, last_);
    const Steps::Place made = steps_->temporary(seen);
    if (&o != &c_.out()) steps_->add(copy(*o.spec, seen, c_.device), {{o.place}, made});
    return made;
  }
  Steps::Place bias() {
    const Spec seen = packed(c_.b.spec->dtype, c_.b.spec->shape);
    if (c_.b.spec->strides[0] == 1 || c_.b.spec->shape[0] == 1) return {c_.b.place};
    const Steps::Place made = steps_->temporary(seen);
    steps_->add(copy(*c_.b.spec, seen, c_.device), {{c_.b.place}, made});
    return made;
  }
  /// y = max(0, y + b), in place.
  void finish_forward(Steps::Place y) {
    const Spec seen = as_packed(*c_.y.spec, last_);
    if (c_.b.spec) {
      Spec row = seen;
      row.strides = Dims::filled(seen.shape.size(), 0);
      row.strides[1] = c_.b.spec->strides[0];
      steps_->add(sum_of(seen, row, seen, c_.device), {y, {c_.b.place}, y});
    }
    if (c_.relu) {
      const Attrs attrs{{{"loop", "relu"}, {"dtype", dtype_name(seen.dtype)}}};
      steps_->add(device_kernel("elemwise", {&seen, 1}, {&seen, 1}, attrs, c_.device), {y, y});
    }
  }
  void add_bias_gradient() {
    const Spec& dy = *c_.y.spec;
    std::vector<int64_t> axes{0};
    for (int i = 2; i < dy.shape.size(); ++i) axes.push_back(i);
    const Attrs attrs{{{"loop", "sum"}, {"dtype", "float32"}, {"axes", axes}}};
    steps_->add(device_kernel("reduce", {&dy, 1}, {c_.b.spec, 1}, attrs, c_.device), {{c_.y.place}, {c_.b.place}});
  }
  void write_back(Steps::Place made) {
    const Spec& out = *c_.out().spec;
    if (made.operand < 0) steps_->add(copy(as_packed(out, last_), out, c_.device), {made, {c_.out().place}});
  }

  const Call& c_;
  bool last_;
  std::shared_ptr<Steps> steps_;
};

/// Null where cuDNN has no plan.
KernelPtr attempt(const Call& c, bool channels_last, bool fused) {
  const ConvProblem p = problem_of(c, channels_last, fused);
  auto plan = find_conv_plan(p, c.device);
  if (!plan) return nullptr;
  return Builder(c, channels_last).build(std::make_shared<ConvKernel>(p, std::move(plan), c.device), fused);
}

KernelPtr library_conv(const Call& c) {
  const bool last = prefers_channels_last(c);
  const bool follows = c.direction == Direction::kForward && (c.b.spec || c.relu);
  for (const bool layout : {last, !last}) {
    KernelPtr kernel = follows ? attempt(c, layout, true) : nullptr;
    if (!kernel) kernel = attempt(c, layout, false);
    if (kernel) return kernel;
  }
  return nullptr;
}

/// Zeros in every output that has elements: a sum over nothing.
KernelPtr nothing(std::span<const Spec> ins, std::span<const Spec> outs, int device) {
  auto steps = std::make_shared<Steps>();
  for (size_t i = 0; i < outs.size(); ++i)
    if (outs[i].size() != 0) steps->add(zeros(outs[i], device), {{static_cast<int>(ins.size() + i)}});
  return steps;
}

bool library_has(const Spec& s) {
  return s.layout.empty() && (s.dtype == DType::kFloat32 || s.dtype == DType::kFloat16 || s.dtype == DType::kBFloat16);
}

}  // namespace

KernelPtr make_conv(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs,
                    int device) {
  gpu(device).use();
  if (any_empty(ins) || any_empty(outs)) return nothing(ins, outs, device);
  if (std::all_of(ins.begin(), ins.end(), library_has))
    if (KernelPtr kernel = library_conv(call_of(name, ins, outs, attrs, device))) return kernel;
  return device_kernel(name + "_plain", ins, outs, attrs, device);
}

}  // namespace minimx::cuda
