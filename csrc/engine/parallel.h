// Splitting one operator's loop over threads. The compute worker owns the one OpenMP team that does so (the same that
// oneDNN uses), so operators never fight over cores; everywhere else, inline runs above all, the loop stays serial.
// Not a task system: no nesting, no balancing beyond equal parts.
#pragma once
#include <algorithm>
#include <cstdint>
#include <exception>
#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace minimx::engine {

namespace detail {
/// Threads over which the calling thread may split a loop now.
inline constinit thread_local int t_team = 1;

/// Lets the calling thread split loops while it lives: around an operator that runs at once on its caller.
class TeamScope {
 public:
  explicit TeamScope(int n) : outer_(std::exchange(t_team, n)) {}
  ~TeamScope() { t_team = outer_; }
  TeamScope(const TeamScope&) = delete;
  TeamScope& operator=(const TeamScope&) = delete;

 private:
  int outer_;
};

/// Parts into which n iterations are cut, each of at least `grain`.
inline int parts(int64_t n, int64_t grain) {
  if (t_team <= 1) return 1;
  return static_cast<int>(std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, t_team));
}
}  // namespace detail

/// Calls f(begin, end) on parts that cover [0, n) once each, in parallel where this thread may and n >= 2 * grain.
/// Parts start at multiples of 64 iterations, so that no two threads write one cache line of a contiguous array.
/// Calls from inside f are serial. The first exception thrown by f is rethrown when all parts have ended.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
#ifdef _OPENMP
  const int parts = detail::parts(n, grain);
  if (parts > 1 && !omp_in_parallel()) {
    const int64_t unit = n >= 64 * parts ? 64 : 1;
    const int64_t units = (n + unit - 1) / unit;
    std::exception_ptr error;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int i = 0; i < parts; ++i) {
      try {
        f(units * i / parts * unit, std::min(n, units * (i + 1) / parts * unit));
      } catch (...) {
#pragma omp critical(minimx_parallel_for)
        if (!error) error = std::current_exception();
      }
    }
    if (error) std::rethrow_exception(error);
    return;
  }
#else
  (void)grain;
#endif
  f(int64_t{0}, n);
}

}  // namespace minimx::engine

namespace minimx {
using engine::parallel_for;
}
