// Random programs in orders that are shuffled, recorded and replayed: the results are those of the plain loop, a seed
// gives one order, and what was recorded happens again.
#include "check.h"
#include "engine/order.h"
#include "workload.h"

using minimx::engine::Policy;
namespace order = minimx::engine::order;

namespace {

/// Only one thread pushes: several would be told apart by which comes first.
workload::Workload one_thread(uint64_t seed) {
  workload::Workload w = workload::make(seed);
  w.programs.resize(1);
  return w;
}

std::string text(const order::Log& log) {
  std::string all;
  for (const order::Event& e : log) all += e.kind + e.key + " " + e.name + "\n";
  return all;
}

/// Runs it, ends what was begun, and returns what happened.
std::string run(const workload::Workload& w, int seed) {
  const workload::Result got = workload::run_engine(w, Policy::kThreaded);
  const auto [log, broken] = order::end();
  if (!broken.empty()) check::failed(__FILE__, __LINE__, broken + " Seed " + std::to_string(seed));
  if (!(got == workload::run_serial(w)))
    check::failed(__FILE__, __LINE__, "it differs from serial, seed " + std::to_string(seed));
  return text(log);
}

}  // namespace

TEST(order_shuffled_equals_serial_and_is_the_same_each_time) {
  for (int seed = 0; seed < check::rounds(300); ++seed) {
    const workload::Workload w = one_thread(seed);
    order::shuffle(seed);
    const std::string first = run(w, seed);
    order::shuffle(seed);
    if (run(w, seed) != first)
      check::failed(__FILE__, __LINE__, "a seed gives two orders, seed " + std::to_string(seed));
  }
}

TEST(order_shuffled_with_many_pushers_equals_serial) {
  for (int seed = 0; seed < check::rounds(300); ++seed) {
    order::shuffle(seed);
    run(workload::make(seed), seed);
  }
}

TEST(order_recorded_is_replayed) {
  for (int seed = 0; seed < check::rounds(300); ++seed) {
    const workload::Workload w = one_thread(seed);
    order::record();
    workload::run_engine(w, Policy::kThreaded);
    const order::Log log = order::end().first;
    order::replay(log);
    CHECK(run(w, seed) == text(log));
  }
}
