// An Op: one pushed operator on its way through the queues of its Vars, and the thread-blind part of its life:
// link it into the queues, run or skip it once all are granted, release them. Who runs it is decided in engine.cc.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "engine/engine.h"
#include "engine/failure.h"
#include "engine/function.h"
#include "engine/var.h"

namespace minimx::engine {

/// One Var's place in an Op, and the Op's place in that Var's queue.
struct Use {
  Op* op = nullptr;
  Ref<Var> var;
  Use* next = nullptr;  // in the Var's queue; guarded by the Var's lock
  bool reads = false;
  bool writes = false;  // both: the Op is queued as a writer, and poison still reaches it
};

class Op : public RefCounted {
 public:
  /// Who runs the Op once it is ready: a lane's worker, or the thread that pushed it and waits.
  enum class Home : uint8_t { kLane, kCaller };

  Op(UniqueFunction<void()> fn, std::span<Var* const> reads, std::span<Var* const> writes, const PushInfo& info,
     Home home);
  ~Op() override;

  /// Links the Op into the queues of all its Vars, as one step that no other Op's link() can be halfway through.
  /// The last grant, perhaps during this very call, hands the Op out in `out.ready`. Each hold is a grant that the
  /// caller owes.
  void link(Released& out, int holds = 0);
  /// Called by a Var that grants one of the Op's uses.
  void granted(Released& out) {
    if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) hand_out(out);
  }
  /// The earliest failure among what the Op reads, or null. Only while its Vars are granted.
  FailurePtr inherited_failure() const;
  /// Runs the function, or skips it when an input is poisoned. What it throws is returned as a failure; null is
  /// success.
  virtual FailurePtr run();
  /// Destroys the function, and with it what it captured, before anyone can learn that the Op is done.
  virtual void drop_function() { fn_ = nullptr; }
  /// Releases all Vars. Those written take over `failure`.
  virtual void release_vars(const FailurePtr& failure, Released& out);
  /// True if it, or the Op whose function is running it, holds the Var for writing: what its own function pushes there
  /// must run now, as one part of it. Queued, it would come after whoever waits for this Op.
  bool lends(const Var* var) const;
  /// The use of a Var by it, or by the Op whose function is running it, or null.
  const Use* declared(const Var* var) const;
  const Op* outer() const { return outer_; }
  /// The use of a Var, or null.
  virtual const Use* find(const Var* var) const;

  std::span<const Use> uses() const { return {uses_, static_cast<size_t>(count_)}; }

  // Set when pushed, constant from then on.
  const PushInfo info;
  const Home home;
  const uint64_t order;  // the push number
  const uint64_t epoch;  // of the process that pushed it: elsewhere the Op is void

  InFlight load;             // what the backlog counts for it; constant once the Op may run
  Op* next_ready = nullptr;  // in Released, while it is handed out

 protected:
  /// Runs a function of this Op, as `info` and `order` describe it. What it throws is returned as a failure.
  FailurePtr call(UniqueFunction<void()>& fn, const PushInfo& info, uint64_t order);
  /// Grants that are still owed to it.
  int missing() const { return missing_.load(std::memory_order_acquire); }

  // invariant: sorted by address, no Var twice; not touched after link(), as the queues point into it.
  Use* uses_ = inline_;
  int count_ = 0;

 private:
  static constexpr int kInlineUses = 6;
  void add(Var* var, bool write);
  void add_many(std::span<Var* const> reads, std::span<Var* const> writes);
  bool lent_by_outer(const Var* var, bool write) const;
  void hand_out(Released& out) {
    next_ready = out.ready;
    out.ready = this;
  }

  UniqueFunction<void()> fn_;
  const Op* outer_ = nullptr;  // while it runs: the Op whose function is running this one
  // invariant: the uses not yet granted, plus one while link() is at work, plus the holds.
  std::atomic<int> missing_{0};
  std::unique_ptr<Use[]> more_;
  Use inline_[kInlineUses];
};

/// An Op of Home::kCaller: its pusher sleeps until all is granted, and then runs and finishes it. Every wait is one,
/// without a function.
class Call final : public Op {
 public:
  Call(UniqueFunction<void()> fn, std::span<Var* const> reads, std::span<Var* const> writes, const PushInfo& info)
      : Op(std::move(fn), reads, writes, info, Home::kCaller) {}

  bool ready() const { return state_.load(std::memory_order_acquire) == kReady; }
  /// Sleeps until the Call is ready, or for that long.
  void sleep(std::chrono::milliseconds most);
  /// The last grant. Vars of a Call that its pusher has left are released here.
  void wake(Released& out);
  /// The pusher goes away instead of running it. The Vars are released, unchanged, as soon as they are granted.
  void leave(Released& out);

 private:
  enum State { kPending, kReady, kLeft };
  void release_unchanged(Released& out);

  std::atomic<State> state_{kPending};  // written under mutex_
  std::mutex mutex_;
  std::condition_variable changed_;
};

/// The innermost Op whose function runs on this thread, or null.
inline constinit thread_local const Op* t_running = nullptr;

/// The next push number.
uint64_t next_order();

}  // namespace minimx::engine
