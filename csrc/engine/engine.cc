// push, in its three ways (inline, in a lane, at once), what happens when an operator ends, and the settings.
// The lanes are in threaded.cc, "at once" and waiting in naive.cc.
#include "engine/engine.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/error.h"
#include "engine/core.h"
#include "engine/inspect.h"
#include "engine/order.h"
#include "engine/parallel.h"
#include "engine/trace.h"

namespace minimx::engine {

namespace {

bool small(const PushInfo& info) {
  return info.lane == Lane::kCompute && info.cost_ns < g_settings.inline_threshold_ns.load(std::memory_order_relaxed);
}

/// Those who watch may refuse it.
void watch_push(const Op& op) {
  if (inspecting()) [[unlikely]]
    inspector().pushed(op, t_running);
  if (ordering()) [[unlikely]]
    order::pushed(op);
}

/// Neither small nor so large that a hop is nothing beside it. What costs nothing is another device's.
bool middling(const PushInfo& info) {
  return info.lane == Lane::kCompute && info.cost_ns > 0 && info.cost_ns < kMiddlingNs;
}

/// Whether threads push what takes long in turn. Then each had better compute at once, on a core of its own and without
/// Python's lock. A lone one keeps the lock, for a thread of pure Python gives it back after milliseconds only.
bool from_several_threads(const PushInfo& info) {
  constexpr int kPushes = 64;  // after another thread's
  static std::atomic<const void*> last{nullptr};
  static std::atomic<int> left{-1};
  thread_local const char me = 0;
  if (small(info) && info.all_ns < g_settings.inline_threshold_ns.load(std::memory_order_relaxed)) return false;
  const int n = left.load(std::memory_order_relaxed);
  if (last.load(std::memory_order_relaxed) == &me) {
    if (n > 0) left.store(n - 1, std::memory_order_relaxed);
    return n > 0;
  }
  last.store(&me, std::memory_order_relaxed);
  left.store(n < 0 ? 0 : kPushes, std::memory_order_relaxed);
  return n >= 0;
}

/// Runs `fn` here if nothing has to wait. False: it was not run.
bool run_inline(UniqueFunction<void()>& fn, std::span<Var* const> reads, std::span<Var* const> writes,
                const PushInfo& info) {
  InlineRun run{reads, writes};
  if (!run) return false;
  ++t_inside;
  try {
    fn();
  } catch (...) {
    run.fail(std::current_exception(), info);
  }
  --t_inside;
  return true;
}

/// The same with a team of threads, for what is not small. Whoever wants its result soon would lose more by a hop to
/// the worker and back (two wake-ups, and a core on which the caller spins) than by doing it himself. Not inside an
/// operator, nor where operators are gathered. The Vars are released before the GIL is asked for again.
bool run_with_team(UniqueFunction<void()>& fn, std::span<Var* const> reads, std::span<Var* const> writes,
                   const PushInfo& info) {
  if (inside_operator() || t_bulk_size > 1) return false;
  core();  // and with it what ends OpenMP's threads before a fork
  const Unlocked unlocked(true);
  const detail::TeamScope team(num_threads());
  return run_inline(fn, reads, writes, info);
}

void push_at_once(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes,
                  const PushInfo& info) {
  Ref<Call> op = make_ref<Call>(std::move(fn), reads, writes, info);
  watch_push(*op);
  trace_push(info, op->order, reads, writes);
  FailurePtr failure = run_on_caller(*op);
  if (failure && synchronous()) throw_poisoned(std::move(failure));
}

void push_queued(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes,
                 const PushInfo& info) {
  if (ordering() && order::caller_is_next()) return push_at_once(std::move(fn), reads, writes, info);
  Ref<Op> op = make_ref<Op>(std::move(fn), reads, writes, info, Op::Home::kLane);
  watch_push(*op);
  core().backlog.admit(info.bytes);
  trace_push(info, op->order, reads, writes);
  op->retain();  // for the queues and the lane; run_here or the worker gives it back
  Released out;
  bool here = small(info);
  if (ordering()) [[unlikely]]
    here = order::link(*op, out, here);
  else
    op->link(out);
  if (!out.ready) return core().gatherers.close_all();  // it may be behind one, and be what its thread waits for
  run_here(here ? out.ready : hand_out(out));
}

/// At exit of the process, if nobody called shutdown(). An operator that waits for what is gone by now (Python, say)
/// must not hang the exit: after ten seconds without progress the threads are left to the system.
void drain_at_exit() {
  Core* c = g_core.load(std::memory_order_acquire);
  if (!c || g_settings.stopped.exchange(true) || inside_operator()) return;
  set_blocking_hooks(nullptr, nullptr, nullptr);  // the interpreter behind them is gone
  if (!c->backlog.drain(10'000'000'000)) return;
  c->compute.close();
  c->host.close();
}

}  // namespace

Core& core() {
  if (Core* c = g_core.load(std::memory_order_acquire)) return *c;
  static const int once = (install_fork_handlers(), std::atexit(drain_at_exit));
  (void)once;
  Core* fresh = new Core;
  Core* c = nullptr;
  if (g_core.compare_exchange_strong(c, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *c;
}

void push(UniqueFunction<void()> fn, std::span<Var* const> reads, std::span<Var* const> writes, const PushInfo& info) {
  if (synchronous() || g_settings.stopped.load(std::memory_order_relaxed))
    return push_at_once(std::move(fn), reads, writes, info);
  if (!watched()) {
    const bool beside = from_several_threads(info);
    if (small(info)) {
      const Unlocked unlocked(beside);
      if (run_inline(fn, reads, writes, info)) return;
    } else if ((middling(info) || (beside && info.cost_ns > 0)) && run_with_team(fn, reads, writes, info)) {
      return;
    }
  }
  const auto lent = [](const Var* v) { return t_running->lends(v); };
  if (t_running && t_role != Role::kCompute && (std::ranges::any_of(writes, lent) || std::ranges::any_of(reads, lent)))
    return push_at_once(std::move(fn), reads, writes, info);
  if (t_bulk_size > 1 && info.lane == Lane::kCompute && !writes.empty() && !watched(kInspected | kOrdered))
    return push_gathered(std::move(fn), reads, writes, info);
  push_queued(std::move(fn), reads, writes, info);
}

Op* hand_out(Released& out) {
  Op* refused = nullptr;
  while (Op* op = out.ready) {
    out.ready = std::exchange(op->next_ready, nullptr);
    if (op->home == Op::Home::kCaller) {
      static_cast<Call*>(op)->wake(out);
      if (ordering()) [[unlikely]]
        order::unblocked(op->order);
      op->release();
    } else if (!core().workers(op->info.lane).submit(op)) {
      op->next_ready = std::exchange(refused, op);
    }
  }
  return refused;
}

void run_here(Op* list) {
  while (Op* op = list) {
    list = std::exchange(op->next_ready, nullptr);
    dispose(op, op->run());
  }
}

void dispose(Op* op, const FailurePtr& failure) {
  const bool ours = op->epoch == detail::epoch();  // false in a child that the operator itself has forked
  const InFlight load = op->load;
  finish(*op, failure);
  op->release();
  if (ours) core().backlog.done(load);
}

void finish(Op& op, const FailurePtr& failure) {
  op.drop_function();
  if (ordering()) [[unlikely]]
    order::ended(op);
  Released out;
  op.release_vars(failure, out);
  Op* refused = hand_out(out);
  if (ordering()) [[unlikely]]
    order::handed_out(op);
  run_here(refused);
}

// --- InlineRun, where it is not the hot path ------------------------------------------------------------------------

InlineRun try_inline(std::span<Var* const> reads, std::span<Var* const> writes) {
  if (watched()) return InlineRun();
  return InlineRun(reads, writes);
}

/// Entry `at` could not be acquired: is it because this run itself writes it already?
bool InlineRun::skip(Var* v, size_t at) {
  for (size_t i = 0; i < writes_.size() && i < at; ++i) {
    if (writes_[i] != v) continue;
    skipped_ |= uint64_t{1} << at;
    return true;
  }
  return false;
}

void InlineRun::give_up(size_t done) {
  writes_ = writes_.first(std::min(done, writes_.size()));
  reads_ = reads_.first(done - writes_.size());
  release();
}

void InlineRun::release_slow(Var* v, bool write, const FailurePtr& failure) {
  Released out;
  if (write)
    v->release_write(left(failure, *v, number_, nullptr), out);
  else
    v->release_read(out);
  run_here(hand_out(out));
}

void InlineRun::fail(std::exception_ptr error, const PushInfo& info) {
  FailurePtr failure;
  try {
    std::rethrow_exception(error);
  } catch (const Poisoned& inner) {
    failure = inner.failure;
  } catch (...) {
    failure = report_failure(std::move(error), info, number_ = next_order());
  }
  release(failure);
  held_ = false;
  if (synchronous()) throw_poisoned(std::move(failure));
}

// --- waiting for all, settings --------------------------------------------------------------------------------------

void wait_all() {
  Core* c = g_core.load(std::memory_order_acquire);
  if (!c) return;
  if (inside_operator())
    throw Error(ErrorKind::kInternal,
                "wait_all: expected to be called outside operators, got a call inside one. Wait for "
                "the Vars you need.");
  {
    const WaitTrace trace("wait_all", nullptr);
    c->backlog.drain();
  }
  std::vector<FailurePtr> failures = c->failures.take();
  if (failures.empty()) return;
  FailurePtr first = failures.front();
  failures.erase(failures.begin());
  throw Poisoned(std::move(first), std::move(failures));
}

void shutdown() {
  g_settings.stopped.store(true);
  Core* c = g_core.load(std::memory_order_acquire);
  if (!c || inside_operator()) return;
  c->backlog.drain();
  BlockingScope blocking;
  c->compute.close();
  c->host.close();
}

void set_policy(Policy policy) {
  if (Core* c = g_core.load(std::memory_order_acquire); c && !inside_operator()) c->backlog.drain();
  g_settings.naive.store(policy == Policy::kNaive);
}
Policy policy() { return g_settings.naive.load() ? Policy::kNaive : Policy::kThreaded; }

double inline_threshold_ns() { return g_settings.inline_threshold_ns.load(std::memory_order_relaxed); }
void set_inline_threshold_ns(double ns) { g_settings.inline_threshold_ns.store(ns); }
void set_host_threads(int n) { g_settings.host_threads.store(std::max(n, 1)); }
int host_threads() { return g_settings.host_threads.load(); }

int num_threads() {
  int n = g_settings.num_threads.load(std::memory_order_relaxed);
  if (n > 0) return n;
#ifdef _OPENMP
  n = omp_get_max_threads();
#else
  n = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#endif
  int unset = 0;
  return g_settings.num_threads.compare_exchange_strong(unset, n) ? n : unset;
}

void set_num_threads(int n) {
  g_settings.num_threads.store(std::max(n, 1));
#ifdef _OPENMP
  omp_set_num_threads(std::max(n, 1));
#endif
}

void set_inflight_limit(size_t bytes, size_t ops) {
  g_settings.max_bytes.store(bytes);
  g_settings.max_ops.store(std::max<size_t>(ops, 1));
}

InFlight in_flight() {
  Core* c = g_core.load(std::memory_order_acquire);
  return c ? c->backlog.now() : InFlight{0, 0};
}

bool on_worker() { return t_role == Role::kCompute; }

void set_blocking_hooks(void (*before)(), void (*after)(), void (*meanwhile)()) {
  g_settings.before_blocking.store(before);
  g_settings.after_blocking.store(after);
  g_settings.while_blocking.store(meanwhile);
}

Unlocked::Unlocked(bool really) : after_(really ? g_settings.after_blocking.load() : nullptr) {
  if (auto* before = g_settings.before_blocking.load(); before && really) before();
}

BlockingScope::BlockingScope() : unlocked_((close_own_bulk(), true)) {
  if (t_role == Role::kHost) core().host.lend();
}

BlockingScope::~BlockingScope() {
  if (t_role == Role::kHost) core().host.take_back();
}

void BlockingScope::still_blocked() const {
  if (auto* meanwhile = g_settings.while_blocking.load()) meanwhile();
}

}  // namespace minimx::engine
