// Matrix products, batched.
//
//   matmul(a, b[, bias]) -> c[, sums]     a (*batch, m, k), b (*batch, k, n), bias (n,), c (*batch, m, n)
//   matmul(a, b, z) -> c[, sums]          with "adds": c = z + a b, z of c's shape; c may lie where z does
//
// With "act" ("relu", "gelu_tanh") c is what that gives; sums (m,) are those of a's rows, of matrices only.
//
// Batch axes broadcast as NumPy's do: fewer axes, extent 1 or a zero stride. Transposes are strides. c has no zero
// strides. All operands are of one type. Types: float32 (oneDNN; small ones by matmul_plain.h), bfloat16 and float16
// (oneDNN natively where optimised, else through float32), float64, integers and bool (matmul_plain.h).
#include <algorithm>
#include <numeric>

#include "cpu/dnnl_engine.h"
#include "cpu/dnnl_kernel.h"
#include "cpu/dnnl_layout.h"
#include "cpu/matmul_plain.h"
#include "engine/parallel.h"

namespace minimx {
namespace onednn {
namespace {

using Type = dnnl::memory::data_type;

/// Below this many multiply-adds in a matrix oneDNN's 0.5 us a call outweighs its better kernel (measured).
constexpr int64_t kSmall = 40 * 40 * 40;

/// The product with all operands brought to c's number of batch axes; strides of broadcast axes are 0.
struct Product {
  int64_t m, n, k;
  Dims batch, a_batch, b_batch, c_batch;  // extents of c, then strides
  Spec a, b, c;                           // with the batch axes that broadcast of extent 1
};

Spec with_batch(const Spec& spec, int batch_axes) {
  Spec out = spec;
  const int missing = batch_axes + 2 - spec.shape.size();
  out.shape = Dims::filled(missing, 1);
  out.strides = Dims::filled(missing, 0);
  for (int i = 0; i < spec.shape.size(); ++i) {
    const bool broadcast = i + 2 < spec.shape.size() && (spec.strides[i] == 0 || spec.shape[i] == 1);
    out.shape.push_back(broadcast ? 1 : spec.shape[i]);
    out.strides.push_back(broadcast ? 0 : spec.strides[i]);
  }
  return out;
}

/// Merges neighbouring batch axes that are one run in all three operands: oneDNN is faster with fewer axes.
void merge_batch(Product& p) {
  for (int i = static_cast<int>(p.batch.size()) - 2; i >= 0; --i) {
    const int64_t inner = p.batch[i + 1];
    auto one_run = [&](const Spec& s) {
      return s.shape[i] == p.batch[i] && s.shape[i + 1] == inner ? s.strides[i] == s.strides[i + 1] * inner
                                                                 : s.shape[i] == 1 && s.shape[i + 1] == 1;
    };
    if (!one_run(p.a) || !one_run(p.b) || !one_run(p.c)) continue;
    for (Spec* s : {&p.a, &p.b, &p.c}) {
      Spec merged = *s;
      merged.shape = merged.strides = Dims();
      for (int d = 0; d < s->shape.size(); ++d) {
        if (d == i) continue;
        merged.shape.push_back(d == i + 1 ? s->shape[i] * s->shape[i + 1] : s->shape[d]);
        merged.strides.push_back(s->strides[d]);
      }
      *s = merged;
    }
    p.batch = Dims(std::span(p.c.shape.begin(), p.c.shape.size() - 2));
  }
}

Product product_of(std::span<const Spec> ins, const Spec& c) {
  const int axes = c.shape.size(), batch = axes - 2;
  const auto &a = ins[0].shape, &b = ins[1].shape;
  bool ok = axes >= 2 && a.size() >= 2 && b.size() >= 2 && a.size() <= axes && b.size() <= axes;
  ok = ok && a.back() == b[b.size() - 2] && a[a.size() - 2] == c.shape[batch] && b.back() == c.shape.back();
  if (!ok)
    throw Error(ErrorKind::kValue, "matmul: expected (*batch, m, k) and (*batch, k, n) for (*batch, m, n), got " +
                                       a.str() + ", " + b.str() + " and " + c.shape.str() + ". Transpose or reshape.");
  Product p{c.shape[batch],
            c.shape.back(),
            a.back(),
            {},
            {},
            {},
            {},
            with_batch(ins[0], batch),
            with_batch(ins[1], batch),
            c};
  p.batch = Dims(std::span(c.shape.begin(), static_cast<size_t>(batch)));
  merge_batch(p);
  for (int i = 0; i < p.batch.size(); ++i) {
    p.a_batch.push_back(p.a.shape[i] == 1 ? 0 : p.a.strides[i]);
    p.b_batch.push_back(p.b.shape[i] == 1 ? 0 : p.b.strides[i]);
    p.c_batch.push_back(p.c.strides[i]);
  }
  return p;
}

/// Plain C++; threads share out the matrices and their panels of columns.
template <class T>
class PlainMatmul : public Kernel {
 public:
  PlainMatmul(const Product& p, const Spec* bias, bool adds, double cost)
      : p_(p), has_bias_(bias != nullptr), panels_(matmul_plain_panels<T>(p.n)), cost_(cost) {
    const int d = p.batch.size();
    base_ = {p.m,
             p.n,
             p.k,
             nullptr,
             nullptr,
             nullptr,
             nullptr,
             p.a.strides[d],
             p.a.strides[d + 1],
             p.b.strides[d],
             p.b.strides[d + 1],
             p.c.strides[d],
             p.c.strides[d + 1],
             bias ? bias->strides.back() : 0,
             adds};
  }
  double cost_ns() const override { return cost_; }

  void run(void* const* data, void*) const override {
    const int64_t tasks = p_.batch.product() * panels_;
    const auto grain = static_cast<int64_t>(kTaskNs * tasks / cost_) + 1;
    parallel_for(tasks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end;) {
        const int64_t first = task % panels_, last = std::min(panels_, first + end - task);
        matmul_plain(matrix(data, task / panels_), first, last);
        task += last - first;
      }
    });
  }

 private:
  static constexpr double kTaskNs = 20e3;

  MatmulArgs<T> matrix(void* const* data, int64_t index) const {
    int64_t a = 0, b = 0, c = 0;
    for (int d = p_.batch.size() - 1; d >= 0; --d) {
      const int64_t at = index % p_.batch[d];
      index /= p_.batch[d];
      a += at * p_.a_batch[d], b += at * p_.b_batch[d], c += at * p_.c_batch[d];
    }
    MatmulArgs<T> args = base_;
    args.a = static_cast<const T*>(data[0]) + a;
    args.b = static_cast<const T*>(data[1]) + b;
    args.bias = has_bias_ ? static_cast<const T*>(data[2]) : nullptr;
    args.c = static_cast<T*>(data[has_bias_ || args.adds ? 3 : 2]) + c;
    return args;
  }

  Product p_;
  MatmulArgs<T> base_;
  bool has_bias_;
  int64_t panels_;
  double cost_;
};

/// The operand's own layout where a BLAS could take it (rows or columns contiguous), else C order.
Desc matrix_desc(const Spec& spec, Type type) {
  const int r = spec.shape.size() - 2;
  const bool rows = spec.strides[r + 1] == 1 && spec.strides[r] >= spec.shape[r + 1];
  const bool columns = spec.strides[r] == 1 && spec.strides[r + 1] >= spec.shape[r];
  const auto own = rows || columns ? try_desc(spec) : std::nullopt;
  return own ? with_type(*own, type) : plain_desc(spec.shape, type);
}

/// What comes with a product that oneDNN computes: an activation, or the sum with what lies in c.
struct Post {
  std::string act;
  bool adds;
};

dnnl::matmul::primitive_desc matmul_desc(const Product& p, const Desc& bias, Type type, const Post& post) {
  using dnnl::algorithm;
  auto attr = default_attr();
  dnnl::post_ops ops;
  if (post.adds) ops.append_sum(1.0f);
  if (!post.act.empty())
    ops.append_eltwise(post.act == "relu" ? algorithm::eltwise_relu : algorithm::eltwise_gelu_tanh, 0.0f, 0.0f);
  if (ops.len() != 0) attr.set_post_ops(ops);
  return {cpu_engine(), matrix_desc(p.a, type), matrix_desc(p.b, type), bias, matrix_desc(p.c, type), attr, true};
}

KernelPtr library_matmul(const Product& p, const Spec* bias, const Post& post, double cost) {
  const int threads = threads_for(cost);
  const ThreadScope scope(threads);
  Spec bias_row;
  if (bias) {
    bias_row = {bias->dtype, Dims::filled(p.c.shape.size(), 1), Dims::filled(p.c.shape.size(), 0), ""};
    bias_row.shape[p.c.shape.size() - 1] = p.n;
    bias_row.strides = bias_row.shape.contiguous_strides();
    bias_row.strides[p.c.shape.size() - 1] = bias->strides.back();
  }
  Type type = data_type(p.a.dtype);
  const auto bias_desc = [&] { return bias ? plain_desc(bias_row.shape, type) : Desc(); };
  auto pd = matmul_desc(p, bias_desc(), type, post);
  if (type != Type::f32 && (!pd.get(true) || std::string(pd.impl_info_str()).rfind("ref", 0) == 0)) {
    type = Type::f32;
    pd = matmul_desc(p, bias_desc(), type, post);
  }
  if (!pd.get(true))
    throw Error(ErrorKind::kNotImplemented, std::string("matmul: expected operands oneDNN takes, got ") +
                                                p.a.shape.str() + " and " + p.b.shape.str() +
                                                ". Make them contiguous.");
  std::vector<Spec> ins{p.a, p.b};
  if (bias) ins.push_back(bias_row);
  if (post.adds) ins.push_back(p.c);
  auto kernel = std::make_shared<StagedKernel>(ins, std::span(&p.c, 1), cost, threads);
  std::vector<StagedKernel::Arg> args{{DNNL_ARG_SRC, kernel->read(0, pd.src_desc())},
                                      {DNNL_ARG_WEIGHTS, kernel->read(1, pd.weights_desc())}};
  if (bias) args.push_back({DNNL_ARG_BIAS, kernel->read(2, pd.bias_desc())});
  const StagedKernel::Slot c = kernel->write(0, pd.dst_desc());
  if (post.adds && try_desc(p.c) != std::optional<Desc>(pd.dst_desc())) kernel->load(2, c);
  args.push_back({DNNL_ARG_DST, c});
  kernel->add(dnnl::matmul(pd), std::move(args));
  kernel->finish();
  return kernel;
}

/// A product over an axis of extent 0: c is the bias, seen through zero strides.
KernelPtr bias_only(std::span<const Spec> ins, std::span<const Spec> outs) {
  std::vector<Spec> seen(ins.begin(), ins.end());
  seen[2].shape = outs[0].shape;
  seen[2].strides = Dims::filled(outs[0].shape.size(), 0);
  seen[2].strides[outs[0].shape.size() - 1] = ins[2].strides.back();
  auto kernel = std::make_shared<StagedKernel>(seen, outs, 500, 1);
  kernel->move(2, 0);
  kernel->finish();
  return kernel;
}

/// Kernels one after the other, each over some of the operands.
class Sequence final : public Kernel {
 public:
  void add(KernelPtr kernel, std::vector<int> places) { steps_.push_back({std::move(kernel), std::move(places)}); }
  double cost_ns() const override {
    double total = 0;
    for (const Step& s : steps_) total += s.kernel->cost_ns();
    return total;
  }
  size_t workspace_bytes() const override {
    size_t most = 0;
    for (const Step& s : steps_) most = std::max(most, s.kernel->workspace_bytes());
    return most;
  }
  void run(void* const* data, void* workspace) const override {
    for (const Step& s : steps_) {
      void* places[4];
      for (size_t i = 0; i < s.places.size(); ++i) places[i] = data[s.places[i]];
      s.kernel->run(places, workspace);
    }
  }

 private:
  struct Step {
    KernelPtr kernel;
    std::vector<int> places;
  };
  std::vector<Step> steps_;
};

/// c = z, unless it lies there already; then a kernel that adds to it.
class Adding final : public Kernel {
 public:
  Adding(const Spec& z, const Spec& c, KernelPtr product)
      : copy_(make_kernel("cast", {&z, 1}, {&c, 1}, {})), product_(std::move(product)) {}
  double cost_ns() const override { return product_->cost_ns(); }
  size_t workspace_bytes() const override { return std::max(copy_->workspace_bytes(), product_->workspace_bytes()); }
  /// Data: a, b, z, c. The product sees c in place of z.
  void run(void* const* data, void* workspace) const override {
    if (data[2] != data[3]) copy_->run(data + 2, workspace);
    void* const seen[] = {data[0], data[1], data[3], data[3]};
    product_->run(seen, workspace);
  }

 private:
  KernelPtr copy_, product_;
};

/// The product alone, or with `adds` added to c; the activation is left out where `takes_act` says so.
KernelPtr product_kernel(std::span<const Spec> ins, const Spec& out, const Post& post, bool& takes_act) {
  const Product p = product_of(ins, out);
  takes_act = false;
  if (out.size() == 0) return zero_kernel(ins, {&out, 1});
  const Spec* bias = ins.size() > 2 ? &ins[2] : nullptr;
  if (p.k == 0 && post.adds) return std::make_shared<Sequence>();
  if (p.k == 0) return bias ? bias_only(ins, {&out, 1}) : zero_kernel(ins, {&out, 1});
  const double macs = static_cast<double>(p.m) * p.n * p.k * p.batch.product();
  const double bytes = static_cast<double>(itemsize(ins[0].dtype)) * (ins[0].size() + ins[1].size() + out.size());
  const bool sixteen = ins[0].dtype == DType::kBFloat16 || ins[0].dtype == DType::kFloat16;
  const bool small = p.m * p.n * p.k <= kSmall && p.batch.product() * p.m * p.n * p.k <= 4 * kSmall;
  if (sixteen || (ins[0].dtype == DType::kFloat32 && !small)) {
    takes_act = true;
    return wrapped("matmul", [&] { return library_matmul(p, bias, post, 500 + 2 * macs / 50 + bytes / 8); });
  }
  KernelPtr kernel;
  dispatch(ins[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (!std::is_same_v<T, BFloat16> && !std::is_same_v<T, Half>)
      kernel = std::make_shared<PlainMatmul<T>>(p, bias, post.adds, 50 + 2 * macs / 20 + bytes / 8);
  });
  return kernel;
}

KernelPtr make_matmul(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const Spec& out = outs[0];
  for (const Spec& s : ins)
    if (s.dtype != out.dtype)
      throw Error(ErrorKind::kType, std::string("matmul: expected operands of one type, got ") + dtype_name(s.dtype) +
                                        " and " + dtype_name(out.dtype) + ". Cast with astype.");
  const std::string act = attrs.has("act") ? attrs.text("act") : "";
  const bool adds = attrs.has("adds");
  bool takes_act = false;
  KernelPtr product = product_kernel(adds ? ins.first(2) : ins, out, {act, adds}, takes_act);
  if (adds && out.size() != 0) product = std::make_shared<Adding>(ins[2], out, std::move(product));
  const bool activates = !act.empty() && !takes_act && out.size() != 0;
  if (!activates && outs.size() == 1) return product;
  auto all = std::make_shared<Sequence>();
  const int n = static_cast<int>(ins.size());
  std::vector<int> places(n + 1);
  std::iota(places.begin(), places.end(), 0);
  all->add(std::move(product), std::move(places));
  const std::string type = dtype_name(out.dtype);
  if (activates) all->add(make_kernel("elemwise", {&out, 1}, {&out, 1}, {{{"loop", act}, {"dtype", type}}}), {n, n});
  if (outs.size() > 1) {
    const std::string total = out.dtype == DType::kFloat64 ? "float64" : "float32";
    const Attrs sum{{{"loop", std::string("sum")}, {"dtype", total}, {"axes", std::vector<int64_t>{1}}}};
    all->add(make_kernel("reduce", ins.first(1), outs.subspan(1), sum), {0, n + 1});
  }
  return all;
}

}  // namespace
}  // namespace onednn

void register_matmul_kernels() { register_kernel("matmul", onednn::make_matmul); }

}  // namespace minimx
