// Deferred: operator calls that are put off into a list and run later: as one Program if such a list is known
// (known_lists.h), else one by one, as if they had never been put off.
//
// What is not here: how a list becomes a Program (minimx/graph/bulk.py), and the engine's own bulks, which gather
// operators for its worker (engine/bulk.h). Essay: docs/engine.md, "Bulk fusion".
//
// invariant: all of it happens under Python's lock. There is one list a device, of calls of one thread. Other threads
// never add to it; they run it when they need what it makes. Lists of several devices know nothing of each other: what
// travels between devices is no call of a list. At most one holds calls that draw numbers, so that these come in order.
// invariant: a Storage that a list reads or writes knows its slot there (Storage::slot_). Everybody who waits for it
// or pushes on it asks var(), and who wants memory that is not there yet data(); both run the list first. So waits,
// reads, copies, pushes, in-place writes, other threads, a fork and the end of the process need no code of their own.
// invariant: the list may read blocks that queued operators still use: their threads must not look at slot_.
// invariant: planning, checks and the tape happen at the call, as without the list; only the kernel runs later. A call
// that fails then poisons what it writes, as a queued operator does.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/call_list.h"
#include "runtime/invoke.h"

namespace minimx {

struct KnownList;

class Deferred {
 public:
  struct Counts {
    uint64_t calls = 0;  // put off
    uint64_t lists = 0;  // run
  };
  /// How many calls are put off together at most, where the user has not said.
  static constexpr int kDefaultSize = 32;
  /// The list of a device; all lists.
  static Deferred& of(Device device) { return lists()[device.kind == Device::Kind::kCpu ? 0 : 1 + device.id]; }
  static std::span<Deferred> all() { return {lists(), static_cast<size_t>(used_.load(std::memory_order_relaxed))}; }
  /// Whether a call is one for call(). Where nobody has asked for it, only pointwise operators are put off, those of
  /// the CPU that are large, and what comes after them is looked at. `m`: the mode of this thread.
  bool considers(const Mode& m, Plan& plan, Device device) const {
    if (const int size = asked(m); size >= 0) return size > 1;
    if (!list_.empty()) return true;
    return plan.pointwise && pays(plan, device);
  }
  /// The number of a thread that has none of its own; -1: what is best.
  static void set_default_size(int size) { default_size_ = size; }

  /// Puts a call off, if it is one that can be: then `outs` are arrays that it will write. Else what this thread has
  /// put off runs, for the call comes after that, and the answer is false. `into`: arrays to write to, checked.
  /// `whole`: the call is part of a sequence that repeats itself, and of any kind.
  bool call(Plan& plan, Device device, std::span<const Operand> ins, std::vector<Array>& outs,
            std::span<const Array> into, bool whole);
  /// Runs what is put off, if anything is. Waits for another thread that does.
  void run();
  static void run_all() {
    for (Deferred& d : all()) d.run();
  }
  /// Runs what this thread has put off.
  static void run_own() {
    for (Deferred& d : all())
      if (!d.list_.empty() && d.owner_ == std::this_thread::get_id()) d.run();
  }
  /// Runs what this thread has put off of sequences that repeat themselves.
  static void run_sequences() {
    for (Deferred& d : all())
      if (d.list_.whole && d.owner_ == std::this_thread::get_id()) d.run();
  }
  /// Puts a copy off, if `from` is made by a sequence that repeats itself. It is not a call of the sequence.
  static bool copy(const Array& from, const Array& to);
  /// Runs lists that draw numbers, but for `next`: it, or somebody else, is about to.
  static void before_draw(const Deferred* next = nullptr) {
    for (Deferred& d : all())
      if (d.list_.random && &d != next) [[unlikely]]
        d.run();
  }
  /// Runs it if it is what waiting() called `number`, or does nothing.
  void run_list(uint64_t number);
  /// Changes with every call of a list that should not wait for long; 0 where there is none. Any thread may ask.
  uint64_t waiting() const { return waiting_.load(std::memory_order_relaxed); }
  /// Called when a list begins: somebody may see to it that it does not wait for long.
  static void set_begun(void (*f)()) { begun_ = f; }

  static const Counts& counts() { return counts_; }

 private:
  friend class Storage;
  static constexpr size_t kLists = 65;  // of the CPU and the GPUs

  static Deferred* lists() {
    static auto* made = new Deferred[kLists];  // leaked: arrays may be freed after static destructors ran
    return made;
  }

  /// A launch on a GPU takes longer than putting it off; so does a large kernel of the CPU.
  static bool pays(Plan& plan, Device device) {
    if (device.kind == Device::Kind::kGpu) return true;
    const KernelPtr& kernel = plan.kernel();
    return kernel && kernel->cost_ns() >= engine::inline_threshold_ns();
  }
  static int asked(const Mode& m) { return m.bulk >= 0 ? m.bulk : default_size_; }

  bool joins(const Plan& plan, std::span<const Operand> ins, std::span<const Array> into, bool whole) const;
  bool readable(const Array& a, bool strided) const;
  bool writable(const Array& a, const OutSpec& out) const;
  void begin(std::thread::id owner, Device device, bool whole);
  int find(const Array& a) const;
  int add_value(const Array& a, int slot, bool external = false);
  int add_slot(const Ref<Storage>& storage, bool promised);
  int value_of(const Array& a);
  void add_args(CallList::Call& call, std::span<const Operand> ins);
  void add_outputs(CallList::Call& call, std::span<const Operand> ins, std::vector<Array>& outs,
                   std::span<const Array> into);

  /// Waits while another thread runs a list.
  void wait_for_runner();
  bool runs_here() const { return running_ && runner_ == std::this_thread::get_id(); }
  std::shared_ptr<KnownList> recognised();
  bool run_as_program(CallList& list, const std::shared_ptr<KnownList>& known);
  void run_call(CallList& list, size_t i);
  void launch_call(CallList& list, const CallList::Call& call);
  static void leave(CallList::Slot& slot);

  CallList list_;
  CallList spare_;  // empty, with room for the next
  std::thread::id owner_;
  std::atomic<bool> running_{false};  // a list is being run; its storages still know their slots
  std::thread::id runner_;
  std::mutex mutex_;  // of running_ for those who wait, without Python's lock
  std::condition_variable done_;
  uint64_t number_ = 0;  // of lists begun
  std::atomic<uint64_t> waiting_{0};

  static inline std::atomic<int> used_{1};  // lists, the first ones
  static inline int default_size_ = -1;
  static inline uint64_t begun_lists_ = 0;  // so far, of all devices
  static inline void (*begun_)() = nullptr;
  static Counts counts_;
};

}  // namespace minimx
