// Matrix products of a GPU: matmul, as csrc/cpu/dnnl_matmul.cc defines it.
//
// cuBLASLt takes one batch axis with any strides, 0 included; further ones that do not merge into it are a loop of
// calls. Operands with other strides are copied through temporaries, and integers go to the plain kernel of
// minimx/rtc/cuda. What no algorithm takes in is a step of its own. Read next: product_kernel.cc.
#include <algorithm>

#include "cuda/device.h"
#include "cuda/product_kernel.h"
#include "cuda/steps.h"

namespace minimx::cuda {
namespace {

constexpr int64_t kMostCalls = 4;  // in a loop, before operands are packed to save it

bool library_has(const Spec& s) {
  return s.layout.empty() && (s.dtype == DType::kFloat32 || s.dtype == DType::kFloat16 || s.dtype == DType::kBFloat16 ||
                              s.dtype == DType::kFloat64);
}

// --- the product
// -------------------------------------------------------------------------------------------------------

/// The operand's spec with `axes` batch axes, those that broadcast of extent 1 and stride 0.
Spec with_batch(const Spec& spec, int axes) {
  Spec out = spec;
  const int missing = axes + 2 - spec.shape.size();
  out.shape = Dims::filled(missing, 1), out.strides = Dims::filled(missing, 0);
  for (int i = 0; i < spec.shape.size(); ++i) {
    const bool broadcast = i + 2 < spec.shape.size() && (spec.strides[i] == 0 || spec.shape[i] == 1);
    out.shape.push_back(broadcast ? 1 : spec.shape[i]);
    out.strides.push_back(broadcast ? 0 : spec.strides[i]);
  }
  return out;
}

/// The innermost batch axis becomes rows of a and c, where all its matrices meet the same b.
void fold_rows(Product& p) {
  while (!p.batch.empty()) {
    const Product::Axis& in = p.batch.back();
    if (in.b != 0 || (p.m != 1 && (in.a != p.m * p.a_row || in.c != p.m * p.c_row))) return;
    const int64_t m = p.m * in.extent, a_row = p.m == 1 ? in.a : p.a_row, c_row = p.m == 1 ? in.c : p.c_row;
    const auto c = stored(p.n, m, p.c_col, c_row);
    if (!stored(p.k, m, p.a_col, a_row) || !c || c->transposed) return;
    p.m = m, p.a_row = a_row, p.c_row = c_row;
    p.batch.pop_back();
  }
}

/// All three specs have the same number of axes.
Product product_of(const Spec& a, const Spec& b, const Spec& c) {
  const int d = c.shape.size() - 2;
  Product p{c.shape[d],   c.shape[d + 1],   a.shape[d + 1], a.strides[d],     a.strides[d + 1],
            b.strides[d], b.strides[d + 1], c.strides[d],   c.strides[d + 1], {}};
  for (int i = 0; i < d; ++i) {
    const Product::Axis axis{c.shape[i], a.strides[i], b.strides[i], c.strides[i]};
    if (axis.extent == 1) continue;
    Product::Axis* before = p.batch.empty() ? nullptr : &p.batch.back();
    if (before && before->a == axis.a * axis.extent && before->b == axis.b * axis.extent &&
        before->c == axis.c * axis.extent)
      *before = {before->extent * axis.extent, axis.a, axis.b, axis.c};
    else
      p.batch.push_back(axis);
  }
  fold_rows(p);
  std::stable_sort(p.batch.begin(), p.batch.end(), [](const auto& x, const auto& y) { return x.extent < y.extent; });
  return p;
}

Activation activation_of(const Attrs& attrs) {
  const auto found = attrs.values.find("act");
  if (found == attrs.values.end()) return Activation::kNone;
  return std::get<std::string>(found->second) == "relu" ? Activation::kRelu : Activation::kGeluTanh;
}

// --- the factory
// -------------------------------------------------------------------------------------------------------

/// An operand, or the temporary that it is copied to.
struct Operand {
  Spec spec;
  Steps::Place place;
};

void pack(Operand& o, Steps& steps, int device) {
  const Spec to = packed(o.spec.dtype, o.spec.shape);
  const Steps::Place made = steps.temporary(to);
  steps.add(copy(o.spec, to, device), {o.place, made});
  o = {to, made};
  for (int i = 0; i + 2 < to.shape.size(); ++i)
    if (to.shape[i] == 1) o.spec.strides[i] = 0;
}

/// `bias` (n,) as an operand of c's shape.
Spec broadcast_row(const Spec& bias, const Spec& c) {
  Spec row{bias.dtype, c.shape, Dims::filled(c.shape.size(), 0), ""};
  row.strides[c.shape.size() - 1] = bias.strides[0];
  return row;
}

/// True where the batch axes are one run, or broadcast: packing would not save a call.
bool is_run(const Spec& s) {
  for (int i = 0; i + 3 < s.shape.size(); ++i)
    if (s.shape[i] != 1 && s.shape[i + 1] != 1 && s.strides[i] != s.strides[i + 1] * s.shape[i + 1]) return false;
  return true;
}

/// y = activation(y), in place.
KernelPtr activated(const Spec& y, Activation activation, int device) {
  const std::string loop = activation == Activation::kRelu ? "relu" : "gelu_tanh";
  const Attrs attrs{{{"loop", loop}, {"dtype", std::string(dtype_name(y.dtype))}}};
  return device_kernel("elemwise", {&y, 1}, {&y, 1}, attrs, device);
}

/// sums[i] = sum over k of a[i, k].
KernelPtr row_sums(const Spec& a, const Spec& sums, int device) {
  const std::string total = a.dtype == DType::kFloat64 ? "float64" : "float32";
  const Attrs attrs{{{"loop", std::string("sum")}, {"dtype", total}, {"axes", std::vector<int64_t>{1}}}};
  return device_kernel("reduce", {&a, 1}, {&sums, 1}, attrs, device);
}

/// One kernel for operands that all begin at a multiple of 16 bytes, another for others.
class ByAlignment final : public DeviceKernel {
 public:
  ByAlignment(KernelPtr aligned, KernelPtr other, size_t operands)
      : aligned_(std::dynamic_pointer_cast<const DeviceKernel>(aligned)),
        other_(std::dynamic_pointer_cast<const DeviceKernel>(other)),
        operands_(operands) {}
  size_t workspace_bytes() const override { return std::max(aligned_->workspace_bytes(), other_->workspace_bytes()); }
  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override {
    uintptr_t bits = 0;
    for (size_t i = 0; i < operands_; ++i) bits |= reinterpret_cast<uintptr_t>(data[i]);
    (bits % kProductAlignment == 0 ? aligned_ : other_)->enqueue(data, workspace, stream);
  }

 private:
  std::shared_ptr<const DeviceKernel> aligned_, other_;
  size_t operands_;
};

/// What comes with the product is part of its call where it can be, must be, or is not.
enum class Way { kAny, kWhole, kApart };

/// Null where cuBLASLt has no algorithm, kWhole: for all that comes with the product.
KernelPtr library_matmul(std::span<const Spec> ins, std::span<const Spec> outs, Activation activation, int device,
                         Way way = Way::kAny) {
  const Spec& out = outs[0];
  const bool sums = outs.size() > 1;
  const int axes = out.shape.size() - 2, n = static_cast<int>(ins.size());
  auto steps = std::make_shared<Steps>();
  Operand a{with_batch(ins[0], axes), {0}}, b{with_batch(ins[1], axes), {1}}, c{out, {n}};
  for (Operand* o : {&a, &b})
    if (!stored(o->spec.shape[axes], o->spec.shape[axes + 1], o->spec.strides[axes], o->spec.strides[axes + 1]))
      pack(*o, *steps, device);
  const auto columns = stored(out.shape[axes + 1], out.shape[axes], out.strides[axes + 1], out.strides[axes]);
  if (!columns || columns->transposed) c = {packed(out.dtype, out.shape), steps->temporary(out)};
  if (product_of(a.spec, b.spec, c.spec).calls() > kMostCalls)
    for (Operand* o : {&a, &b})
      if (!is_run(o->spec)) pack(*o, *steps, device);

  const Product p = product_of(a.spec, b.spec, c.spec);
  Operand bias{n > 2 ? ins[2] : Spec{}, {2}};
  if (n > 2 && ins[2].shape[0] != 1 && ins[2].strides[0] != 1) pack(bias, *steps, device);
  const std::vector<Steps::Place> places{a.place, b.place, c.place};
  const Epilogue all{n > 2, activation, sums}, biased{n > 2};
  auto with = [&](Steps::Place vector) { return std::vector<Steps::Place>{a.place, b.place, c.place, vector}; };
  const bool more = sums || activation != Activation::kNone;
  auto kernel = more && way == Way::kApart ? nullptr : find_product(p, out.dtype, all, device);
  if (kernel) {
    steps->add(kernel, sums ? with({n + 1}) : n > 2 ? with(bias.place) : places);
  } else if (way == Way::kWhole) {
    return nullptr;
  } else {
    if (auto product = n > 2 ? find_product(p, out.dtype, biased, device) : nullptr) {
      steps->add(product, with(bias.place));
    } else if (auto product = find_product(p, out.dtype, {}, device)) {
      steps->add(product, places);
      if (n > 2)
        steps->add(sum_of(c.spec, broadcast_row(bias.spec, c.spec), c.spec, device), {c.place, bias.place, c.place});
    } else {
      return nullptr;
    }
    if (activation != Activation::kNone) steps->add(activated(c.spec, activation, device), {c.place, c.place});
    if (sums) steps->add(row_sums(a.spec, outs[1], device), {a.place, {n + 1}});
  }
  if (c.place.operand < 0) steps->add(copy(c.spec, out, device), {c.place, {n}});
  if (!more || !kernel || way == Way::kWhole || kernel->takes_unaligned()) return steps;
  const KernelPtr other = library_matmul(ins, outs, activation, device, Way::kApart);
  return other ? std::make_shared<ByAlignment>(steps, other, ins.size() + outs.size()) : KernelPtr(steps);
}

/// A product over an axis of extent 0: zeros, or the bias, and zeros for the sums.
KernelPtr without_sum(std::span<const Spec> ins, std::span<const Spec> outs, Activation activation, int device) {
  auto steps = std::make_shared<Steps>();
  const int n = static_cast<int>(ins.size());
  const Spec& out = outs[0];
  if (outs.size() > 1 && outs[1].size() != 0)
    steps->add(ins[0].size() ? row_sums(ins[0], outs[1], device) : zeros(outs[1], device),
               ins[0].size() ? std::vector<Steps::Place>{{0}, {n + 1}} : std::vector<Steps::Place>{{n + 1}});
  if (out.size() == 0) return steps;
  if (n > 2)
    steps->add(copy(broadcast_row(ins[2], out), out, device), {{2}, {n}});
  else
    steps->add(zeros(out, device), {{n}});
  if (activation != Activation::kNone) steps->add(activated(out, activation, device), {{n}, {n}});
  return steps;
}

bool all_float(std::span<const Spec> ins) { return std::all_of(ins.begin(), ins.end(), library_has); }

bool empty(std::span<const Spec> ins, std::span<const Spec> outs) {
  return outs[0].size() == 0 || ins[0].shape.back() == 0;
}

}  // namespace

KernelPtr make_matmul(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device) {
  gpu(device).use();
  const Activation activation = activation_of(attrs);
  if (empty(ins, outs)) return without_sum(ins, outs, activation, device);
  if (all_float(ins))
    if (KernelPtr kernel = library_matmul(ins, outs, activation, device)) return kernel;
  const KernelPtr plain = device_kernel("matmul_plain", ins, outs.first(1), {}, device);
  if (activation == Activation::kNone && outs.size() == 1) return plain;
  auto steps = std::make_shared<Steps>();
  const int n = static_cast<int>(ins.size());
  steps->add(plain, n > 2 ? std::vector<Steps::Place>{{0}, {1}, {2}, {3}} : std::vector<Steps::Place>{{0}, {1}, {2}});
  if (activation != Activation::kNone) steps->add(activated(outs[0], activation, device), {{n}, {n}});
  if (outs.size() > 1) steps->add(row_sums(ins[0], outs[1], device), {{0}, {n + 1}});
  return steps;
}

bool matmul_fuses(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device) {
  gpu(device).use();
  return !empty(ins, outs) && all_float(ins) && library_matmul(ins, outs, activation_of(attrs), device, Way::kWhole);
}

}  // namespace minimx::cuda
