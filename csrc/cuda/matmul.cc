// Matrix products of a GPU: matmul, as csrc/cpu/dnnl_matmul.cc defines it.
//
// cuBLASLt takes one batch axis with any strides, 0 included; further ones that do not merge into it are a loop of
// calls. Operands with other strides are copied through temporaries, and integers go to the plain kernel of
// minimx/rtc/cuda. What no algorithm takes in is a step of its own. Read next: product_kernel.cc.
#include <algorithm>
#include <limits>
#include <sstream>

#include "cuda/choices.h"
#include "cuda/device.h"
#include "cuda/product_kernel.h"
#include "cuda/steps.h"
#include "cuda/timing.h"

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

// --- the factory
// -------------------------------------------------------------------------------------------------------

/// An operand, or the temporary that it is copied to.
struct Operand {
  Spec spec;
  Steps::Place place;
};

/// What is asked for: operands, and what comes with the product.
struct Call {
  std::span<const Spec> ins, outs;
  Epilogue with;
  int device;

  int inputs() const { return static_cast<int>(ins.size()); }
  Operand c() const { return {outs[0], {inputs()}}; }
  Operand bias() const { return {ins[2], {2}}; }
  Operand z() const { return {ins[2], {2}}; }
  Operand sums() const { return {outs[1], {inputs() + 1}}; }
  /// True if there is more than a bias.
  bool more() const { return with.sums || with.adds || with.activation != Activation::kNone; }
};

Call call_of(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device) {
  Epilogue with;
  if (const auto act = attrs.values.find("act"); act != attrs.values.end())
    with.activation = std::get<std::string>(act->second) == "relu" ? Activation::kRelu : Activation::kGeluTanh;
  with.adds = attrs.has("adds");
  with.bias = ins.size() > 2 && !with.adds;
  with.sums = outs.size() > 1;
  return {ins, outs, with, device};
}

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

/// Where the product, with its bias, goes that is made apart from all else.
Operand apart(const Call& call, const Operand& c, Steps& steps) {
  if (!call.with.adds) return c;
  const Spec made = packed(c.spec.dtype, c.spec.shape);
  return {made, steps.temporary(made)};
}

/// All else: from a and the product to c and the other results.
void follow(const Call& call, const Operand& a, const Operand& product, const Operand& c, Steps& steps) {
  const bool some = c.spec.size() != 0;
  if (some && call.with.adds)
    steps.add(sum_of(call.z().spec, product.spec, c.spec, call.device), {call.z().place, product.place, c.place});
  if (some && call.with.activation != Activation::kNone)
    steps.add(activated(c.spec, call.with.activation, call.device), {c.place, c.place});
  if (!call.with.sums || call.sums().spec.size() == 0) return;
  if (a.spec.size() == 0)
    steps.add(zeros(call.sums().spec, call.device), {call.sums().place});
  else
    steps.add(row_sums(a.spec, call.sums().spec, call.device), {a.place, call.sums().place});
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

/// z as the product's call takes it: of c's strides, so in c where it has others.
Operand added(const Call& call, const Operand& c, Steps& steps) {
  if (call.z().spec.strides == c.spec.strides) return call.z();
  steps.add(copy(call.z().spec, c.spec, call.device), {call.z().place, c.place});
  return c;
}

/// One call of the library for the product and what comes with it. False where it has none.
bool add_whole(const Call& call, const Operand& a, const Operand& b, const Operand& bias, const Operand& c,
               Steps& steps, bool& takes_unaligned) {
  const Product p = product_of(a.spec, b.spec, c.spec);
  const auto kernel = find_product(p, c.spec.dtype, call.with, call.device);
  if (!kernel) return false;
  takes_unaligned = kernel->takes_unaligned();
  std::vector<Steps::Place> places{a.place, b.place, c.place};
  if (call.with.bias) places.push_back(bias.place);
  if (call.with.sums) places.push_back(call.sums().place);
  if (call.with.adds) places.push_back(added(call, c, steps).place);
  steps.add(kernel, places);
  return true;
}

/// The product, with its bias or one more step for that, and steps for the rest. False where the library has none.
bool add_apart(const Call& call, const Operand& a, const Operand& b, const Operand& bias, const Operand& c,
               Steps& steps) {
  const Operand made = apart(call, c, steps);
  const Product p = product_of(a.spec, b.spec, made.spec);
  const Epilogue biased{call.with.bias};
  if (auto product = call.with.bias ? find_product(p, c.spec.dtype, biased, call.device) : nullptr) {
    steps.add(product, {a.place, b.place, made.place, bias.place});
  } else if (auto product = find_product(p, c.spec.dtype, {}, call.device)) {
    steps.add(product, {a.place, b.place, made.place});
    if (call.with.bias)
      steps.add(sum_of(made.spec, broadcast_row(bias.spec, made.spec), made.spec, call.device),
                {made.place, bias.place, made.place});
  } else {
    return false;
  }
  follow(call, a, made, c, steps);
  return true;
}

/// Null where cuBLASLt has no algorithm, kWhole: for all that comes with the product.
KernelPtr library_matmul(const Call& call, Way way = Way::kAny) {
  const Spec& out = call.outs[0];
  const int axes = out.shape.size() - 2, device = call.device;
  auto steps = std::make_shared<Steps>();
  Operand a{with_batch(call.ins[0], axes), {0}}, b{with_batch(call.ins[1], axes), {1}}, c = call.c();
  for (Operand* o : {&a, &b})
    if (!stored(o->spec.shape[axes], o->spec.shape[axes + 1], o->spec.strides[axes], o->spec.strides[axes + 1]))
      pack(*o, *steps, device);
  const auto columns = stored(out.shape[axes + 1], out.shape[axes], out.strides[axes + 1], out.strides[axes]);
  if (!columns || columns->transposed) c = {packed(out.dtype, out.shape), steps->temporary(out)};
  if (product_of(a.spec, b.spec, c.spec).calls() > kMostCalls)
    for (Operand* o : {&a, &b})
      if (!is_run(o->spec)) pack(*o, *steps, device);
  Operand bias = call.with.bias ? call.bias() : Operand{};
  if (call.with.bias && bias.spec.shape[0] != 1 && bias.spec.strides[0] != 1) pack(bias, *steps, device);

  bool takes_unaligned = true;
  const bool whole = !(call.more() && way == Way::kApart) && add_whole(call, a, b, bias, c, *steps, takes_unaligned);
  if (!whole && (way == Way::kWhole || !add_apart(call, a, b, bias, c, *steps))) return nullptr;
  if (c.place.operand < 0) steps->add(copy(c.spec, out, device), {c.place, call.c().place});
  if (!call.more() || !whole || way == Way::kWhole || takes_unaligned) return steps;
  const KernelPtr other = library_matmul(call, Way::kApart);
  return other ? std::make_shared<ByAlignment>(steps, other, call.ins.size() + call.outs.size()) : KernelPtr(steps);
}

/// A product over an axis of extent 0, or without elements: zeros, or the bias, and what follows.
KernelPtr without_sum(const Call& call) {
  auto steps = std::make_shared<Steps>();
  const Operand c = call.c(), made = apart(call, c, *steps);
  if (c.spec.size() != 0 && call.with.bias)
    steps->add(copy(broadcast_row(call.bias().spec, made.spec), made.spec, call.device), {{2}, made.place});
  else if (c.spec.size() != 0)
    steps->add(zeros(made.spec, call.device), {made.place});
  follow(call, {call.ins[0], {0}}, made, c, *steps);
  return steps;
}

/// By the plain kernel.
KernelPtr plain_matmul(const Call& call) {
  auto steps = std::make_shared<Steps>();
  const Operand made = apart(call, call.c(), *steps);
  const auto ins = call.ins.first(call.with.bias ? 3 : 2);
  std::vector<Steps::Place> places{{0}, {1}};
  if (call.with.bias) places.push_back({2});
  places.push_back(made.place);
  steps->add(device_kernel("matmul_plain", ins, {&made.spec, 1}, {}, call.device), places);
  follow(call, {call.ins[0], {0}}, made, call.c(), *steps);
  return steps;
}

bool all_float(const Call& call) { return std::all_of(call.ins.begin(), call.ins.end(), library_has); }

bool empty(const Call& call) { return call.outs[0].size() == 0 || call.ins[0].shape.back() == 0; }

// --- what it gains
// -------------------------------------------------------------------------------------------------------

double bytes_of(const Spec& s) { return static_cast<double>(s.size()) * static_cast<double>(itemsize(s.dtype)); }

/// Nanoseconds of the passes over memory that a call saves which does everything.
double passes_of(const Call& call) {
  const Epilogue& with = call.with;
  double moved = 0, launches = 0;
  if (with.bias || with.activation != Activation::kNone) moved += 2 * bytes_of(call.outs[0]), ++launches;
  if (with.adds) moved += 2 * bytes_of(call.outs[0]), ++launches;  // the product, written and read
  if (with.sums) moved += bytes_of(call.ins[0]), ++launches;
  return moved / kBytesMoved + launches * kLaunch;
}

std::string problem_of(const Call& call) {
  const Epilogue& with = call.with;
  std::ostringstream text;
  text << "matmul of " << dtype_name(call.outs[0].dtype);
  for (const Spec& s : call.ins) text << ' ' << s.shape.str() << s.strides.str();
  text << ' ' << static_cast<int>(with.activation) << with.bias << with.sums << with.adds
       << library_settings().allow_tf32 << library_settings().deterministic;
  return text.str();
}

std::vector<Spec> operands_of(const Call& call) {
  std::vector<Spec> all(call.ins.begin(), call.ins.end());
  all.insert(all.end(), call.outs.begin(), call.outs.end());
  return all;
}

/// passes_of less what `whole` takes longer than the product alone, as timed or as remembered.
double timed_gain(const Call& call, const Kernel& whole) {
  const ChoiceFile file(call.device);
  const std::string problem = problem_of(call);
  EngineChoice choice;
  if (file.find(problem, choice)) return static_cast<double>(choice.engine);
  const Call product{call.ins.first(2), call.outs.first(1), {}, call.device};
  double gain = passes_of(call);
  if (const KernelPtr alone = library_matmul(product))
    gain -= 1e6 * (time_of(whole, operands_of(call), call.device) - time_of(*alone, operands_of(product), call.device));
  choice.engine = static_cast<int64_t>(gain);
  file.append(problem, choice);
  return gain;
}

}  // namespace

KernelPtr make_matmul(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device) {
  gpu(device).use();
  const Call call = call_of(ins, outs, attrs, device);
  if (empty(call)) return without_sum(call);
  if (all_float(call))
    if (KernelPtr kernel = library_matmul(call)) return kernel;
  return plain_matmul(call);
}

double matmul_gain(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device) {
  gpu(device).use();
  const Call call = call_of(ins, outs, attrs, device);
  const KernelPtr whole = empty(call) || !all_float(call) ? nullptr : library_matmul(call, Way::kWhole);
  if (!whole) return -std::numeric_limits<double>::infinity();
  return library_settings().autotune ? timed_gain(call, *whole) : passes_of(call);
}

}  // namespace minimx::cuda
