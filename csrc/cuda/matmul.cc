// Matrix products of a GPU: matmul, as csrc/cpu/dnnl_matmul.cc defines it, with what cuBLASLt's epilogues do on the
// way.
//
// cuBLASLt counts by columns, so it is asked for c^T = b^T a^T: a row-major matrix is the transpose of a column-major
// one, and a transpose that is a stride becomes a flag. It takes one batch axis with any strides, 0 included; further
// ones that do not merge into it are a loop of calls. Operands with other strides are copied through temporaries, and
// integers go to the plain kernel of minimx/rtc/cuda. What no algorithm takes in is a step of its own.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>

#include "cuda/device.h"
#include "cuda/libraries.h"
#include "cuda/steps.h"

namespace minimx::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;  // bytes, what NVIDIA advises for Hopper
constexpr uintptr_t kAlignment = 16;             // in bytes; what the best algorithms want of every operand
constexpr int64_t kMostCalls = 4;                // in a loop, before operands are packed to save it
constexpr int kDevices = 64;

// --- the library
// -------------------------------------------------------------------------------------------------------

struct Functions {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmulDescInit_internal) desc_init;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutInit_internal) layout_init;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&cublasLtMatmulPreferenceInit_internal) preference_init;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtGetStatusString) status_text;
};

const Functions& lt() {
  static const Functions functions = [] {
    const Library& library = cublas_lt();
    Functions f{};
#define MINIMX_FIND(member, name) f.member = library.function<decltype(f.member)>(#name)
    MINIMX_FIND(create, cublasLtCreate);
    MINIMX_FIND(matmul, cublasLtMatmul);
    MINIMX_FIND(heuristic, cublasLtMatmulAlgoGetHeuristic);
    MINIMX_FIND(desc_init, cublasLtMatmulDescInit_internal);
    MINIMX_FIND(desc_set, cublasLtMatmulDescSetAttribute);
    MINIMX_FIND(layout_init, cublasLtMatrixLayoutInit_internal);
    MINIMX_FIND(layout_set, cublasLtMatrixLayoutSetAttribute);
    MINIMX_FIND(preference_init, cublasLtMatmulPreferenceInit_internal);
    MINIMX_FIND(preference_set, cublasLtMatmulPreferenceSetAttribute);
    MINIMX_FIND(status_text, cublasLtGetStatusString);
#undef MINIMX_FIND
    return f;
  }();
  return functions;
}

void check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(ErrorKind::kDevice, std::string("matmul: expected cuBLASLt to run, got '") + lt().status_text(status) +
                                        "'. See mx.runtime.");
}

/// One for each device, of its context; any number of threads may use it at once. Never destroyed.
cublasLtHandle_t handle_of(int device) {
  static auto* mutex = new std::mutex;
  static auto* handles = new std::array<cublasLtHandle_t, kDevices>{};
  const std::lock_guard lock(*mutex);
  cublasLtHandle_t& handle = handles->at(device);
  if (!handle) check(lt().create(&handle));
  return handle;
}

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return CUDA_R_16F;
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat64:
      return CUDA_R_64F;
    default:
      return CUDA_R_32F;
  }
}

bool library_has(const Spec& s) {
  return s.layout.empty() && (s.dtype == DType::kFloat32 || s.dtype == DType::kFloat16 || s.dtype == DType::kBFloat16 ||
                              s.dtype == DType::kFloat64);
}

// --- the product
// -------------------------------------------------------------------------------------------------------

/// A matrix of r rows and c columns with strides in elements, as cuBLASLt is told of it.
struct Stored {
  bool transposed;
  int64_t rows, columns, step;  // of memory read by columns; `step` from one to the next
};

/// Nothing where neither rows nor columns are runs of memory that do not overlap.
std::optional<Stored> stored(int64_t r, int64_t c, int64_t r_stride, int64_t c_stride) {
  if ((r == 1 || r_stride == 1) && (c == 1 || c_stride >= r)) return Stored{false, r, c, c == 1 ? r : c_stride};
  if ((c == 1 || c_stride == 1) && (r == 1 || r_stride >= c)) return Stored{true, c, r, r == 1 ? c : r_stride};
  return std::nullopt;
}

/// c (batch, m, n) = a (batch, m, k) b (batch, k, n), with strides in elements; those of broadcast axes are 0.
struct Product {
  struct Axis {
    int64_t extent, a, b, c;
  };
  int64_t m, n, k;
  int64_t a_row, a_col, b_row, b_col, c_row, c_col;
  std::vector<Axis> batch;  // axes of extent 1 and neighbours that are one run are gone

  /// Calls that it takes: one for each place in all batch axes but the longest.
  int64_t calls() const;
};

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

int64_t Product::calls() const {
  int64_t n = 1;
  for (size_t i = 0; i + 1 < batch.size(); ++i) n *= batch[i].extent;
  return n;
}

// --- what comes with it
// ------------------------------------------------------------------------------------------------

enum class Activation { kNone, kRelu, kGeluTanh };

/// What is done to c before it is written, or to a while it is read. A bias and sums exclude one another.
struct Epilogue {
  bool bias = false;
  Activation activation = Activation::kNone;
  bool sums = false;  // of the rows of a

  bool vector() const { return bias || sums; }
  bool plain() const { return !vector() && activation == Activation::kNone; }
  uint32_t name() const {
    if (sums) return CUBLASLT_EPILOGUE_BGRADB;  // our a is its B
    switch (activation) {
      case Activation::kRelu:
        return bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
      case Activation::kGeluTanh:
        return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
      default:
        return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    }
  }
};

Activation activation_of(const Attrs& attrs) {
  const auto found = attrs.values.find("act");
  if (found == attrs.values.end()) return Activation::kNone;
  return std::get<std::string>(found->second) == "relu" ? Activation::kRelu : Activation::kGeluTanh;
}

// --- the kernel
// --------------------------------------------------------------------------------------------------------

/// Data: a, b, c and, where there is one, bias or sums (stride 1). Immutable but for a second algorithm, made when
/// operands are first seen that are aligned to their elements only.
class MatmulKernel final : public DeviceKernel {
 public:
  /// Null where cuBLASLt has no algorithm, which may be for the epilogue.
  static std::shared_ptr<MatmulKernel> make(const Product& p, DType dtype, const Epilogue& epilogue, int device) {
    if (epilogue.sums && !p.batch.empty()) return nullptr;
    auto kernel = std::shared_ptr<MatmulKernel>(new MatmulKernel(p, dtype, epilogue, device));
    kernel->aligned_ = kernel->find(kAlignment, kWorkspace);
    return kernel->aligned_ ? kernel : nullptr;
  }
  size_t workspace_bytes() const override { return aligned_->bytes; }

  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override {
    const void* bias = epilogue_.vector() ? data[3] : nullptr;
    cublasLtMatmulDescOpaque_t desc = desc_;
    if (bias) check(lt().desc_set(&desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    for (int64_t i = 0, calls = p_.calls(); i < calls; ++i) {
      int64_t a = 0, b = 0, c = 0, rest = i;
      for (size_t axis = 0; axis + 1 < p_.batch.size(); ++axis) {
        const Product::Axis& along = p_.batch[axis];
        const int64_t at = rest % along.extent;
        rest /= along.extent;
        a += at * along.a, b += at * along.b, c += at * along.c;
      }
      call(desc, moved(data[0], a), moved(data[1], b), moved(data[2], c), bias, workspace, stream);
    }
  }

 private:
  struct Algorithm {
    cublasLtMatmulAlgo_t algo;
    size_t bytes;  // of workspace
  };

  MatmulKernel(const Product& p, DType dtype, const Epilogue& epilogue, int device)
      : p_(p), dtype_(dtype), epilogue_(epilogue), device_(device), settings_(library_settings()) {
    const auto a = stored(p.k, p.m, p.a_col, p.a_row), b = stored(p.n, p.k, p.b_col, p.b_row),
               c = stored(p.n, p.m, p.c_col, p.c_row);
    const Product::Axis batch = p.batch.empty() ? Product::Axis{1, 0, 0, 0} : p.batch.back();
    layout(a_, *a, batch.extent, batch.a);
    layout(b_, *b, batch.extent, batch.b);
    layout(c_, *c, batch.extent, batch.c);
    const bool wide = dtype == DType::kFloat64, tf32 = dtype == DType::kFloat32 && settings_.allow_tf32;
    const auto compute = wide ? CUBLAS_COMPUTE_64F : tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    check(lt().desc_init(&desc_, sizeof desc_, compute, wide ? CUDA_R_64F : CUDA_R_32F));
    const int32_t ops[] = {b->transposed ? CUBLAS_OP_T : CUBLAS_OP_N, a->transposed ? CUBLAS_OP_T : CUBLAS_OP_N};
    check(lt().desc_set(&desc_, CUBLASLT_MATMUL_DESC_TRANSA, &ops[0], sizeof ops[0]));
    check(lt().desc_set(&desc_, CUBLASLT_MATMUL_DESC_TRANSB, &ops[1], sizeof ops[1]));
    const uint32_t name = epilogue.name();
    check(lt().desc_set(&desc_, CUBLASLT_MATMUL_DESC_EPILOGUE, &name, sizeof name));
  }

  void layout(cublasLtMatrixLayoutOpaque_t& made, const Stored& s, int64_t batch, int64_t batch_stride) {
    check(lt().layout_init(&made, sizeof made, type_of(dtype_), static_cast<uint64_t>(s.rows),
                           static_cast<uint64_t>(s.columns), s.step));
    const auto count = static_cast<int32_t>(batch);
    check(lt().layout_set(&made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
    check(lt().layout_set(&made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch_stride, sizeof batch_stride));
  }

  /// The heuristics' first choice for operands aligned to `alignment` bytes.
  std::optional<Algorithm> find(uintptr_t alignment, size_t workspace) const {
    cublasLtMatmulDescOpaque_t desc = desc_;
    const void* bias = reinterpret_cast<const void*>(alignment);  // only its alignment counts
    if (epilogue_.vector()) check(lt().desc_set(&desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    cublasLtMatmulPreferenceOpaque_t preference;
    check(lt().preference_init(&preference, sizeof preference));
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t name, auto value) {
      check(lt().preference_set(&preference, name, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace));
    if (settings_.deterministic || itemsize(dtype_) == 2)  // partial sums: in the compute type, in a fixed order
      set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    for (auto name : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                      CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      set(name, static_cast<uint32_t>(alignment));
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    cublasLtMatrixLayoutOpaque_t a = a_, b = b_, c = c_;
    const auto status = lt().heuristic(handle_of(device_), &desc, &b, &a, &c, &c, &preference, 1, &result, &count);
    const bool refused = !epilogue_.plain() && status == CUBLAS_STATUS_INVALID_VALUE;
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || refused || (status == CUBLAS_STATUS_SUCCESS && count == 0))
      return std::nullopt;
    check(status);
    if (result.state != CUBLAS_STATUS_SUCCESS) return std::nullopt;
    return Algorithm{result.algo, result.workspaceSize};
  }

  const Algorithm& unaligned() const {
    std::call_once(once_, [this] { unaligned_ = find(static_cast<uintptr_t>(itemsize(dtype_)), aligned_->bytes); });
    if (!unaligned_)
      throw Error(ErrorKind::kNotImplemented,
                  "matmul: expected operands whose memory begins at a multiple of 16 bytes, got a view that does not, "
                  "and cuBLASLt has no other way for this shape. Copy it first.");
    return *unaligned_;
  }

  void* moved(void* data, int64_t elements) const { return static_cast<char*>(data) + elements * itemsize(dtype_); }

  void call(const cublasLtMatmulDescOpaque_t& desc, const void* a, const void* b, void* c, const void* bias,
            void* workspace, StreamHandle stream) const {
    uintptr_t bits = 0;
    for (const void* p : {a, b, static_cast<const void*>(c), bias}) bits |= reinterpret_cast<uintptr_t>(p);
    const Algorithm& algorithm = bits % kAlignment == 0 ? *aligned_ : unaligned();
    static constexpr float kOne = 1, kZero = 0;
    static constexpr double kWideOne = 1, kWideZero = 0;
    const bool wide = dtype_ == DType::kFloat64;
    const void* one = wide ? static_cast<const void*>(&kWideOne) : &kOne;
    const void* zero = wide ? static_cast<const void*>(&kWideZero) : &kZero;
    cublasLtMatmulDescOpaque_t d = desc;
    cublasLtMatrixLayoutOpaque_t la = a_, lb = b_, lc = c_;
    check(lt().matmul(handle_of(device_), &d, one, b, &lb, a, &la, zero, c, &lc, c, &lc, &algorithm.algo, workspace,
                      algorithm.bytes, static_cast<cudaStream_t>(stream)));
  }

  Product p_;
  DType dtype_;
  Epilogue epilogue_;
  int device_;
  LibrarySettings settings_;
  cublasLtMatmulDescOpaque_t desc_{};
  cublasLtMatrixLayoutOpaque_t a_{}, b_{}, c_{};
  std::optional<Algorithm> aligned_;
  mutable std::once_flag once_;
  mutable std::optional<Algorithm> unaligned_;
};

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

/// Null where cuBLASLt has no algorithm; with `whole` also where it has none for all that comes with the product.
KernelPtr library_matmul(std::span<const Spec> ins, std::span<const Spec> outs, Activation activation, int device,
                         bool whole = false) {
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
  if (auto kernel = MatmulKernel::make(p, out.dtype, all, device)) {
    steps->add(kernel, sums ? with({n + 1}) : n > 2 ? with(bias.place) : places);
  } else if (whole) {
    return nullptr;
  } else {
    if (auto product = n > 2 ? MatmulKernel::make(p, out.dtype, biased, device) : nullptr) {
      steps->add(product, with(bias.place));
    } else if (auto product = MatmulKernel::make(p, out.dtype, {}, device)) {
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
  return steps;
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
  return !empty(ins, outs) && all_float(ins) && library_matmul(ins, outs, activation_of(attrs), device, true);
}

}  // namespace minimx::cuda
