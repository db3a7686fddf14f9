// The engine's inside: settings, the backlog, the list of unseen failures, the two pools of workers, and the few
// functions that the policies share. Included by csrc/engine/*.cc only.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/bulk.h"
#include "engine/engine.h"
#include "engine/op.h"

namespace minimx::engine {

/// What users set. Plain atomics outside Core, so that the hot path reads them without asking whether Core exists, and
/// a forked child keeps them.
struct Settings {
  std::atomic<bool> naive{false};
  std::atomic<bool> stopped{false};  // after shutdown: like naive, but failures are not thrown at push
  std::atomic<double> inline_threshold_ns{20e3};
  std::atomic<int> num_threads{0};  // 0: not asked yet
  std::atomic<int> host_threads{2};
  std::atomic<size_t> max_bytes{size_t{2} << 30};
  std::atomic<size_t> max_ops{4096};
  std::atomic<void (*)()> before_blocking{nullptr};
  std::atomic<void (*)()> after_blocking{nullptr};
  std::atomic<void (*)()> while_blocking{nullptr};
};
inline constinit Settings g_settings;
inline constinit thread_local int t_sync_depth = 0;  // SyncScopes alive on this thread

/// Counts what is in flight, holds back pushers beyond the limit, and lets wait_all sleep until there is nothing.
class Backlog {
 public:
  /// Counts an operator in; may block first, unless it is pushed from inside an operator.
  void admit(size_t bytes);
  void done(InFlight load);
  /// Waits until nothing is in flight. With a limit: gives up, returning false, when nothing finished for that long.
  bool drain(int64_t patience_ns = -1);
  InFlight now() const { return {ops_.load(std::memory_order_acquire), bytes_.load(std::memory_order_relaxed)}; }

 private:
  bool full(size_t bytes) const;
  bool roomy() const;
  template <class Done>
  bool block_until(Done enough, int64_t patience_ns);

  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;        // threads in changed_; guarded by mutex_, like the writing of the rest
  uint64_t finished_ = 0;  // operators done so far
  std::atomic<size_t> ops_{0};
  std::atomic<size_t> bytes_{0};
};

/// Failures that nobody has been told of.
class FailureLog {
 public:
  void add(FailurePtr failure);
  void forget(const FailurePtr& failure);
  std::vector<FailurePtr> take();  // in the order of pushes

 private:
  static constexpr size_t kMost = 64;  // a loop that fails every time must not fill the memory
  std::mutex mutex_;
  std::vector<FailurePtr> unseen_;
};

/// A lane's ready operators and the threads that run them. Threads start when there is work for them.
class Workers {
 public:
  explicit Workers(Lane lane) : lane_(lane) {}

  /// Takes over a ready operator. False when the lane is closed and the caller must run it.
  bool submit(Op* op);
  /// A worker that waits for the engine lends its place, so that a lane whose operators all wait still moves on.
  void lend();
  void take_back();
  /// Lets no operator start until resume(). The compute lane also waits, within reason, for the one that runs.
  void pause();
  void resume();
  /// Ends and joins the threads. What was still queued is run by them first.
  void close();

 private:
  int limit() const { return lane_ == Lane::kCompute ? 1 : g_settings.host_threads.load(std::memory_order_relaxed); }
  int crew() const { return static_cast<int>(threads_.size()); }
  bool start_thread();
  void work();
  Op* next(bool had_one);
  Op* take();
  void run(Op* op);

  const Lane lane_;
  std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_:
  std::vector<Op*> heap_;  // a heap by priority, then push number
  std::vector<std::thread> threads_;
  int running_ = 0;   // threads that have an operator
  int lent_ = 0;      // of these, how many wait inside it; invariant: a thread takes an operator only while
                      // running_ - lent_ < limit(), so more threads than limit() may exist, but not work
  int sleeping_ = 0;  // threads in wake_
  bool paused_ = false;
  bool closed_ = false;
  // Written under mutex_, or by a worker about itself; read without, as hints and by pause():
  std::atomic<size_t> queued_{0};  // heap_.size()
  std::atomic<int> bodies_{0};     // operators whose function is running
  std::atomic<int> busy_{0};       // operators taken from the heap and not yet disposed of
};

/// Everything that must not survive a fork. Made at the first use, never destroyed; a forked child makes its own.
struct Core {
  Backlog backlog;
  FailureLog failures;
  Gatherers gatherers;
  Workers compute{Lane::kCompute};
  Workers host{Lane::kHost};
  Workers& workers(Lane lane) { return lane == Lane::kCompute ? compute : host; }
};
Core& core();
inline constinit std::atomic<Core*> g_core{nullptr};

/// Which of the engine's threads this is.
enum class Role : uint8_t { kUser, kCompute, kHost };
inline constinit thread_local Role t_role = Role::kUser;

/// Gives up the GIL for a while.
class Unlocked {
 public:
  explicit Unlocked(bool really);
  ~Unlocked() {
    if (after_) after_();
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  void (*after_)();
};

/// Entered around whatever may block a caller, with no lock held: gives up the GIL, and a host worker's place, and
/// hands over what the caller has gathered. Nests only where the caller itself runs that, because a lane is closed.
class BlockingScope {
 public:
  BlockingScope();
  ~BlockingScope();
  BlockingScope(const BlockingScope&) = delete;
  BlockingScope& operator=(const BlockingScope&) = delete;
  /// To be called by whoever sleeps, every kPatience, with no lock held. May throw: then the wait is over.
  void still_blocked() const;
  static constexpr std::chrono::milliseconds kPatience{100};

 private:
  const Unlocked unlocked_;
};

/// Hands every ready Op to whoever runs it. Returns those that nobody takes, linked by next_ready: run them here.
Op* hand_out(Released& out);
void run_here(Op* list);
/// The end of an Op that was counted in the backlog; `op` is gone afterwards.
void dispose(Op* op, const FailurePtr& failure);
/// The second half of an Op's life after run(): its function is destroyed, its Vars are released, its followers start.
void finish(Op& op, const FailurePtr& failure);
/// naive.cc: waits for the Op's Vars, runs it on this thread, and finishes it.
FailurePtr run_on_caller(Call& op);

/// Names a failure and lists it as unseen.
FailurePtr report_failure(std::exception_ptr error, const PushInfo& info, uint64_t order);
/// Throws Poisoned, after which the failure counts as seen.
[[noreturn]] void throw_poisoned(FailurePtr failure);

/// Operators whose function is running on this thread, those inside others included.
inline constinit thread_local int t_inside = 0;
/// Such a function holds Vars: whoever waits for the whole engine there may wait for itself.
inline bool inside_operator() { return t_inside > 0 || t_role != Role::kUser; }

inline bool synchronous() { return t_sync_depth > 0 || g_settings.naive.load(std::memory_order_relaxed); }

void install_fork_handlers();

}  // namespace minimx::engine
