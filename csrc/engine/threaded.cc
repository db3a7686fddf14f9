// The threaded policy's hands: a lane's heap of ready operators and the threads that run them.
// Dependencies are settled before an operator comes here; all that is decided here is which goes first, and where.
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "engine/core.h"
#include "engine/order.h"
#include "engine/parallel.h"
#include "engine/spin.h"

namespace minimx::engine {

namespace {

bool runs_later(const Op* a, const Op* b) {
  if (a->info.priority != b->info.priority) return a->info.priority < b->info.priority;
  return a->order > b->order;
}

/// Signals (Python's Ctrl-C) are for the user's threads.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

/// For fork only, where a condition variable would have to be trusted across it.
template <class Done>
void poll(Done done, std::chrono::milliseconds patience) {
  const int64_t deadline = now_ns() + std::chrono::nanoseconds(patience).count();
  while (!done() && now_ns() < deadline) std::this_thread::sleep_for(std::chrono::microseconds(50));
}

/// The team follows set_num_threads from the worker's next operator on.
void adopt_num_threads() {
  const int n = num_threads();
  if (detail::t_team == n) return;
  detail::t_team = n;
#ifdef _OPENMP
  omp_set_num_threads(n);
#endif
}

}  // namespace

bool Workers::submit(Op* op) {
  if (ordering()) [[unlikely]]
    order::ready(*op);
  std::unique_lock lock(mutex_);
  if (closed_) return false;
  const bool short_handed = heap_.size() >= static_cast<size_t>(sleeping_) && crew() - lent_ < limit();
  if (short_handed && !start_thread() && crew() == 0) return false;
  heap_.push_back(op);
  std::push_heap(heap_.begin(), heap_.end(), runs_later);
  queued_.store(heap_.size(), std::memory_order_release);
  const bool wake = sleeping_ > 0;
  lock.unlock();
  if (wake) wake_.notify_one();
  return true;
}

/// Under mutex_. False when the system gives no more threads; the lane then does with those it has.
bool Workers::start_thread() {
  SignalsBlocked blocked;
  try {
    threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

void Workers::work() {
  t_role = lane_ == Lane::kCompute ? Role::kCompute : Role::kHost;
#ifdef __linux__
  pthread_setname_np(pthread_self(), lane_ == Lane::kCompute ? "mx-compute" : "mx-host");
#endif
  bool had_one = false;
  while (Op* op = next(std::exchange(had_one, true))) {
    run(op);
    if (g_core.load(std::memory_order_relaxed) == nullptr ||
        &g_core.load(std::memory_order_relaxed)->workers(lane_) != this)
      return;  // its operator forked, and this is the child: the lane stayed behind
  }
}

/// Under mutex_: takes the operator that goes next out of the heap. Null where none may start yet.
Op* Workers::take() {
  const size_t at = ordering() ? order::choose(heap_) : 0;
  if (at == heap_.size()) return nullptr;
  if (at == 0) {
    std::pop_heap(heap_.begin(), heap_.end(), runs_later);
  } else {
    std::swap(heap_[at], heap_.back());
    std::make_heap(heap_.begin(), heap_.end() - 1, runs_later);
  }
  Op* op = heap_.back();
  heap_.pop_back();
  return op;
}

/// The next operator to run, or null when the thread should end. Spins a little before it sleeps.
Op* Workers::next(bool had_one) {
  std::unique_lock lock(mutex_);
  if (had_one) --running_;
  Op* op = nullptr;
  for (bool spun = false;;) {
    if (!paused_ && !heap_.empty() && running_ - lent_ < limit()) {
      if ((op = take())) break;
      wake_.wait_for(lock, std::chrono::milliseconds(1));  // an order that is replayed or shuffled holds them back
      continue;
    }
    if (closed_ && heap_.empty()) {
      wake_.notify_all();  // the others may end as well
      return nullptr;
    }
    if (!spun) {
      spun = true;
      lock.unlock();
      spin_until([this] { return queued_.load(std::memory_order_acquire) > 0; });
      lock.lock();
      continue;
    }
    ++sleeping_;
    wake_.wait(lock);
    --sleeping_;
  }
  queued_.store(heap_.size(), std::memory_order_release);
  ++running_;
  busy_.fetch_add(1, std::memory_order_relaxed);
  bodies_.fetch_add(1, std::memory_order_relaxed);
  return op;
}

void Workers::run(Op* op) {
  if (lane_ == Lane::kCompute) adopt_num_threads();
  const FailurePtr failure = op->run();
  bodies_.fetch_sub(1, std::memory_order_release);
  dispose(op, failure);
  busy_.fetch_sub(1, std::memory_order_release);
}

void Workers::lend() {
  std::lock_guard lock(mutex_);
  ++lent_;
  if (heap_.empty() || closed_) return;
  if (sleeping_ > 0)
    wake_.notify_one();
  else if (crew() - lent_ < limit())
    start_thread();
}

void Workers::take_back() {
  std::lock_guard lock(mutex_);
  --lent_;
}

void Workers::pause() {
  {
    std::lock_guard lock(mutex_);
    paused_ = true;
  }
  if (lane_ != Lane::kCompute || t_role == Role::kCompute) return;
  // Ten seconds for a long operator; then a tenth for what it leaves to destroy, which may want the GIL that the
  // forking thread holds. Going ahead after that is still safe for the engine: see fork.cc.
  poll([this] { return bodies_.load(std::memory_order_acquire) == 0; }, std::chrono::seconds(10));
  poll([this] { return busy_.load(std::memory_order_acquire) == 0; }, std::chrono::milliseconds(100));
}

void Workers::resume() {
  std::lock_guard lock(mutex_);
  paused_ = false;
  wake_.notify_all();
}

void Workers::close() {
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    threads.swap(threads_);
    wake_.notify_all();
  }
  for (std::thread& t : threads) t.join();
}

}  // namespace minimx::engine
