// Layouts are told by strides alone: Spec::shape is (N, C, *spatial) whatever lies where in memory.
#include "cuda/conv_call.h"

#include <algorithm>

#include "cuda/library_kernels.h"

namespace minimx::cuda {
namespace {

using Direction = ConvProblem::Direction;

std::vector<int64_t> list_of(const Attrs& attrs, const char* name) {
  return std::get<std::vector<int64_t>>(attrs.values.at(name));
}

/// Strides of a packed (N, C, *spatial), or of (N, *spatial, C) seen as that.
Dims packed_strides(const Dims& shape, bool channels_last) {
  if (!channels_last) return shape.contiguous_strides();
  Dims strides = Dims::filled(shape.size(), 1);
  int64_t step = shape[1];
  for (int i = shape.size() - 1; i >= 2; --i) strides[i] = step, step *= shape[i];
  strides[0] = step;
  return strides;
}

Spec as_packed(const Spec& spec, bool channels_last) {
  return {spec.dtype, spec.shape, packed_strides(spec.shape, channels_last), ""};
}

/// What cuDNN sees: at least two spatial axes.
ConvProblem::Tensor tensor_of(const ConvCall& c, const ConvCall::Operand& o, const ConvForm& form) {
  Dims shape = form.of(c, o).shape;
  if (shape.size() == 3) shape = {shape[0], shape[1], 1, shape[2]};
  const Dims strides = packed_strides(shape, form.channels_last);
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

}  // namespace

ConvCall call_of(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs,
                 int device) {
  ConvCall c;
  c.device = device;
  const int n = static_cast<int>(ins.size());
  if (name == "conv_fwd" || name == "conv_fwd_stats") {
    c.x = {&ins[0], 0}, c.w = {&ins[1], 1}, c.y = {&outs[0], n};
    const auto residual = attrs.values.find("residual");
    const bool adds = residual != attrs.values.end() && std::get<int64_t>(residual->second) != 0;
    if (adds) c.z = {&ins[n - 1], n - 1};
    if (n - adds > 2) c.b = {&ins[2], 2};
    if (outs.size() > 1) c.sum = {&outs[1], n + 1}, c.squares = {&outs[2], n + 2};
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

bool is_packed(const Spec& spec, bool channels_last) {
  const Dims strides = packed_strides(spec.shape, channels_last);
  for (int i = 0; i < spec.shape.size(); ++i)
    if (spec.shape[i] != 1 && spec.strides[i] != strides[i]) return false;
  return true;
}

bool prefers_channels_last(const ConvCall& c) {
  int last = is_packed(*c.out().spec, true) - is_packed(*c.out().spec, false);
  for (const Spec* s : {c.x.spec, c.w.spec, c.y.spec}) last += 2 * (is_packed(*s, true) - is_packed(*s, false));
  return last > 0;
}

Spec ConvForm::of(const ConvCall& c, const ConvCall::Operand& o) const {
  Spec seen = *o.spec;
  if (channels && &o != &c.y && &o != &c.z) seen.shape[1] = channels;
  return as_packed(seen, channels_last);
}

ConvProblem problem_of(const ConvCall& c, const ConvForm& form) {
  const LibrarySettings settings = library_settings();
  ConvProblem p;
  p.direction = c.direction;
  p.dtype = c.out().spec->dtype;
  p.x = tensor_of(c, c.x, form);
  p.w = tensor_of(c, c.w, form);
  p.y = tensor_of(c, c.y, form);
  p.stride = c.stride, p.dilation = c.dilation, p.pad_begin = c.pad;
  if (p.stride.size() == 1) {
    p.stride.insert(p.stride.begin(), 1), p.dilation.insert(p.dilation.begin(), 1);
    p.pad_begin.insert(p.pad_begin.begin(), 0);
  }
  p.pad_end = pad_end(p);
  p.bias = form.fused && c.b.spec && c.direction == Direction::kForward;
  p.wide_bias = p.bias && c.b.spec->dtype != p.dtype && !form.narrow;
  p.residual = form.fused && c.z.spec;
  p.relu = form.fused && c.relu;
  p.statistics = form.fused && c.sum.spec;
  p.tf32 = settings.allow_tf32 && p.dtype == DType::kFloat32;
  p.deterministic = settings.deterministic;
  p.alignment = kAlignment;
  return p;
}

}  // namespace minimx::cuda
