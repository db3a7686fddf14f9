// fork() with work in flight. Only the forking thread lives on in the child: whatever other threads held there is held
// forever, be it a lock, a Var or a place in a queue. Three measures, each enough for its part:
//  1. The epoch moves on, by which every Var forgets holders, queue and lock at the next touch (Var::lock).
//  2. The child gets a fresh Core: new mutexes, no threads (they start again when needed), nothing in flight. The old
//  one,
//     with the parent's queued operators, is left where it is: destroying a closure could need a thread that is gone.
//  3. Before the fork the lanes pause, and the compute operator that runs may finish, so that the child finds no array
//     half written and no lock of the kernels' own (an allocator's) held. Host operators are not waited for: they may
//     be waiting for the GIL, which the forking thread has.
#include <pthread.h>

#include <atomic>

#include "engine/core.h"
#include "engine/spin.h"
#include "engine/trace.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace minimx::engine {

namespace {

constinit std::atomic<bool> g_forking{false};  // one fork at a time

/// libgomp's threads do not survive either, but it does not know: the next parallel region on this thread would wait
/// for them forever. Ended before the fork, they are started afresh on both sides.
void end_own_openmp_team() {
#ifdef _OPENMP
  if (!omp_in_parallel()) omp_pause_resource_all(omp_pause_hard);
#endif
}

void before_fork() {
  for (int tries = 0; g_forking.exchange(true, std::memory_order_acquire); ++tries) backoff(tries);
  if (Core* c = g_core.load(std::memory_order_acquire)) {
    c->host.pause();
    c->compute.pause();
  }
  end_own_openmp_team();
}

void after_fork_in_parent() {
  if (Core* c = g_core.load(std::memory_order_acquire)) {
    c->compute.resume();
    c->host.resume();
  }
  g_forking.store(false, std::memory_order_release);
}

void after_fork_in_child() {
  constexpr uint64_t kOne = uint64_t{1} << 48;
  detail::g_epoch.store(detail::epoch() + kOne, std::memory_order_relaxed);
  if (g_core.load(std::memory_order_relaxed)) g_core.store(new Core, std::memory_order_release);
  detail::forget_watchers();  // their own locks are not ours to judge
  t_role = Role::kUser;
  g_forking.store(false, std::memory_order_release);
}

}  // namespace

void install_fork_handlers() { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }

}  // namespace minimx::engine
