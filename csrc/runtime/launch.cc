#include "runtime/launch.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>

#include "engine/core.h"
#include "runtime/backend.h"
#include "runtime/captured.h"
#include "runtime/checked.h"
#include "runtime/invoke.h"
#include "runtime/profile.h"

namespace minimx {
namespace {

constexpr int kInlineOperands = 16;

/// Everything a kernel run needs, laid out so that a queued run can own it: pointers, scalars by value, storages.
struct Operands {
  void* data[kInlineOperands];
  alignas(8) char scalars[kInlineOperands][8];
  engine::Var* reads[kInlineOperands];
  engine::Var* writes[kInlineOperands];
  Storage* uses[kInlineOperands];
  int n = 0, n_reads = 0, n_writes = 0, n_uses = 0;
};

/// A run that has to wait: owns its storages and copies of the scalars.
struct Queued {
  KernelPtr kernel;
  const char* name;
  Device device;
  std::vector<Ref<Storage>> keep;
  std::vector<void*> data;
  std::vector<std::array<char, 8>> scalars;
  uint64_t state[4];
};

/// What a GPU has been given and has not done yet, so that no launch blocks: the driver's queue takes some thousand,
/// and whoever launches into a full one would wait there with Python's lock. The wait is here instead, without it.
class Ahead {
 public:
  /// After each kernel that is put on the compute stream of GPU `id`.
  void launched(int id) {
    if (count_.fetch_add(1, std::memory_order_relaxed) % kEvery != kEvery - 1) return;
    std::function<void()> oldest;
    {
      std::lock_guard lock(mutex_);
      marks_.push_back(gpu_backend()->mark(id, StreamKind::kCompute));
      if (marks_.size() <= kMarks) return;
      oldest = std::move(marks_.front());
      marks_.pop_front();
    }
    engine::BlockingScope blocking;
    oldest();
  }

 private:
  static constexpr unsigned kEvery = 64;
  static constexpr size_t kMarks = 6;
  std::atomic<unsigned> count_{0};
  std::mutex mutex_;
  std::deque<std::function<void()>> marks_;  // one every kEvery kernels, the oldest first
};

Ahead& ahead_of(int id) {
  static auto* all = new std::array<Ahead, 64>;  // leaked: threads may launch while the process ends
  return (*all)[static_cast<size_t>(id) % all->size()];
}

/// Runs a kernel of the CPU, or puts one of a GPU on its device's compute stream. `uses`: the storages of its arrays.
template <class Uses>
void run_here(const Kernel& kernel, void* const* data, Device device, const char* name, const Uses& uses) {
  const size_t bytes = kernel.workspace_bytes();
  if (device.kind == Device::Kind::kCpu) return kernel.run(data, bytes ? thread_workspace(bytes) : nullptr);
  for (const auto& storage : uses) storage->use_on(StreamKind::kCompute);
  Ref<Storage> scratch = bytes ? Storage::allocate(bytes, device) : nullptr;  // given back at once: in stream order
  {
    const profile::DeviceSpan span(device, StreamKind::kCompute, name);
    gpu_backend()->enqueue(static_cast<const DeviceKernel&>(kernel), data, scratch ? scratch->data() : nullptr,
                           device.id, StreamKind::kCompute, name, engine::runs_at_once());
  }
  if (!capturing) ahead_of(device.id).launched(device.id);
}

void push_queued(const KernelPtr& kernel, const char* name, std::span<const Operand> ins,
                 std::span<const int8_t> scalar_types, std::span<const Array> outs, const uint64_t* state,
                 const profile::Text& site) {
  auto q = std::make_unique<Queued>();
  q->kernel = kernel;
  q->name = name;
  q->device = outs[0].device();
  q->scalars.resize(ins.size());
  std::vector<engine::Var*> reads, writes;
  size_t bytes = 0;
  if (state) {
    std::copy(state, state + 4, q->state);
    q->data.push_back(q->state);
  }
  for (size_t i = 0; i < ins.size(); ++i) {
    if (ins[i].is_array()) {
      checked::describe(*ins[i].array);
      q->data.push_back(ins[i].array->data());
      q->keep.push_back(ins[i].array->storage);
      reads.push_back(ins[i].array->var());
    } else if (ins[i].kind == Operand::Kind::kScalar) {
      ins[i].scalar.store(static_cast<DType>(scalar_types[i]), q->scalars[i].data());
      q->data.push_back(q->scalars[i].data());
    }
  }
  for (const Array& o : outs) {
    checked::describe(o);
    q->data.push_back(o.data());
    q->keep.push_back(o.storage);
    writes.push_back(o.var());
    if (!o.covers_storage()) reads.push_back(o.var());  // what it leaves alone is its input
    bytes += o.bytes();
  }
  engine::PushInfo info;
  info.name = name;
  info.cost_ns = kernel->cost_ns();
  info.bytes = bytes;
  info.site = site ? site : rules().site ? rules().site() : nullptr;
  engine::push([q = std::move(q)] { run_here(*q->kernel, q->data.data(), q->device, q->name, q->keep); }, reads, writes,
               info);
}

}  // namespace

void* thread_workspace(size_t bytes) {
  struct Scratch {
    void* p = nullptr;
    size_t bytes = 0;
    ~Scratch() { std::free(p); }
  };
  thread_local Scratch scratch;
  if (scratch.bytes < bytes) {
    std::free(scratch.p);
    scratch.bytes = (bytes + 4095) / 4096 * 4096;
    scratch.p = std::aligned_alloc(64, scratch.bytes);
    if (!scratch.p) {
      scratch.bytes = 0;
      throw Error(ErrorKind::kMemory, "operator: expected " + std::to_string(bytes) +
                                          " bytes of scratch memory, got none. Free arrays or use a smaller batch.");
    }
  }
  return scratch.p;
}

void launch(const KernelPtr& kernel, const char* name, std::span<const Operand> ins,
            std::span<const int8_t> scalar_types, std::span<const Array> outs, const uint64_t* state,
            const profile::Text& site) {
  bool fits = ins.size() + outs.size() + 1 <= kInlineOperands;
  if (!fits || kernel->cost_ns() >= engine::inline_threshold_ns())
    return push_queued(kernel, name, ins, scalar_types, outs, state, site);
  Operands a;
  if (state) a.data[a.n++] = const_cast<uint64_t*>(state);
  for (size_t i = 0; i < ins.size(); ++i) {
    if (ins[i].is_array()) {
      a.data[a.n++] = ins[i].array->data();
      a.reads[a.n_reads++] = ins[i].array->var();
      a.uses[a.n_uses++] = ins[i].array->storage.get();
    } else if (ins[i].kind == Operand::Kind::kScalar) {
      ins[i].scalar.store(static_cast<DType>(scalar_types[i]), a.scalars[i]);
      a.data[a.n++] = a.scalars[i];
    }
  }
  for (const Array& o : outs) {
    a.data[a.n++] = o.data();
    a.writes[a.n_writes++] = o.var();
    a.uses[a.n_uses++] = o.storage.get();
  }
  auto run = engine::try_inline({a.reads, static_cast<size_t>(a.n_reads)}, {a.writes, static_cast<size_t>(a.n_writes)});
  if (!run) return push_queued(kernel, name, ins, scalar_types, outs, state, site);
  run_here(*kernel, a.data, outs[0].device(), name, std::span(a.uses, static_cast<size_t>(a.n_uses)));
  // What it throws surfaces here and now: nothing needs to be poisoned.
}

}  // namespace minimx
