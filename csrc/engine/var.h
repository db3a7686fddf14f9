// A Var: one thing that operators read and write (the storage of an array, usually), seen only as a queue of its uses.
// It is a readers-writer lock whose waiters are operators, not threads, served in the order in which they were pushed.
// It holds no data and knows no thread. Derive from it to spare an allocation. Read next: op.h, then engine.h.
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "common/refcount.h"
#include "engine/failure.h"

namespace minimx::engine {

class Op;
struct Use;

namespace detail {
/// The number of forks between the first process and this one, shifted to where Var's state keeps it. Holders, locks
/// and queues of a Var that were left behind by threads of the parent show an older epoch and count for nothing.
inline constinit std::atomic<uint64_t> g_epoch{0};
inline uint64_t epoch() { return g_epoch.load(std::memory_order_relaxed); }
}  // namespace detail

/// What releasing Vars brought about; acted upon after all locks are open again.
struct Released {
  Op* ready = nullptr;            // operators that were granted their last Var, linked by Op::next_ready
  std::vector<FailurePtr> stale;  // poison that was overwritten: destroying it may run foreign code (Python's, say)
};

class Var : public RefCounted {
 public:
  Var() : state_(detail::epoch()) {}

  /// True when no operator uses the Var or waits for it. Only a hint when other threads push.
  bool idle() const { return (current() & ~kPoisoned) == detail::epoch(); }
  /// True when the last operator that should have written the Var failed or was skipped.
  bool poisoned() const { return current() & kPoisoned; }
  /// Nothing is writing the Var and nothing that was pushed will. Once true, its pusher sees all finished writes.
  bool readable() const { return (current() & ~(kReaders | kPoisoned)) == detail::epoch(); }
  /// At one moment: readable (or, for a `write`, idle), and not poisoned. Asked one after the other, a writer that
  /// fails in between would be seen neither running nor failed.
  bool sound(bool write) const { return (write ? current() : current() & ~kReaders) == detail::epoch(); }
  /// The failure that poisoned it, or null.
  FailurePtr failure() const;
  /// A number that no other Var has had, for traces; given out at the first call.
  uint64_t id() const;

  // The fast path: one atomic operation to acquire, one to release. All of these only succeed when nothing is queued;
  // acquiring also wants the Var free of poison, so that whoever acquires this way has nothing to check.
  bool try_acquire_read() {
    const uint64_t free = detail::epoch();
    uint64_t s = state_.load(std::memory_order_relaxed);
    while ((s & ~kReaders) == free)
      if (state_.compare_exchange_weak(s, s + kReader, std::memory_order_acquire, std::memory_order_relaxed))
        return true;
    return false;
  }
  bool try_acquire_write() {
    uint64_t s = detail::epoch();
    return state_.compare_exchange_strong(s, s | kWriter, std::memory_order_acquire, std::memory_order_relaxed);
  }
  /// From the only reader to the writer.
  bool try_upgrade() {
    uint64_t s = detail::epoch() | kReader;
    return state_.compare_exchange_strong(s, detail::epoch() | kWriter, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }
  bool try_release_read() {
    uint64_t s = state_.load(std::memory_order_relaxed);
    while (!(s & (kLocked | kQueued)))
      if (state_.compare_exchange_weak(s, s - kReader, std::memory_order_release, std::memory_order_relaxed))
        return true;
    return false;
  }
  bool try_release_write() {
    uint64_t s = detail::epoch() | kWriter;
    return state_.compare_exchange_strong(s, detail::epoch(), std::memory_order_release, std::memory_order_relaxed);
  }

  // The queued path, for the engine only. lock() is a spin lock held for some ten instructions, never across a call
  // that could block, allocate or run foreign code.
  void lock();
  void unlock() { state_.store(state_.load(std::memory_order_relaxed) & ~kLocked, std::memory_order_release); }
  /// Appends a use, and grants it at once if it can be. The caller holds the lock.
  void enqueue(Use* use, Released& out);
  /// Ends a read. Takes the lock itself.
  void release_read(Released& out);
  /// Ends a write; `failure` becomes the Var's poison, null cures it. Takes the lock itself.
  void release_write(FailurePtr failure, Released& out);
  /// The poison, for a caller who was granted the Var and has not released it: until then it cannot change.
  const FailurePtr& held_failure() const { return failure_; }

 private:
  // STATE: epoch (16 bits) | unused | readers (32) | flags (8)
  static constexpr uint64_t kWriter = 1;  // one operator may write; then there are no readers
  static constexpr uint64_t kLocked = 2;  // a thread is changing state_, head_, tail_ or failure_
  static constexpr uint64_t kQueued =
      4;  // head_ is not null: whoever comes waits behind it, whoever leaves looks there
  static constexpr uint64_t kPoisoned = 8;  // failure_ is not null
  static constexpr uint64_t kReader = uint64_t{1} << 8;
  static constexpr uint64_t kReaders = uint64_t{0xffffffff} << 8;
  static constexpr uint64_t kEpoch = uint64_t{0xffff} << 48;

  uint64_t current() const {
    const uint64_t s = state_.load(std::memory_order_acquire);
    const uint64_t epoch = detail::epoch();
    return (s & kEpoch) == epoch ? s : epoch | (s & kPoisoned);
  }
  uint64_t grant(uint64_t s, Released& out);
  void end_use(uint64_t held, bool write, FailurePtr failure, Released& out);

  // invariant: while kLocked is set only the lock's owner changes state_, so it may load, change and store.
  std::atomic<uint64_t> state_;
  // invariant: without kLocked the first use in the queue is one that the present holders exclude.
  Use* head_ = nullptr;
  Use* tail_ = nullptr;
  // invariant: changed only by the operator that holds the Var for writing, and under kLocked.
  FailurePtr failure_;
  mutable std::atomic<uint64_t> id_{0};
};

using VarPtr = Ref<Var>;

inline VarPtr make_var() { return make_ref<Var>(); }

}  // namespace minimx::engine
