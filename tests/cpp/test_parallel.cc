// parallel_for: who may split, that every iteration runs once, and OpenMP's threads across a fork. Not run under TSAN,
// which does not understand libgomp's barriers.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/engine.h"
#include "engine/parallel.h"

using namespace minimx;
using namespace minimx::engine;

namespace {

const PushInfo kLarge{.name = "large", .cost_ns = 1e9};

/// Number of parts into which parallel_for cuts n here; checks that they cover [0, n) once.
int parts_of(int64_t n, int64_t grain) {
  std::vector<std::atomic<int>> hits(n);
  std::atomic<int> parts{0};
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    ++parts;
    for (int64_t i = begin; i < end; ++i) ++hits[i];
  });
  for (auto& h : hits) CHECK(h == 1);
  return parts;
}

int parts_on_worker(int64_t n, int64_t grain) {
  int parts = 0;
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  push([&] { parts = parts_of(n, grain); }, {}, vars, kLarge);
  wait_to_read(a.get());
  return parts;
}

}  // namespace

TEST(parallel_splits_on_the_worker_only) {
  set_num_threads(3);
  CHECK(parts_of(10'000, 10) == 1);
  CHECK(parts_on_worker(0, 10) == 0);
#ifdef _OPENMP
  CHECK(parts_on_worker(10'000, 10) == 3);
  CHECK(parts_on_worker(25, 10) == 2);
  CHECK(parts_on_worker(19, 10) == 1);
  CHECK(parts_on_worker(10'001, 1) == 3);
  set_num_threads(2);
  CHECK(parts_on_worker(10'000, 10) == 2);
  SyncScope sync;
  CHECK(parts_on_worker(10'000, 10) == 2);
#endif
}

TEST(parallel_nested_is_serial_and_exceptions_pass) {
  set_num_threads(2);
  std::atomic<int> inner{0};
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  push(
      [&] {
        parallel_for(1000, 1, [&](int64_t, int64_t) { parallel_for(1000, 1, [&](int64_t, int64_t) { ++inner; }); });
      },
      {}, vars, kLarge);
  wait_to_read(a.get());
#ifdef _OPENMP
  CHECK(inner == 2);
#endif
  push([&] { parallel_for(1000, 1, [&](int64_t, int64_t) { throw std::runtime_error("inside"); }); }, {}, vars, kLarge);
  CHECK_THROWS(Poisoned, wait_to_read(a.get()));
}

TEST(parallel_after_a_fork) {
  set_num_threads(2);
  SyncScope sync;  // this thread has a team of its own, which fork() would lose
  const int here = parts_on_worker(10'000, 10);
  for (int i = 0; i < 5; ++i) {
    const pid_t pid = fork();
    if (pid == 0) _exit(parts_on_worker(10'000, 10) == here ? 0 : 1);
    int status = -1;
    for (int ms = 0; ms < 10'000 && waitpid(pid, &status, WNOHANG) == 0; ++ms)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (status != 0) kill(pid, SIGKILL);
    CHECK(status == 0);
    CHECK(parts_on_worker(10'000, 10) == here);
  }
}
