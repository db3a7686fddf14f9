// Gathering operators, and running what was gathered; see bulk.h.
#include "engine/bulk.h"

#include <utility>

#include "engine/core.h"
#include "engine/trace.h"

namespace minimx::engine {

Bulk::Bulk(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes,
           const PushInfo& first)
    : Op(nullptr, reads, writes, {.name = "bulk", .priority = first.priority, .lane = Lane::kCompute}, Home::kLane) {
  load = {0, 0};
  for (int i = 0; i < count_; ++i) entries_[uses_[i].var.get()].use = &uses_[i];
  add(std::move(fn), reads, writes, first, order);
}

Bulk::Entry* Bulk::entry_of(Var* var) {
  const auto found = entries_.find(var);
  return found == entries_.end() ? nullptr : &found->second;
}

const Use* Bulk::find(const Var* var) const {
  const auto found = entries_.find(var);
  return found == entries_.end() ? nullptr : found->second.use;
}

/// Deadlock freedom, and that a bulk is never later than its members would be alone.
///
/// Op::link makes "waits for" point to Ops linked earlier only. A bulk is linked with its first member; of a later one
/// it accepts only Vars that are granted at once, so that no arrow ever starts at it after its link. Whoever links
/// later may well point to it: that is the right direction.
///
/// Members are tied: none starts before all that the bulk waits for has finished. So while the bulk waits, a member
/// must depend on one that is in it already. Then by induction each depends on the first, which alone would wait for
/// the same. Once everything is granted nothing is waited for, and any member may join.
///
/// What is left is the hold. A thread that blocks in the engine lets go of its own, and whoever waits for another
/// thread's bulk, or queues an operator that the outside can see behind it, closes that bulk first
/// (Gatherers::close_all).
bool Bulk::append(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes,
                  const PushInfo& info) {
  if (info.priority != this->info.priority || !depends(reads, writes)) return false;
  // What a failed attempt has acquired stays with the bulk, which is closed now.
  for (Var* v : writes)
    if (!acquire(v, true)) return false;
  for (Var* v : reads)
    if (!acquire(v, false)) return false;
  add(std::move(fn), reads, writes, info, next_order());
  return true;
}

/// Must this operator wait for a member, or would it, alone, not wait longer than the bulk?
bool Bulk::depends(std::span<Var* const> reads, std::span<Var* const> writes) {
  if (missing() == 1) return true;  // only the hold
  for (Var* v : writes)
    if (entry_of(v)) return true;
  for (Var* v : reads)
    if (Entry* e = entry_of(v); e && e->use->writes) return true;
  return false;
}

/// Makes the Var one of the bulk's, if that needs no waiting.
bool Bulk::acquire(Var* var, bool write) {
  if (Entry* e = entry_of(var)) {
    if (!write || e->use->writes) return true;
    if (!var->try_upgrade()) return false;
    e->use->writes = true;
    return true;
  }
  if (!(write ? var->try_acquire_write() : var->try_acquire_read())) return false;
  Entry& e = entries_[var];
  e.use = &e.own;
  e.own.op = this;
  e.own.var = Ref<Var>(var);
  e.own.writes = write;
  return true;
}

void Bulk::add(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes,
               const PushInfo& info, uint64_t order) {
  trace_push(info, order, reads, writes);
  const size_t first = touches_.size();
  for (Var* v : reads)
    if (Entry* e = entry_of(v)) touches_.push_back({e, false});
  for (Var* v : writes) touches_.push_back({entry_of(v), true});
  members_.push_back({std::move(fn), info, order, first, touches_.size()});
  ++load.ops;
  load.bytes += info.bytes;
}

void Bulk::hand_over() {
  Released out;
  granted(out);
  run_here(engine::hand_out(out));
}

FailurePtr Bulk::inherited(const Member& member) const {
  const FailurePtr* first = nullptr;
  for (size_t i = member.first_touch; i < member.end_touch; ++i) {
    const FailurePtr& f = touches_[i].entry->failure;
    if (!touches_[i].write && f && (!first || f->order < (*first)->order)) first = &f;
  }
  return first ? *first : nullptr;
}

void Bulk::run(Member& member) {
  FailurePtr failure = inherited(member);
  trace_run(TraceEvent::Kind::kStart, member.info, member.order, failure != nullptr);
  if (!failure) failure = call(member.fn, member.info, member.order);
  trace_run(TraceEvent::Kind::kEnd, member.info, member.order, failure != nullptr);
  member.fn = nullptr;
  for (size_t i = member.first_touch; i < member.end_touch; ++i)
    if (Entry* e = touches_[i].entry; touches_[i].write)
      e->failure = left(failure, *e->use->var, member.order, e->failure);
}

/// Each member's failure stays with what it writes; the bulk as a whole never fails.
FailurePtr Bulk::run() {
  for (auto& [var, entry] : entries_)
    if (entry.use->var->poisoned()) entry.failure = entry.use->var->held_failure();
  for (Member& member : members_) {
    run(member);
    if (epoch != detail::epoch()) break;  // it forked, and this is the child: the rest is the parent's
  }
  return nullptr;
}

void Bulk::release_vars(const FailurePtr&, Released& out) {
  if (epoch != detail::epoch()) return;
  for (auto& [var, entry] : entries_) {
    if (entry.use->writes)
      entry.use->var->release_write(std::move(entry.failure), out);
    else
      entry.use->var->release_read(out);
  }
}

// --- whose bulk is open ---------------------------------------------------------------------------------------------

namespace {

constinit thread_local Gatherer* t_gatherer = nullptr;

/// Under g.mutex.
Ref<Bulk> take(Gatherer& g) {
  if (g.bulk) core().gatherers.count(-1);
  return std::exchange(g.bulk, nullptr);
}

Ref<Bulk> take_locked(Gatherer& g) {
  std::lock_guard lock(g.mutex);
  return take(g);
}

/// A thread ends: what it has gathered must not be lost.
struct AtThreadEnd {
  ~AtThreadEnd() {
    t_bulk_size = 0;
    Gatherer* g = std::exchange(t_gatherer, nullptr);
    if (!g || g->epoch != detail::epoch()) return;
    if (Ref<Bulk> bulk = take_locked(*g)) bulk->hand_over();
    core().gatherers.leave(g);
    delete g;
  }
};

Gatherer& own_gatherer() {
  // In a forked child the parent's is left where it is: another thread may have held its lock.
  if (!t_gatherer || t_gatherer->epoch != detail::epoch()) {
    thread_local const AtThreadEnd at_end;
    (void)at_end;
    t_gatherer = new Gatherer;
    core().gatherers.enter(t_gatherer);
  }
  return *t_gatherer;
}

}  // namespace

void push_gathered(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes,
                   const PushInfo& info) {
  Gatherer& g = own_gatherer();
  core().backlog.admit(info.bytes);
  Ref<Bulk> before, full;
  {
    std::lock_guard lock(g.mutex);
    if (!g.bulk || !g.bulk->append(std::move(fn), reads, writes, info)) {
      before = take(g);
      core().gatherers.count(1);
      g.bulk = make_ref<Bulk>(std::move(fn), reads, writes, info);
      g.bulk->retain();  // for the queues and the lane, as in push
      Released none;
      g.bulk->open(none);
    }
    if (g.bulk->size() >= t_bulk_size || core().gatherers.paused()) full = take(g);
  }
  if (before) before->hand_over();
  if (full) full->hand_over();
}

void close_own_bulk() {
  Gatherer* g = t_gatherer;
  if (!g || g->epoch != detail::epoch()) return;
  if (Ref<Bulk> bulk = take_locked(*g)) bulk->hand_over();
}

void Gatherers::enter(Gatherer* g) {
  std::lock_guard lock(mutex_);
  all_.push_back(g);
}

void Gatherers::leave(Gatherer* g) {
  std::lock_guard lock(mutex_);
  std::erase(all_, g);
}

void Gatherers::close_all() {
  if (open_.load() == 0) return;
  std::vector<Ref<Bulk>> taken;
  {
    std::lock_guard lock(mutex_);
    for (Gatherer* g : all_)
      if (Ref<Bulk> bulk = take_locked(*g)) taken.push_back(std::move(bulk));
  }
  for (const Ref<Bulk>& bulk : taken) bulk->hand_over();
}

/// A thread that is adding to its bulk now either sees the Pause, or is seen by close_all: both hold its lock.
Gatherers::Pause::Pause() : all_(core().gatherers) {
  all_.paused_.fetch_add(1);
  all_.close_all();
}
Gatherers::Pause::~Pause() { all_.paused_.fetch_sub(1); }

int bulk_size() { return t_bulk_size; }

int set_bulk_size(int n) {
  close_own_bulk();
  return std::exchange(t_bulk_size, n);
}

BulkScope::BulkScope(int n) : outer_(std::exchange(t_bulk_size, n)) {}
BulkScope::~BulkScope() { set_bulk_size(outer_); }

}  // namespace minimx::engine
