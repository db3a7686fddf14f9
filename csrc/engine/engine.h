// The dependency engine's interface: push operators with the Vars they read and write, wait for Vars, choose a policy.
// It orders work and knows nothing of arrays, devices or Python. Essay: docs/engine.md. Read next: var.h, op.h,
// threaded.cc (lanes and workers), naive.cc (run at once), fork.cc.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>

#include "engine/failure.h"
#include "engine/function.h"
#include "engine/var.h"

namespace minimx::engine {

/// Where an operator runs when it does not run inline. kCompute is one worker thread, whose OpenMP team splits the work
/// inside an operator; it must never need Python's GIL. kHost is a pool for Python callbacks and I/O.
enum class Lane : uint8_t { kCompute, kHost };

/// Dearer operators (on one core) go to the worker: beside them a hop is nothing, and the caller is free meanwhile.
constexpr double kMiddlingNs = 1e6;

struct PushInfo {
  const char* name = "";  // must outlive the operator: a literal, or interned
  double cost_ns = 0;     // a guess of its running time on one core, or of that of its largest part
  double all_ns = 0;      // of all its parts
  int priority = 0;       // of the ready operators of a lane the highest goes first, then the earliest pushed
  Lane lane = Lane::kCompute;
  size_t bytes = 0;                                   // memory it keeps alive while in flight, for back-pressure
  std::shared_ptr<const std::string> site = nullptr;  // the user's line, may be null
};

/// Runs `fn` once every earlier operator that writes one of `reads`, and every earlier operator that uses one of
/// `writes`, has finished. A Var in both lists counts as written; duplicates are allowed. An operator that changes only
/// part of a Var's data must list it in both, since what it leaves alone is its input.
///
/// It runs on the calling thread when it may run at once and is small (Lane::kCompute, cost_ns below
/// inline_threshold_ns()) or middling (below kMiddlingNs), otherwise in its lane. It blocks only for back-pressure.
///
/// When `fn` throws, what it writes is poisoned. An operator with a poisoned input is skipped, and poisons what it
/// writes with the same (earliest) cause. An operator that succeeds cures what it writes. Nothing is thrown here,
/// except under Policy::kNaive or in a SyncScope, where the operator has run by the time push returns: then its
/// failure, or its input's, is thrown as Poisoned.
void push(UniqueFunction<void()> fn, std::span<Var* const> reads, std::span<Var* const> writes, const PushInfo& info);

/// The right to run an operator on the spot, without a closure: while it is true all Vars are acquired, and whoever
/// pushes on them queues behind. Released by the destructor. The spans and the Vars must outlive it, and the holder
/// must neither wait in the engine nor push (which may wait for room) meanwhile: what it waits for may be waiting for
/// it.
class InlineRun {
 public:
  /// An empty token.
  InlineRun() = default;
  InlineRun(std::span<Var* const> reads, std::span<Var* const> writes) : reads_(reads), writes_(writes) { acquire(); }
  InlineRun(const InlineRun&) = delete;
  InlineRun& operator=(const InlineRun&) = delete;
  ~InlineRun() {
    if (held_) release();
  }
  explicit operator bool() const { return held_; }
  /// The operator threw: poisons the written Vars and releases all. Throws Poisoned if operators run at once (see
  /// push).
  void fail(std::exception_ptr error, const PushInfo& info);

 private:
  void acquire() {
    if (reads_.size() + writes_.size() > 64) return;
    size_t done = 0;
    for (Var* v : writes_) {
      if (!v->try_acquire_write() && !skip(v, done)) return give_up(done);
      ++done;
    }
    for (Var* v : reads_) {
      if (!v->try_acquire_read() && !skip(v, done)) return give_up(done);
      ++done;
    }
    held_ = true;
  }
  void release(const FailurePtr& failure = nullptr) {
    if (epoch_ != detail::epoch()) return;
    uint64_t skipped = skipped_;
    for (Var* v : writes_) {
      if (!(skipped & 1) && (failure || !v->try_release_write())) release_slow(v, true, failure);
      skipped >>= 1;
    }
    for (Var* v : reads_) {
      if (!(skipped & 1) && !v->try_release_read()) release_slow(v, false, nullptr);
      skipped >>= 1;
    }
  }
  bool skip(Var* v, size_t at);
  void give_up(size_t done);
  void release_slow(Var* v, bool write, const FailurePtr& failure);

  std::span<Var* const> reads_;
  std::span<Var* const> writes_;
  uint64_t skipped_ = 0;  // bit i: entry i of writes, then reads, repeats a written Var and was not acquired again
  uint64_t epoch_ = detail::epoch();
  uint64_t number_ = 0;  // of the push that it stands for, once that has failed
  bool held_ = false;
};

/// The hot path: two uncontended atomic operations for each Var, no allocation, no mutex. The token is empty when
/// anything is pending or poisoned, or somebody watches (push knows the name to report): then push. The caller decides
/// whether its operator is small enough.
InlineRun try_inline(std::span<Var* const> reads, std::span<Var* const> writes);

/// Waits until no operator writes the Var, or uses it, respectively. Throws Poisoned if the Var is poisoned, every time
/// until it is overwritten. An operator's own function may wait to read what the operator declared: that returns at
/// once. Must not block on the compute worker: throws Error(kInternal) there.
void wait_to_read(Var* var);
void wait_to_write(Var* var);
/// Waits for a moment at which nothing is in flight, other threads' pushes included. Not from inside an operator. If
/// operators failed since the last call and nobody was told, throws Poisoned with the earliest of them, the others
/// beside it, and forgets them.
void wait_all();

/// kThreaded: as described at push. kNaive: everything runs on the calling thread, at once, in program order: the
/// oracle and the debugger. Switching waits for what is in flight.
enum class Policy : uint8_t { kNaive, kThreaded };
void set_policy(Policy policy);
Policy policy();

/// While it lives, what this thread pushes runs at once on it, as under kNaive. Earlier operators are waited for only
/// as far as dependencies ask.
class SyncScope {
 public:
  SyncScope();
  ~SyncScope();
  SyncScope(const SyncScope&) = delete;
  SyncScope& operator=(const SyncScope&) = delete;
};

/// True under kNaive or in a SyncScope of this thread.
bool runs_at_once();

/// While it lives, operators that this thread pushes on the compute lane, that write something and cannot run inline,
/// are gathered, and handed over as one after `n` of them, at the scope's end, before this thread waits, when another
/// thread waits for them, or when their order demands it. Each fails for itself, as if pushed alone. It saves the
/// worker a hop for each, and delays the first: for loops that push faster than they wait. Below 2: nothing is
/// gathered.
class BulkScope {
 public:
  explicit BulkScope(int n);
  ~BulkScope();
  BulkScope(const BulkScope&) = delete;
  BulkScope& operator=(const BulkScope&) = delete;

 private:
  int outer_;
};
/// The same without a scope: sets this thread's size, after handing over what is gathered. Returns the former. Default
/// 0.
int set_bulk_size(int n);
int bulk_size();

/// Operators dearer than this hop to the worker. Default 20 us: some five times what a hop costs.
double inline_threshold_ns();
void set_inline_threshold_ns(double ns);
/// Threads over which one operator may split its work (parallel.h): the compute worker's OpenMP team, from its next
/// operator on, and the calling thread's own. Default: what OpenMP says (OMP_NUM_THREADS, or the cores we may use).
void set_num_threads(int n);
int num_threads();
/// Threads of the host lane that may run at once, not counting those that wait for the engine. Default 2.
void set_host_threads(int n);
int host_threads();
/// A push blocks while operators in flight keep `bytes` alive or are `ops` many, until enough have finished. One
/// operator is always let in. Pushes from inside an operator never block. Default 2 GiB, 4096.
void set_inflight_limit(size_t bytes, size_t ops);
struct InFlight {
  size_t ops;
  size_t bytes;
};
/// What is queued or running now, inline runs apart.
InFlight in_flight();

/// True on the compute worker, which must not wait.
bool on_worker();
/// `before` and `after` are called, on the same thread, around everything that may block a caller: the bind layer gives
/// up the GIL and takes it back there. `meanwhile` is called between them, ten times a second, by a thread that sleeps
/// long; what it throws (a signal's KeyboardInterrupt) ends the wait, and of an operator pushed at once only the
/// waiting, not its run, can be ended so. Null: none.
void set_blocking_hooks(void (*before)(), void (*after)(), void (*meanwhile)() = nullptr);
/// Who hears of pushes, starts, ends and waits (trace.h); null turns it off. Returns when the former listener is not
/// being called any more.
class TraceSink;
void set_trace(TraceSink* sink);
/// Waits for all work, ends the threads. Idempotent. Later pushes run at once on their callers. Also run at exit.
void shutdown();

}  // namespace minimx::engine
