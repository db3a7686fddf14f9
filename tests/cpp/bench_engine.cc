// What the engine costs, in nanoseconds: the inline token, a push that runs inline, a hop to the worker and back, and
// pushing without waiting. Best of five, since the machine is shared.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "engine/engine.h"

using namespace minimx::engine;

namespace {

template <class F>
void bench(const char* what, int n, F&& body) {
  double best = 1e18;
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    body(n);
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count() / n);
    wait_all();
  }
  std::printf("%-52s %9.1f ns\n", what, best);
}

}  // namespace

int main() {
  VarPtr a = make_var(), b = make_var(), c = make_var();
  Var *const reads[] = {a.get(), b.get()}, *const writes[] = {c.get()};
  const PushInfo small{.name = "small"}, large{.name = "large", .cost_ns = 1e9};
  const PushInfo host{.name = "host", .lane = Lane::kHost};
  int64_t ran = 0;

  bench("make_var and drop", 1'000'000, [](int n) {
    for (int i = 0; i < n; ++i) make_var();
  });
  bench("try_inline and release, 2 reads 1 write", 2'000'000, [&](int n) {
    for (int i = 0; i < n; ++i)
      if (InlineRun run = try_inline(reads, writes)) ++ran;
  });
  bench("try_inline and release, 0 reads 1 write", 2'000'000, [&](int n) {
    for (int i = 0; i < n; ++i)
      if (InlineRun run = try_inline({}, writes)) ++ran;
  });
  bench("push that runs inline, 2 reads 1 write", 1'000'000, [&](int n) {
    for (int i = 0; i < n; ++i) push([&] { ++ran; }, reads, writes, small);
  });
  bench("push at once (SyncScope)", 200'000, [&](int n) {
    SyncScope sync;
    for (int i = 0; i < n; ++i) push([&] { ++ran; }, reads, writes, large);
  });
  bench("push, run on the compute worker, wait", 50'000, [&](int n) {
    for (int i = 0; i < n; ++i) {
      push([&] { ++ran; }, reads, writes, large);
      wait_to_read(c.get());
    }
  });
  bench("push, run on the host lane, wait", 50'000, [&](int n) {
    for (int i = 0; i < n; ++i) {
      push([&] { ++ran; }, reads, writes, host);
      wait_to_read(c.get());
    }
  });
  bench("push, within the limit, not waiting", 4'000, [&](int n) {
    for (int i = 0; i < n; ++i) push([&] { ++ran; }, reads, writes, large);
  });
  bench("push and run, sustained, a chain", 200'000, [&](int n) {
    for (int i = 0; i < n; ++i) push([&] { ++ran; }, reads, writes, large);
    wait_all();
  });
  bench("push, within the limit, in a bulk of 15", 4'000, [&](int n) {
    const BulkScope bulk(15);
    for (int i = 0; i < n; ++i) push([&] { ++ran; }, reads, writes, large);
  });
  bench("push and run, sustained, a chain, bulks of 15", 200'000, [&](int n) {
    {
      const BulkScope bulk(15);
      for (int i = 0; i < n; ++i) push([&] { ++ran; }, reads, writes, large);
    }
    wait_all();
  });
  return ran == 0;
}
