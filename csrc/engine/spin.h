// Short busy waits. They bridge the few microseconds in which the awaited thing usually happens, so that a quick
// operator does not pay for two futex wake-ups; whoever waits longer than kSpinNs must go to sleep by other means.
#pragma once
#include <sched.h>

#include <chrono>
#include <cstdint>
#include <thread>

namespace minimx::engine {

constexpr int64_t kSpinNs = 30'000;

inline void cpu_pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline int64_t now_ns() {
  using std::chrono::steady_clock;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

/// Waits for a lock that its holder keeps for some ten instructions; yields when the holder seems to have been
/// preempted.
inline void backoff(int tries) {
  if (tries < 64)
    cpu_pause();
  else
    sched_yield();
}

/// Polls `ready` for up to kSpinNs. Returns its last answer. On a single core it polls once: nobody else could run.
template <class Ready>
bool spin_until(Ready ready) {
  static const bool kAlone = std::thread::hardware_concurrency() < 2;
  if (ready()) return true;
  if (kAlone) return false;
  const int64_t deadline = now_ns() + kSpinNs;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      cpu_pause();
    }
  } while (now_ns() < deadline);
  return ready();
}

}  // namespace minimx::engine
