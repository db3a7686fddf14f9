// Linking, running and releasing an Op. Why link() can never produce a cycle of waiting Ops is written at link().
#include "engine/op.h"

#include <cxxabi.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/error.h"
#include "engine/core.h"
#include "engine/inspect.h"
#include "engine/order.h"
#include "engine/trace.h"

namespace minimx::engine {

uint64_t next_order() {
  static constinit std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

Op::Op(UniqueFunction<void()> fn, std::span<Var* const> reads, std::span<Var* const> writes, const PushInfo& push_info,
       Home op_home)
    : info(push_info),
      home(op_home),
      order(next_order()),
      epoch(detail::epoch()),
      load{1, push_info.bytes},
      fn_(std::move(fn)) {
  const size_t most = reads.size() + writes.size();
  if (most > kInlineUses) {
    more_ = std::make_unique<Use[]>(most);
    uses_ = more_.get();
  }
#ifdef MINIMX_PLANT_RACE  // only the test that shows that the other tests would notice
  if (order % 16 == 0 && !reads.empty()) reads = reads.subspan(1);
#endif
  if (more_) {
    add_many(reads, writes);
  } else {
    for (Var* v : writes) add(v, true);
    for (Var* v : reads) add(v, false);
  }
}

Op::~Op() = default;

/// Inserts a use in the order of addresses, or merges it with the one that is there.
void Op::add(Var* var, bool write) {
  if (home == Home::kCaller && lent_by_outer(var, write)) return;
  int at = count_;
  while (at > 0 && uses_[at - 1].var.get() > var) --at;
  if (at == 0 || uses_[at - 1].var.get() != var) {
    for (int i = count_++; i > at; --i) std::swap(uses_[i], uses_[i - 1]);
    uses_[at].op = this;
    uses_[at].var = Ref<Var>(var);
  } else {
    --at;
  }
  (write ? uses_[at].writes : uses_[at].reads) = true;
}

/// Hundreds of them (a program that updates a whole model): in the order of addresses, so that each goes to the end.
void Op::add_many(std::span<Var* const> reads, std::span<Var* const> writes) {
  std::vector<std::pair<Var*, bool>> all;
  all.reserve(reads.size() + writes.size());
  for (Var* v : writes) all.emplace_back(v, true);
  for (Var* v : reads) all.emplace_back(v, false);
  std::ranges::sort(all);
  for (const auto& [var, write] : all) add(var, write);
}

/// An Op that runs at once inside the function of another would wait for itself at a Var that the other holds. It needs
/// no grant there: nobody else can come between. Only a write to what the other merely reads is a mistake.
bool Op::lent_by_outer(const Var* var, bool write) const {
  for (const Op* op = t_running; op; op = op->outer_) {
    const Use* use = op->find(var);
    if (!use) continue;
    if (use->writes || !write) return true;
    throw Error(ErrorKind::kInternal, std::string(info.name) + ": expected to write only what the running operator '" +
                                          op->info.name + "' declares as written, got a Var it declares as read. " +
                                          "List it in its writes.");
  }
  return false;
}

bool Op::lends(const Var* var) const {
  const Use* use = declared(var);
  return use && use->writes;
}

const Use* Op::declared(const Var* var) const {
  for (const Op* op = this; op; op = op->outer_)
    if (const Use* use = op->find(var)) return use;
  return nullptr;
}

const Use* Op::find(const Var* var) const {
  for (const Use& use : uses())
    if (use.var.get() == var) return &use;
  return nullptr;
}

/// Deadlock freedom. All Vars are locked, in the order of their addresses, before the first use is appended, and opened
/// after the last. Of two Ops that share Vars one therefore holds all the shared locks before the other gets any, and
/// comes first in *every* shared queue. So "waits for" only ever points to an Op whose link() was earlier, and such
/// arrows cannot close a circle. Inline runs hold Vars but never wait for one, so no arrow starts at them.
void Op::link(Released& out, int holds) {
  missing_.store(count_ + 1 + holds, std::memory_order_relaxed);
  for (int i = 0; i < count_; ++i) uses_[i].var->lock();
  for (int i = 0; i < count_; ++i) uses_[i].var->enqueue(&uses_[i], out);
  for (int i = 0; i < count_; ++i) uses_[i].var->unlock();
  granted(out);
}

FailurePtr Op::inherited_failure() const {
  const FailurePtr* first = nullptr;
  for (const Use& use : uses()) {
    if (!use.reads || !use.var->poisoned()) continue;
    const FailurePtr& f = use.var->held_failure();
    if (f && (!first || f->order < (*first)->order)) first = &f;
  }
  return first ? *first : nullptr;
}

FailurePtr Op::run() {
  if (ordering()) [[unlikely]]
    order::started(*this);
  FailurePtr failure = inherited_failure();
  trace_run(TraceEvent::Kind::kStart, info, order, failure != nullptr);
  if (!failure && fn_) failure = call(fn_, info, order);
  trace_run(TraceEvent::Kind::kEnd, info, order, failure != nullptr);
  return failure;
}

FailurePtr Op::call(UniqueFunction<void()>& fn, const PushInfo& as, uint64_t number) {
  FailurePtr failure;
  outer_ = std::exchange(t_running, this);
  ++t_inside;
  try {
    if (inspecting()) [[unlikely]]
      inspector().run(*this, fn);
    else
      fn();
#ifdef __GLIBCXX__
  } catch (const abi::__forced_unwind&) {  // pthread_exit: what Python does to a thread that asks for the GIL too late
    throw;
#endif
  } catch (const Poisoned& inner) {  // it waited for something poisoned: the cause lies there
    failure = inner.failure;
  } catch (...) {
    failure = report_failure(std::current_exception(), as, number);
  }
  --t_inside;
  t_running = outer_;
  return failure;
}

void Op::release_vars(const FailurePtr& failure, Released& out) {
  if (epoch != detail::epoch()) return;
  for (int i = 0; i < count_; ++i) {
    if (uses_[i].writes)
      uses_[i].var->release_write(left(failure, *uses_[i].var, order, uses_[i].var->held_failure()), out);
    else
      uses_[i].var->release_read(out);
  }
}

void Call::sleep(std::chrono::milliseconds most) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, most, [this] { return ready(); });
}

void Call::wake(Released& out) {
  std::lock_guard lock(mutex_);
  if (state_.load(std::memory_order_relaxed) == kLeft) return release_unchanged(out);
  state_.store(kReady, std::memory_order_release);
  changed_.notify_one();
}

void Call::leave(Released& out) {
  std::lock_guard lock(mutex_);
  if (ready()) release_unchanged(out);
  state_.store(kLeft, std::memory_order_relaxed);
}

void Call::release_unchanged(Released& out) {
  for (const Use& use : uses()) {
    if (use.writes)
      use.var->release_write(FailurePtr(use.var->held_failure()), out);
    else
      use.var->release_read(out);
  }
}

}  // namespace minimx::engine
