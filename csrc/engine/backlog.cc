// What is in flight, and what has failed unseen: the two things that the whole engine shares.
#include <algorithm>

#include "engine/core.h"
#include "engine/order.h"
#include "engine/spin.h"

namespace minimx::engine {

bool Backlog::full(size_t bytes) const {
  const size_t ops = ops_.load(std::memory_order_relaxed);
  if (ops == 0) return false;
  return ops >= g_settings.max_ops.load(std::memory_order_relaxed) ||
         bytes_.load(std::memory_order_relaxed) + bytes > g_settings.max_bytes.load(std::memory_order_relaxed);
}

/// A pusher that was held back goes on at three quarters of the limit, so that it is not woken for every operator.
bool Backlog::roomy() const {
  const size_t ops = ops_.load(std::memory_order_relaxed);
  if (ops == 0) return true;
  return ops <= g_settings.max_ops.load(std::memory_order_relaxed) / 4 * 3 &&
         bytes_.load(std::memory_order_relaxed) <= g_settings.max_bytes.load(std::memory_order_relaxed) / 4 * 3;
}

/// Sleeps until it is enough. With a patience: or until nothing finished for that long, and then returns false.
template <class Done>
bool Backlog::block_until(Done enough, int64_t patience_ns) {
  const order::Blocked noted(next_order());
  BlockingScope blocking;
  const Gatherers::Pause nothing_held_back;
  if (spin_until(enough)) return true;
  uint64_t finished = 0;
  int64_t since = now_ns();
  for (;;) {
    std::unique_lock lock(mutex_);
    ++waiting_;
    const bool done = changed_.wait_for(lock, BlockingScope::kPatience, enough);
    --waiting_;
    if (done) return true;
    if (finished != finished_) since = now_ns();
    finished = finished_;
    lock.unlock();
    if (patience_ns >= 0 && now_ns() - since > patience_ns) return false;
    blocking.still_blocked();
  }
}

void Backlog::admit(size_t bytes) {
  if (ordering() && !inside_operator()) {  // then who is held back, and until when, must not depend on luck
    if (order::crowded(g_settings.max_ops.load(std::memory_order_relaxed))) drain();
  } else if (!inside_operator() && full(bytes)) {
    block_until([this] { return roomy(); }, -1);
  }
  std::lock_guard lock(mutex_);
  ops_.fetch_add(1, std::memory_order_relaxed);
  bytes_.fetch_add(bytes, std::memory_order_relaxed);
}

void Backlog::done(InFlight load) {
  std::lock_guard lock(mutex_);
  ++finished_;
  bytes_.fetch_sub(load.bytes, std::memory_order_relaxed);
  ops_.fetch_sub(load.ops, std::memory_order_release);
  if (waiting_ > 0) changed_.notify_all();
}

bool Backlog::drain(int64_t patience_ns) {
  const auto empty = [this] { return ops_.load(std::memory_order_acquire) == 0; };
  return empty() || block_until(empty, patience_ns);
}

void FailureLog::add(FailurePtr failure) {
  std::lock_guard lock(mutex_);
  if (unseen_.size() < kMost) unseen_.push_back(std::move(failure));
}

void FailureLog::forget(const FailurePtr& failure) {
  std::lock_guard lock(mutex_);
  std::erase(unseen_, failure);
}

std::vector<FailurePtr> FailureLog::take() {
  std::vector<FailurePtr> all;
  {
    std::lock_guard lock(mutex_);
    all.swap(unseen_);
  }
  std::sort(all.begin(), all.end(), [](const FailurePtr& a, const FailurePtr& b) { return a->order < b->order; });
  return all;
}

FailurePtr report_failure(std::exception_ptr error, const PushInfo& info, uint64_t order) {
  auto failure = std::make_shared<Failure>(Failure{std::move(error), info.name, info.site, order});
  try {
    std::rethrow_exception(failure->error);
  } catch (const PartFailed& part) {
    failure->whole = std::exchange(failure->op, part.op);
    if (part.site) failure->site = part.site;
    failure->spared = part.spared;
    failure->error = part.error;
  } catch (...) {  // the operator's own
  }
  core().failures.add(failure);
  return failure;
}

void throw_poisoned(FailurePtr failure) {
  core().failures.forget(failure);
  throw Poisoned(std::move(failure));
}

}  // namespace minimx::engine
