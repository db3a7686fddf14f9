// The slow half of Var: its lock, its queue and its poison. The fast half is in the header.
#include "engine/var.h"

#include <new>

#include "engine/op.h"
#include "engine/spin.h"

namespace minimx::engine {

void Var::lock() {
  for (int tries = 0;; ++tries) {
    uint64_t s = state_.load(std::memory_order_relaxed);
    const uint64_t epoch = detail::epoch();
    if ((s & kEpoch) != epoch) {  // in a forked child: holders and waiters stayed behind in the parent
      const bool torn = s & kLocked;
      const uint64_t fresh = epoch | kLocked | (torn ? 0 : s & kPoisoned);
      if (!state_.compare_exchange_strong(s, fresh, std::memory_order_acquire, std::memory_order_relaxed)) continue;
      head_ = tail_ = nullptr;
      if (torn) ::new (&failure_) FailurePtr();  // it may have been half written: leak it
      return;
    }
    if (!(s & kLocked) &&
        state_.compare_exchange_weak(s, s | kLocked, std::memory_order_acquire, std::memory_order_relaxed))
      return;
    backoff(tries);
  }
}

/// Grants uses from the head of the queue as far as the holders allow, and returns the new state.
uint64_t Var::grant(uint64_t s, Released& out) {
  while (head_ && !(s & kWriter) && !(head_->writes && (s & kReaders))) {
    Use* use = head_;
    head_ = use->next;
    s += use->writes ? kWriter : kReader;
    use->op->granted(out);
  }
  if (!head_) tail_ = nullptr;
  return head_ ? s | kQueued : s & ~kQueued;
}

void Var::enqueue(Use* use, Released& out) {
  (tail_ ? tail_->next : head_) = use;
  tail_ = use;
  state_.store(grant(state_.load(std::memory_order_relaxed), out), std::memory_order_relaxed);
}

void Var::release_read(Released& out) {
  if (!try_release_read()) end_use(kReader, false, nullptr, out);
}

void Var::release_write(FailurePtr failure, Released& out) {
  if (failure || !try_release_write()) end_use(kWriter, true, std::move(failure), out);
}

void Var::end_use(uint64_t held, bool write, FailurePtr failure, Released& out) {
  if (write && failure_) out.stale.reserve(out.stale.size() + 1);  // so that nothing allocates under the lock
  lock();
  uint64_t s = state_.load(std::memory_order_relaxed) - held;
  if (write) {
    s = failure ? s | kPoisoned : s & ~kPoisoned;
    failure_.swap(failure);
  }
  state_.store(grant(s, out), std::memory_order_relaxed);
  unlock();
  if (failure) out.stale.push_back(std::move(failure));
}

FailurePtr Var::failure() const {
  if (!poisoned()) return nullptr;
  Var* self = const_cast<Var*>(this);
  self->lock();
  FailurePtr f = failure_;
  self->unlock();
  return f;
}

uint64_t Var::id() const {
  static constinit std::atomic<uint64_t> last{0};
  uint64_t id = id_.load(std::memory_order_relaxed);
  if (id) return id;
  const uint64_t fresh = last.fetch_add(1, std::memory_order_relaxed) + 1;
  return id_.compare_exchange_strong(id, fresh, std::memory_order_relaxed) ? fresh : id;
}

}  // namespace minimx::engine
