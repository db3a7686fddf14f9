// serial == naive == threaded == threaded in bulk, exactly, for thousands of random programs. The build with a planted
// race must fail here.
#include <atomic>
#include <thread>

#include "check.h"
#include "workload.h"

using minimx::engine::Policy;

TEST(workload_naive_equals_serial) {
  for (int seed = 0; seed < check::rounds(2'000); ++seed) {
    const workload::Workload w = workload::make(seed);
    if (!(workload::run_engine(w, Policy::kNaive) == workload::run_serial(w)))
      check::failed(__FILE__, __LINE__, "naive differs from serial, seed " + std::to_string(seed));
  }
}

TEST(workload_threaded_equals_naive_equals_serial) {
  for (int seed = 0; seed < check::rounds(10'000); ++seed) {
    const workload::Workload w = workload::make(seed);
    const workload::Result serial = workload::run_serial(w);
    if (!(workload::run_engine(w, Policy::kThreaded) == serial))
      check::failed(__FILE__, __LINE__, "threaded differs from serial, seed " + std::to_string(seed));
    if (!(workload::run_engine(w, Policy::kNaive) == serial))
      check::failed(__FILE__, __LINE__, "naive differs from serial, seed " + std::to_string(seed));
  }
}

TEST(workload_in_bulk_equals_serial) {
  for (int seed = 0; seed < check::rounds(10'000); ++seed) {
    const workload::Workload w = workload::make(seed), bulked = workload::with_bulks(w, seed);
    const workload::Result serial = workload::run_serial(w);
    if (!(workload::run_engine(bulked, Policy::kThreaded) == serial))
      check::failed(__FILE__, __LINE__, "threaded in bulk differs from serial, seed " + std::to_string(seed));
    if (seed % 10 == 0 && !(workload::run_engine(bulked, Policy::kNaive) == serial))
      check::failed(__FILE__, __LINE__, "naive in bulk differs from serial, seed " + std::to_string(seed));
  }
}

// Pure ordering: this is the one that must fail with the planted race.
TEST(workload_order_threaded_equals_serial) {
  for (int seed = 0; seed < check::rounds(1'000); ++seed) {
    const workload::Workload w = workload::make(seed, false);
    if (!(workload::run_engine(w, Policy::kThreaded) == workload::run_serial(w)))
      check::failed(__FILE__, __LINE__, "threaded differs from serial, seed " + std::to_string(seed));
  }
}

// Threads that push on the same Vars in opposite orders: a circle of waiting operators would hang here.
TEST(workload_overlapping_pushes_from_many_threads_cannot_deadlock) {
  using namespace minimx::engine;
  std::vector<VarPtr> vars(5);
  for (VarPtr& v : vars) v = make_var();
  std::vector<int64_t> counts(vars.size());
  std::atomic<int64_t> expected{0};
  const auto pusher = [&](int seed) {
    std::mt19937 random(seed);
    const BulkScope bulk(seed % 2 ? 10 : 0);
    for (int i = 0; i < check::rounds(5'000); ++i) {
      std::vector<int> picked;
      std::vector<Var*> writes;
      for (int n = 2 + static_cast<int>(random() % 2); n > 0; --n)
        picked.push_back(static_cast<int>(random() % vars.size()));
      for (int p : picked) writes.push_back(vars[p].get());
      expected += static_cast<int64_t>(picked.size());
      const Lane lane = random() % 2 ? Lane::kCompute : Lane::kHost;
      push(
          [&counts, picked] {
            for (int p : picked) ++counts[p];
          },
          writes, writes, {.name = "count", .cost_ns = random() % 2 ? 0.0 : 1e9, .lane = lane});
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) threads.emplace_back(pusher, t);
  for (std::thread& t : threads) t.join();
  wait_all();
  int64_t sum = 0;
  for (int64_t c : counts) sum += c;
  CHECK(sum == expected);
}
