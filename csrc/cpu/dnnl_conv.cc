// Convolutions by oneDNN, 1d to 3d, and the layouts oneDNN would like them to have (conv_layouts of dnnl_layout.h).
//
//   conv_fwd(x, w[, b][, z]) -> y     y = conv(x, w) + b; with "residual" = 1 the last input is z, of y's shape, and
//                                     is added; with "relu" = 1: max(y, 0)
//   conv_bwd_data(dy, w) -> dx        also the forward of a deconvolution: dx's shape is taken from its Spec
//   conv_bwd_weights(x, dy) -> dw[, db]
//
// Shapes: x (N, C, *in), w (O, C/groups, *k), b (O,), y (N, O, *out). Attributes: "stride", "pad" (at the beginning;
// the end follows from the shapes), "dilate" (1 is dense), "groups". Types: float32, and bfloat16/float16, which run
// natively where the CPU has them and else through float32 temporaries (their bias may be float32); others throw
// kNotImplemented.
// Any strides and layouts are accepted. Data that is neither channels-last nor blocked is reordered to what oneDNN
// prefers; weights always are.
#include <algorithm>

#include "cpu/dnnl_engine.h"
#include "cpu/dnnl_kernel.h"
#include "cpu/dnnl_layout.h"

namespace minimx {
namespace onednn {
namespace {

using dnnl::memory;
using dnnl::prop_kind;
using Type = memory::data_type;

enum class Direction { kForward, kData, kWeights };
constexpr const char* kNames[] = {"conv_fwd", "conv_bwd_data", "conv_bwd_weights"};

/// The operands by role. `x` stands for x or dx, `y` for y or dy, and so on.
struct Problem {
  Direction direction;
  const Spec *x, *w, *y, *b = nullptr, *z = nullptr;
  bool relu = false;
  int64_t groups = 1;
  memory::dims stride, dilation, pad_begin, pad_end;

  const char* name() const { return kNames[static_cast<int>(direction)]; }
  double flops() const;
};

double Problem::flops() const {
  double macs = static_cast<double>(y->size());
  for (int i = 1; i < w->shape.size(); ++i) macs *= static_cast<double>(w->shape[i]);
  return 2 * macs;
}

bool flag(const Attrs& attrs, const char* name) { return attrs.has(name) && attrs.integer(name) != 0; }

void check_ranks(const Problem& p, const Attrs& attrs) {
  const int rank = p.x->shape.size(), spatial = rank - 2;
  bool ok = spatial >= 1 && spatial <= 3 && p.w->shape.size() == rank && p.y->shape.size() == rank;
  for (const char* name : {"stride", "pad", "dilate"}) ok = ok && attrs.dims(name).size() == spatial;
  ok = ok && p.groups > 0 && p.w->shape[1] * p.groups == p.x->shape[1] && p.w->shape[0] % p.groups == 0;
  if (!ok)
    throw Error(ErrorKind::kValue,
                std::string(p.name()) + ": expected data (N, C, *spatial) of 1 to 3 spatial axes and " +
                    "weights (O, C/groups, *kernel), got data " + p.x->shape.str() + ", weights " + p.w->shape.str() +
                    " and groups " + std::to_string(p.groups) + ". Check the channels and the layout argument.");
}

void read_attrs(Problem& p, const Attrs& attrs) {
  p.groups = attrs.has("groups") ? attrs.integer("groups") : 1;
  check_ranks(p, attrs);
  p.stride = dnnl_dims(attrs.dims("stride"));
  p.pad_begin = dnnl_dims(attrs.dims("pad"));
  p.dilation = dnnl_dims(attrs.dims("dilate"));
  for (size_t i = 0; i < p.stride.size(); ++i) {
    const int axis = static_cast<int>(i) + 2;
    const int64_t extent = (p.w->shape[axis] - 1) * p.dilation[i] + 1;
    p.pad_end.push_back(
        std::max<int64_t>(0, (p.y->shape[axis] - 1) * p.stride[i] + extent - p.x->shape[axis] - p.pad_begin[i]));
    p.dilation[i] -= 1;  // oneDNN counts from 0
  }
}

Problem problem(Direction d, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  Problem p{};
  p.direction = d;
  if (d == Direction::kForward) {
    if (flag(attrs, "residual")) p.z = &ins.back(), ins = ins.first(ins.size() - 1);
    p.x = &ins[0], p.w = &ins[1], p.y = &outs[0], p.b = ins.size() > 2 ? &ins[2] : nullptr;
    p.relu = flag(attrs, "relu");
  } else if (d == Direction::kData) {
    p.y = &ins[0], p.w = &ins[1], p.x = &outs[0];
  } else {
    p.x = &ins[0], p.y = &ins[1], p.w = &outs[0], p.b = outs.size() > 1 ? &outs[1] : nullptr;
  }
  read_attrs(p, attrs);
  return p;
}

/// Shape of the weights as oneDNN counts: (groups, O/groups, C/groups, *k) where there are groups.
Dims weights_shape(const Problem& p) {
  if (p.groups == 1) return p.w->shape;
  Dims shape{p.groups, p.w->shape[0] / p.groups};
  for (int i = 1; i < p.w->shape.size(); ++i) shape.push_back(p.w->shape[i]);
  return shape;
}

/// The weights' own descriptor in that shape; nothing where oneDNN has none.
std::optional<Desc> weights_desc(const Problem& p) {
  if (p.groups == 1) return try_desc(*p.w);
  Spec grouped = *p.w;
  if (!grouped.layout.empty())
    throw Error(ErrorKind::kValue, std::string(p.name()) + ": expected strided weights where groups > 1, got layout '" +
                                       grouped.layout + "'. Reorder them first.");
  grouped.shape = weights_shape(p);
  grouped.strides = Dims{p.w->strides[0] * grouped.shape[1]};
  for (int64_t s : p.w->strides) grouped.strides.push_back(s);
  return try_desc(grouped);
}

/// Descriptors and primitive descriptor chosen for a problem.
struct Plan {
  Desc x, w, y, b;
  dnnl::primitive_desc_base pd;
  bool reference = false;  // no optimised implementation
  bool sum = false;        // z must be in y before the primitive runs, else it is an operand
  explicit operator bool() const { return static_cast<bool>(pd); }
};

enum class Residual { kNone, kOperand, kSum };

/// `y`: the descriptor of y and of z, where z is an operand.
dnnl::primitive_attr conv_attr(const Problem& p, Residual residual, const Desc& y) {
  auto attr = default_attr();
  dnnl::post_ops ops;
  if (residual == Residual::kOperand) ops.append_binary(dnnl::algorithm::binary_add, y);
  if (residual == Residual::kSum) ops.append_sum(1.0f);
  if (p.relu) ops.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
  if (residual != Residual::kNone || p.relu) attr.set_post_ops(ops);
  return attr;
}

template <class PD>
Plan plan_of(const PD& pd, const Desc& x, const Desc& w, const Desc& y, const Desc& b) {
  Plan plan{x, w, y, b, pd};
  plan.reference = std::string(pd.impl_info_str()).rfind("ref", 0) == 0;
  return plan;
}

/// Empty where oneDNN has no implementation for these descriptors.
Plan make_plan(const Problem& p, const Desc& x, const Desc& w, const Desc& y, Type type,
               Residual residual = Residual::kNone) {
  const auto direct = dnnl::algorithm::convolution_direct;
  const bool inference = p.relu || residual != Residual::kNone;
  const bool wide = p.b && p.direction == Direction::kForward && p.b->dtype == DType::kFloat32;
  const Type bias_type = wide ? Type::f32 : type;
  const Desc b = p.b ? plain_desc({p.w->shape[0]}, bias_type) : Desc();
  const Desc no_bias;
  const auto kind = inference ? prop_kind::forward_inference : prop_kind::forward_training;
  const bool forward = p.direction == Direction::kForward;
  const dnnl::convolution_forward::primitive_desc fwd(cpu_engine(), kind, direct, x, w, forward ? b : no_bias, y,
                                                      p.stride, p.dilation, p.pad_begin, p.pad_end,
                                                      forward ? conv_attr(p, residual, y) : default_attr(), true);
  if (!fwd.get(true)) return {};
  if (forward) return plan_of(fwd, fwd.src_desc(), fwd.weights_desc(), fwd.dst_desc(), b);
  if (p.direction == Direction::kData) {
    const dnnl::convolution_backward_data::primitive_desc pd(cpu_engine(), direct, x, w, y, p.stride, p.dilation,
                                                             p.pad_begin, p.pad_end, fwd, default_attr(), true);
    if (!pd.get(true)) return {};
    return plan_of(pd, pd.diff_src_desc(), pd.weights_desc(), pd.diff_dst_desc(), b);
  }
  const dnnl::convolution_backward_weights::primitive_desc pd(cpu_engine(), direct, x, w, b, y, p.stride, p.dilation,
                                                              p.pad_begin, p.pad_end, fwd, default_attr(), true);
  if (!pd.get(true)) return {};
  return plan_of(pd, pd.src_desc(), pd.diff_weights_desc(), pd.diff_dst_desc(), b);
}

/// The layout a data operand should keep, or "any": plain C order is left to oneDNN to improve on.
Desc data_desc(const Spec& spec, Type type) {
  const auto have = try_desc(spec);
  if (have && have->get_inner_nblks() > 0) return with_type(*have, type);
  if (have && is_channels_last(*have)) return channels_last_desc(spec.shape, type);
  return any_desc(spec.shape, type);
}

/// The same with z as an operand of the primitive, or else as what y holds before.
Plan with_residual(const Problem& p, const Plan& plain, Type type) {
  for (const Residual residual : {Residual::kOperand, Residual::kSum}) {
    Plan plan = make_plan(p, plain.x, any_desc(weights_shape(p), type), plain.y, type, residual);
    plan.sum = residual == Residual::kSum;
    if (plan && (!plan.reference || plain.reference)) return plan;
  }
  return {};
}

/// Native 16-bit arithmetic where it is optimised, else float32.
Plan choose_plan(const Problem& p) {
  for (const Spec* s : {p.x, p.w, p.y})
    if (s->dtype != DType::kFloat32 && s->dtype != DType::kBFloat16 && s->dtype != DType::kFloat16)
      throw Error(ErrorKind::kNotImplemented, std::string(p.name()) + ": expected float32, bfloat16 or float16, got " +
                                                  dtype_name(s->dtype) + ". Cast with astype.");
  const Type native = data_type(p.x->dtype);
  for (Type type : {native, Type::f32}) {
    const Desc any_w = any_desc(weights_shape(p), type);
    const Desc any_x = any_desc(p.x->shape, type), any_y = any_desc(p.y->shape, type);
    Plan plan = make_plan(p, data_desc(*p.x, type), any_w, data_desc(*p.y, type), type);
    if (!plan || plan.reference) {  // mixed layouts: let oneDNN choose all, if that helps
      Plan free = make_plan(p, any_x, any_w, any_y, type);
      if (free && (!plan || !free.reference)) plan = free;
    }
    if (plan && p.z) plan = with_residual(p, plan, type);
    if (plan && (!plan.reference || type == Type::f32)) return plan;
  }
  throw Error(ErrorKind::kNotImplemented, std::string(p.name()) + ": expected a convolution oneDNN has, got data " +
                                              p.x->shape.str() + ", weights " + p.w->shape.str() + ", output " +
                                              p.y->shape.str() + ". Check stride, pad and dilate.");
}

KernelPtr build(const Problem& p, std::span<const Spec> ins, std::span<const Spec> outs) {
  const double bytes = 4.0 * (p.x->size() + p.w->size() + p.y->size());
  const double cost = 500 + p.flops() / 50 + bytes / 8;
  const int threads = threads_for(cost);
  const ThreadScope scope(threads);
  const Plan plan = choose_plan(p);
  const auto w_have = weights_desc(p);
  const Desc* w_seen = w_have ? &*w_have : nullptr;
  auto kernel = std::make_shared<StagedKernel>(ins, outs, cost, threads);
  std::vector<StagedKernel::Arg> args;
  if (p.direction == Direction::kForward) {
    args = {{DNNL_ARG_SRC, kernel->read(0, plan.x)}, {DNNL_ARG_WEIGHTS, kernel->read(1, plan.w, w_seen)}};
    if (p.b) args.push_back({DNNL_ARG_BIAS, kernel->read(2, plan.b)});
    const auto y = kernel->write(0, plan.y);
    args.push_back({DNNL_ARG_DST, y});
    if (p.z && plan.sum) kernel->load(static_cast<int>(ins.size()) - 1, y);
    if (p.z && !plan.sum)
      args.push_back(
          {DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, kernel->read(static_cast<int>(ins.size()) - 1, plan.y)});
  } else if (p.direction == Direction::kData) {
    args = {{DNNL_ARG_DIFF_DST, kernel->read(0, plan.y)}, {DNNL_ARG_WEIGHTS, kernel->read(1, plan.w, w_seen)}};
    args.push_back({DNNL_ARG_DIFF_SRC, kernel->write(0, plan.x)});
  } else {
    args = {{DNNL_ARG_SRC, kernel->read(0, plan.x)}, {DNNL_ARG_DIFF_DST, kernel->read(1, plan.y)}};
    args.push_back({DNNL_ARG_DIFF_WEIGHTS, kernel->write(0, plan.w, w_seen)});
    if (p.b) args.push_back({DNNL_ARG_DIFF_BIAS, kernel->write(1, plan.b)});
  }
  kernel->add(dnnl::primitive(plan.pd.get()), std::move(args));
  kernel->finish();
  return kernel;
}

template <Direction D>
KernelPtr make(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const Problem p = problem(D, ins, outs, attrs);
  if (any_empty(ins) || any_empty(outs)) return zero_kernel(ins, outs);
  return wrapped(p.name(), [&] { return build(p, ins, outs); });
}

}  // namespace
}  // namespace onednn

ConvLayouts conv_layouts(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs,
                         const std::string& direction) {
  using namespace onednn;
  const auto d = direction == "fwd"        ? Direction::kForward
                 : direction == "bwd_data" ? Direction::kData
                                           : Direction::kWeights;
  const Problem p = problem(d, ins, outs, attrs);
  if (any_empty(ins) || any_empty(outs)) return {};
  return wrapped("conv_layouts", [&]() -> ConvLayouts {
    const Type type = data_type(p.x->dtype);
    if (type == Type::undef) return {};
    const ThreadScope scope(threads_for(p.flops() / 50));
    const Plan plan =
        make_plan(p, any_desc(p.x->shape, type), any_desc(weights_shape(p), type), any_desc(p.y->shape, type), type);
    if (!plan || plan.reference) return {};
    return {layout_name(plan.x), p.groups == 1 ? layout_name(plan.w) : "", layout_name(plan.y)};
  });
}

void register_conv_kernels() {
  using onednn::Direction;
  register_kernel("conv_fwd", onednn::make<Direction::kForward>);
  register_kernel("conv_bwd_data", onednn::make<Direction::kData>);
  register_kernel("conv_bwd_weights", onednn::make<Direction::kWeights>);
}

}  // namespace minimx
