// Plans: what an operator does for one signature of operands, worked out once by the row's Python rule and kept.
// A plan holds the output types, the bound kernel and, once needed, the gradient programs. Plans are immutable but for
// that cache. invariant: lookups and invoke run under the interpreter's lock, so no lock is taken here.
#pragma once
#include <atomic>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/array.h"
#include "runtime/kernel.h"

namespace minimx {

class Plan;
class GradProgram;

/// The attributes of a call. Interned by the bind layer: equal attributes are one object, so identity is equality.
class AttrSet : public RefCounted {
 public:
  std::string text;  // "axis=1, keepdims=True": for messages and graphs
};

/// A hash with one more word.
inline uint64_t mixed(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
  return hash ^ hash >> 29;
}

/// Operand types of a call, packed into words that can be compared at once: per operand kind, type and device in one
/// word, then the shape, then the strides if it is not contiguous. Scalars count by kind only.
class Signature {
 public:
  void add(const Operand& x);
  void add(const Array& a);
  void add_word(int64_t w) {
    if (n_ < kMaxWords) words_[n_] = w;
    ++n_;
    hash_ = mixed(hash_, static_cast<uint64_t>(w));
  }
  uint64_t hash() const { return hash_; }
  bool fits() const { return n_ <= kMaxWords; }
  std::span<const int64_t> words() const { return {words_, static_cast<size_t>(n_)}; }

 private:
  static constexpr int kMaxWords = 2048;  // concatenate of a hundred arrays still fits
  int64_t words_[kMaxWords];
  int n_ = 0;
  uint64_t hash_ = 0x243f6a8885a308d3ull;
};

/// What mixed precision does with an operator's operands (Row.amp of minimx/ops/table.py): nothing, or brings those of
/// the types float16, bfloat16 and float32 to the low type of the thread, or to float32. What has a float64 stays as
/// is.
enum class Precision : uint8_t { kAsIs, kLow, kFloat32 };

/// An operator as C++ sees it: a name and its plans. The row itself is Python's (minimx/ops/table.py).
class Op : public RefCounted {
 public:
  explicit Op(std::string name) : name(std::move(name)) {}
  const std::string name;
  void* row = nullptr;  // the Python row, owned by the bind layer
  Precision precision = Precision::kAsIs;

  /// The plan for a signature, or null. The last one found is looked at first: most call sites repeat themselves.
  Plan* find(const AttrSet* attrs, const Signature& s);
  void insert(const AttrSet* attrs, const Signature& s, Ref<Plan> plan);
  size_t plan_count() const { return count_; }

 private:
  struct Entry {
    const AttrSet* attrs;
    std::vector<int64_t> words;  // a Signature's words
    Ref<Plan> plan;
  };
  std::unordered_map<uint64_t, std::vector<Entry>> plans_;
  Entry* last_ = nullptr;
  uint64_t last_hash_ = 0;
  size_t count_ = 0;
};

struct OutSpec {
  DType dtype;
  Dims shape;
};

class Plan : public RefCounted {
 public:
  Op* op = nullptr;
  Ref<const AttrSet> attrs;
  std::vector<OutSpec> outs;
  std::vector<int8_t> casts;  // per operand: the DType it is brought to first, or -1
  bool contiguous = false;    // operands are made C-contiguous first
  bool is_view = false;       // the one output shares operand 0's memory, with:
  Dims view_strides;
  int64_t view_offset = 0;
  bool host = false;       // the kernel calls Python
  bool random = false;     // the kernel's first operand is the random state of this call
  bool pointwise = false;  // element i of the output depends on element i of the operands only: may run in place

  /// The bound kernel; null for views. Made on first use, as a traced plan never needs one, and anew when the number of
  /// threads has changed, for oneDNN's primitives keep the one they were made for, or after renew_kernels().
  const KernelPtr& kernel() {
    const int64_t now = kernel_epoch();
    if (made_at_ != now && make_kernel_) {
      KernelPtr made = make_kernel_();  // may let other threads run meanwhile
      if (made_at_ != now) kernel_ = std::move(made);
      cost_ns_ = kernel_ ? kernel_->cost_ns() : 0;
      made_at_ = now;
    }
    return kernel_;
  }
  /// What the kernel that was made last is thought to take, in nanoseconds; 0 where there is none yet.
  double cost_ns() const { return cost_ns_; }
  /// Changes when kernels have to be made anew.
  static int64_t kernel_epoch() { return generation_.load(std::memory_order_relaxed) << 32 | engine::num_threads(); }
  /// All plans make their kernels anew when they next need them: settings that kernels keep have changed.
  static void renew_kernels() { generation_.fetch_add(1, std::memory_order_relaxed); }
  void set_kernel(std::function<KernelPtr()> make) { make_kernel_ = std::move(make); }

  /// Gradient programs by the mask of operands that need one.
  std::unordered_map<uint64_t, Ref<GradProgram>> gradients;

 private:
  KernelPtr kernel_;
  double cost_ns_ = 0;
  int64_t made_at_ = 0;  // the epoch when it was made
  static inline std::atomic<int64_t> generation_{0};
  std::function<KernelPtr()> make_kernel_;
};

/// Plans kept per operator before the table starts anew; a bound, since shapes may never repeat.
constexpr size_t kMaxPlans = 4096;

}  // namespace minimx
