// The heuristics' first choice is taken. cuBLASLt counts by columns, so it is asked for c^T = b^T a^T: a row-major
// matrix is the transpose of a column-major one, and a transpose that is a stride becomes a flag.
#include "cuda/product_kernel.h"

#include <cublasLt.h>

#include <array>
#include <mutex>

#include "cuda/device.h"
#include "cuda/libraries.h"
#include "cuda/library_kernels.h"

namespace minimx::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;  // bytes, what NVIDIA advises for Hopper
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

/// The name of it in cuBLASLt.
uint32_t name_of(const Epilogue& e) {
  if (e.sums) return CUBLASLT_EPILOGUE_BGRADB;  // our a is its B
  switch (e.activation) {
    case Activation::kRelu:
      return e.bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case Activation::kGeluTanh:
      return e.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    default:
      return e.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

// --- the kernel
// --------------------------------------------------------------------------------------------------------

/// See ProductKernel. Immutable but for a second algorithm, made when
/// operands are first seen that are aligned to their elements only.
class MatmulKernel final : public ProductKernel {
 public:
  /// Null where cuBLASLt has no algorithm, which may be for the epilogue.
  static std::shared_ptr<MatmulKernel> make(const Product& p, DType dtype, const Epilogue& epilogue, int device) {
    if (epilogue.sums && !p.batch.empty()) return nullptr;
    auto kernel = std::shared_ptr<MatmulKernel>(new MatmulKernel(p, dtype, epilogue, device));
    kernel->aligned_ = kernel->find(kProductAlignment, kWorkspace);
    return kernel->aligned_ ? kernel : nullptr;
  }
  size_t workspace_bytes() const override { return aligned_->bytes; }
  bool takes_unaligned() const override {
    return find(static_cast<uintptr_t>(itemsize(dtype_)), aligned_->bytes).has_value();
  }

  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override {
    const void* bias = epilogue_.vector() ? data[3] : nullptr;
    void* z = epilogue_.adds ? data[bias ? 4 : 3] : data[2];
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
      const Pointers at{moved(data[0], a), moved(data[1], b), moved(z, c), moved(data[2], c), bias};
      call(desc, at, workspace, stream);
    }
  }

 private:
  struct Pointers {
    const void *a, *b, *z;  // z: c where nothing is added
    void* c;
    const void* bias;
  };
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
    const uint32_t name = name_of(epilogue);
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

  void call(const cublasLtMatmulDescOpaque_t& desc, const Pointers& at, void* workspace, StreamHandle stream) const {
    uintptr_t bits = 0;
    for (const void* p : {at.a, at.b, at.z, static_cast<const void*>(at.c), at.bias})
      bits |= reinterpret_cast<uintptr_t>(p);
    const Algorithm& algorithm = bits % kProductAlignment == 0 ? *aligned_ : unaligned();
    static constexpr float kNumbers[] = {0, 1};
    static constexpr double kWide[] = {0, 1};
    const auto number = [this](int i) {
      return dtype_ == DType::kFloat64 ? static_cast<const void*>(&kWide[i]) : &kNumbers[i];
    };
    cublasLtMatmulDescOpaque_t d = desc;
    cublasLtMatrixLayoutOpaque_t la = a_, lb = b_, lc = c_;
    check(lt().matmul(handle_of(device_), &d, number(1), at.b, &lb, at.a, &la, number(epilogue_.adds), at.z, &lc, at.c,
                      &lc, &algorithm.algo, workspace, algorithm.bytes, static_cast<cudaStream_t>(stream)));
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

}  // namespace

std::optional<Stored> stored(int64_t r, int64_t c, int64_t r_stride, int64_t c_stride) {
  if ((r == 1 || r_stride == 1) && (c == 1 || c_stride >= r)) return Stored{false, r, c, c == 1 ? r : c_stride};
  if ((c == 1 || c_stride == 1) && (r == 1 || r_stride >= c)) return Stored{true, c, r, r == 1 ? c : r_stride};
  return std::nullopt;
}

int64_t Product::calls() const {
  int64_t n = 1;
  for (size_t i = 0; i + 1 < batch.size(); ++i) n *= batch[i].extent;
  return n;
}

std::shared_ptr<const ProductKernel> find_product(const Product& p, DType dtype, const Epilogue& epilogue, int device) {
  return MatmulKernel::make(p, dtype, epilogue, device);
}

}  // namespace minimx::cuda
