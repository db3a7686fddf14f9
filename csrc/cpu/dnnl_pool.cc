// Pooling by oneDNN, 1d to 3d, and the reorder kernel.
//
//   pool_fwd(x) -> y[, index]     x (N, C, *in), y (N, C, *out)
//   pool_bwd(dy[, index]) -> dx   max needs the index of the forward run; the averages have none
//   reorder(x) -> y               same shape, any layouts, strides and float types
//
// Attributes of both pools: "kind" ("max", "avg_include": padding counts, "avg_exclude"), "kernel", "stride", "pad" (at
// the beginning). The padding at the end follows from the shapes, so a "full" (ceil) output just has a larger Spec;
// "avg_include" then still divides by the whole kernel.
// The index has y's shape and layout and type pool_index_dtype(kernel): uint8, or int32 when a window holds more than
// 255 elements. It is the place of the maximum inside its window, for pool_bwd of the same attributes only.
// Without the index output, pool_fwd is the inference form.
#include "cpu/dnnl_pool.h"

#include <algorithm>

#include "cpu/dnnl_engine.h"
#include "cpu/dnnl_kernel.h"
#include "cpu/dnnl_layout.h"

namespace minimx {

DType pool_index_dtype(const Dims& kernel) { return kernel.product() <= 255 ? DType::kUInt8 : DType::kInt32; }

namespace onednn {
namespace {

using dnnl::memory;
using Type = memory::data_type;

struct Pool {
  dnnl::algorithm algorithm;
  bool max = false;
  memory::dims stride, kernel, dilation, pad_begin, pad_end;
};

dnnl::algorithm algorithm_of(const std::string& kind) {
  if (kind == "max") return dnnl::algorithm::pooling_max;
  if (kind == "avg_include") return dnnl::algorithm::pooling_avg_include_padding;
  if (kind == "avg_exclude") return dnnl::algorithm::pooling_avg_exclude_padding;
  throw Error(ErrorKind::kValue,
              "pool: expected kind 'max', 'avg_include' or 'avg_exclude', got '" + kind + "'. Use one of them.");
}

Pool pool_of(const Spec& x, const Spec& y, const Attrs& attrs) {
  Pool p{};
  p.algorithm = algorithm_of(attrs.text("kind"));
  p.max = p.algorithm == dnnl::algorithm::pooling_max;
  const Dims kernel = attrs.dims("kernel"), stride = attrs.dims("stride"), pad = attrs.dims("pad");
  const int spatial = x.shape.size() - 2;
  if (spatial < 1 || spatial > 3 || y.shape.size() != x.shape.size() || kernel.size() != spatial ||
      stride.size() != spatial || pad.size() != spatial)
    throw Error(ErrorKind::kValue,
                "pool: expected data (N, C, *spatial) of 1 to 3 spatial axes and as many of kernel, "
                "stride and pad, got data " +
                    x.shape.str() + ", kernel " + kernel.str() + ". Check the attributes.");
  p.kernel = dnnl_dims(kernel), p.stride = dnnl_dims(stride), p.pad_begin = dnnl_dims(pad);
  p.dilation.assign(spatial, 0);
  for (int i = 0; i < spatial; ++i)
    p.pad_end.push_back(std::max<int64_t>(0, (y.shape[i + 2] - 1) * stride[i] + kernel[i] - x.shape[i + 2] - pad[i]));
  return p;
}

void check_type(const Spec& x) {
  if (x.dtype != DType::kFloat32 && x.dtype != DType::kBFloat16 && x.dtype != DType::kFloat16)
    throw Error(ErrorKind::kNotImplemented, std::string("pool: expected float32, bfloat16 or float16, got ") +
                                                dtype_name(x.dtype) + ". Cast with astype.");
}

/// The layout to pool `spec` in: its own where oneDNN can express it without gaps, else C order.
Desc data_desc(const Spec& spec) {
  const auto have = try_desc(spec);
  if (have && have->get_inner_nblks() > 0) return with_type(*have, Type::f32);
  if (have && is_channels_last(*have)) return channels_last_desc(spec.shape, Type::f32);
  return plain_desc(spec.shape, Type::f32);
}

/// Descriptor of the other side of the pool in the layout of `like`.
Desc same_layout(const Desc& like, const Dims& shape) {
  Spec spec{DType::kFloat32, shape, shape.contiguous_strides(), layout_name(like)};
  if (spec.layout.empty())
    return is_channels_last(like) ? channels_last_desc(shape, Type::f32) : plain_desc(shape, Type::f32);
  return *try_desc(spec);
}

dnnl::pooling_forward::primitive_desc forward_desc(const Pool& p, const Desc& x, const Desc& y, bool training) {
  return {cpu_engine(),
          training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference,
          p.algorithm,
          x,
          y,
          p.stride,
          p.kernel,
          p.dilation,
          p.pad_begin,
          p.pad_end,
          default_attr()};
}

KernelPtr build_forward(const Pool& p, std::span<const Spec> ins, std::span<const Spec> outs, double cost) {
  const int threads = threads_for(cost);
  const ThreadScope scope(threads);
  const bool training = outs.size() > 1;
  const Desc x = data_desc(ins[0]), y = same_layout(x, outs[0].shape);
  const auto pd = forward_desc(p, x, y, training && p.max);
  auto kernel = std::make_shared<StagedKernel>(ins, outs, cost, threads);
  std::vector<StagedKernel::Arg> args{{DNNL_ARG_SRC, kernel->read(0, x)}, {DNNL_ARG_DST, kernel->write(0, y)}};
  if (training && p.max) args.push_back({DNNL_ARG_WORKSPACE, kernel->write(1, pd.workspace_desc())});
  kernel->add(dnnl::pooling_forward(pd), std::move(args));
  kernel->finish();
  return kernel;
}

KernelPtr build_backward(const Pool& p, std::span<const Spec> ins, std::span<const Spec> outs, double cost) {
  const int threads = threads_for(cost);
  const ThreadScope scope(threads);
  const Desc y = data_desc(ins[0]), x = same_layout(y, outs[0].shape);
  const auto forward = forward_desc(p, x, y, true);
  const dnnl::pooling_backward::primitive_desc pd(cpu_engine(), p.algorithm, x, y, p.stride, p.kernel, p.dilation,
                                                  p.pad_begin, p.pad_end, forward, default_attr());
  auto kernel = std::make_shared<StagedKernel>(ins, outs, cost, threads);
  std::vector<StagedKernel::Arg> args{{DNNL_ARG_DIFF_DST, kernel->read(0, y)}};
  if (p.max) args.push_back({DNNL_ARG_WORKSPACE, kernel->read(1, pd.workspace_desc())});
  args.push_back({DNNL_ARG_DIFF_SRC, kernel->write(0, x)});
  kernel->add(dnnl::pooling_backward(pd), std::move(args));
  kernel->finish();
  return kernel;
}

double pool_cost(const Spec& x, const Spec& y) { return 500 + 4.0 * (x.size() + 1.25 * y.size()) / 8; }

KernelPtr make_forward(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  check_type(ins[0]);
  const Pool p = pool_of(ins[0], outs[0], attrs);
  if (any_empty(ins) || any_empty(outs)) return zero_kernel(ins, outs);
  return wrapped("pool_fwd", [&] { return build_forward(p, ins, outs, pool_cost(ins[0], outs[0])); });
}

KernelPtr make_backward(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  check_type(ins[0]);
  const Pool p = pool_of(outs[0], ins[0], attrs);
  if (any_empty(ins) || any_empty(outs)) return zero_kernel(ins, outs);
  if (p.max && ins.size() < 2)
    throw Error(ErrorKind::kValue,
                "pool_bwd: expected the index output of pool_fwd as second operand of a max pool, "
                "got none. Run pool_fwd with two outputs.");
  return wrapped("pool_bwd", [&] { return build_backward(p, ins, outs, pool_cost(outs[0], ins[0])); });
}

KernelPtr make_reorder(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs&) {
  if (any_empty(outs)) return zero_kernel(ins, outs);
  const double cost = 500 + (ins[0].size() * itemsize(ins[0].dtype) + outs[0].size() * itemsize(outs[0].dtype)) / 8.0;
  const int threads = threads_for(cost);
  const ThreadScope scope(threads);
  return wrapped("reorder", [&]() -> KernelPtr {
    auto kernel = std::make_shared<StagedKernel>(ins, outs, cost, threads);
    kernel->move(0, 0);
    kernel->finish();
    return kernel;
  });
}

}  // namespace
}  // namespace onednn

void register_pool_kernels() {
  register_kernel("pool_fwd", onednn::make_forward);
  register_kernel("pool_bwd", onednn::make_backward);
}

void register_reorder_kernel() { register_kernel("reorder", onednn::make_reorder); }

}  // namespace minimx
