// Lanes: priorities, the host pool, back-pressure, nested pushes, policies, and the hooks around blocking.
#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/engine.h"

using namespace minimx;
using namespace minimx::engine;

namespace {

class Latch {
 public:
  void open() {
    open_.store(1);
    open_.notify_all();
  }
  void pass() { open_.wait(0); }

 private:
  std::atomic<int> open_{0};
};

PushInfo large(const char* name, int priority = 0, Lane lane = Lane::kCompute) {
  return {.name = name, .cost_ns = 1e9, .priority = priority, .lane = lane};
}

}  // namespace

TEST(lanes_run_the_highest_priority_first_then_the_earliest) {
  Latch latch;
  std::vector<int> order;  // the compute lane is one thread
  push([&] { latch.pass(); }, {}, {}, large("block", 3));
  for (int i = 0; i < 9; ++i) push([&, i] { order.push_back(i); }, {}, {}, large("op", i % 3));
  latch.open();
  wait_all();
  CHECK((order == std::vector<int>{2, 5, 8, 1, 4, 7, 0, 3, 6}));
}

TEST(lanes_do_not_wait_for_each_other) {
  Latch latch;
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  push([&] { latch.pass(); }, {}, {}, large("io", 0, Lane::kHost));
  push([] { CHECK(on_worker()); }, {}, vars, large("compute"));
  wait_to_read(a.get());
  latch.open();
  wait_all();
  CHECK(!on_worker());
}

TEST(lanes_host_runs_as_many_as_set) {
  for (int n : {1, 3, 2}) {
    set_host_threads(n);
    std::atomic<int> now{0}, most{0};
    for (int i = 0; i < 20; ++i) {
      push(
          [&] {
            const int here = ++now;
            int seen = most.load();
            while (seen < here && !most.compare_exchange_weak(seen, here)) {
            }
            for (int ms = 0; ms < 2'000 && most < n; ++ms) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            std::this_thread::sleep_for(std::chrono::milliseconds(1));  // for one too many to show up
            --now;
          },
          {}, {}, large("io", 0, Lane::kHost));
    }
    wait_all();
    CHECK(most == n);
  }
}

TEST(lanes_host_operators_that_wait_lend_their_thread) {
  set_host_threads(1);
  std::atomic<int> done{0};
  for (int i = 0; i < 5; ++i) {
    push(
        [&] {  // each waits for an operator of its own lane
          VarPtr a = make_var();
          Var* const vars[] = {a.get()};
          push([&] { ++done; }, {}, vars, large("inner", 0, Lane::kHost));
          wait_to_read(a.get());
          ++done;
        },
        {}, {}, large("outer", 0, Lane::kHost));
  }
  wait_all();
  CHECK(done == 10);
  set_host_threads(2);
}

TEST(lanes_back_pressure_bounds_what_is_in_flight) {
  set_inflight_limit(1000, 8);
  std::atomic<size_t> most_ops{0}, most_bytes{0};
  for (int i = 0; i < 200; ++i) {
    push([] { std::this_thread::yield(); }, {}, {},
         {.name = "op", .cost_ns = 1e9, .lane = i % 2 ? Lane::kHost : Lane::kCompute, .bytes = i % 50 ? 100u : 5000u});
    most_ops = std::max(most_ops.load(), in_flight().ops);
    if (i % 50) most_bytes = std::max(most_bytes.load(), in_flight().bytes);
  }
  wait_all();
  CHECK(most_ops <= 8);
  CHECK(most_bytes <= 5000 + 1000);
  CHECK(in_flight().bytes == 0);
  set_inflight_limit(size_t{1} << 40, 4096);
}

TEST(lanes_policy_naive_runs_everything_on_the_caller) {
  set_policy(Policy::kNaive);
  CHECK(policy() == Policy::kNaive);
  const auto me = std::this_thread::get_id();
  int ran = 0;
  for (Lane lane : {Lane::kCompute, Lane::kHost})
    push([&] { ran += std::this_thread::get_id() == me; }, {}, {}, large("op", 0, lane));
  CHECK(ran == 2);
  set_policy(Policy::kThreaded);
}

TEST(lanes_sync_scope_waits_for_its_inputs_only) {
  Latch latch;
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  int value = 0;
  push([&] { latch.pass(); }, {}, {}, large("unrelated", 0, Lane::kHost));
  push([&] { value = 1; }, {}, va, large("input"));
  {
    SyncScope sync;
    push([&] { value += 1; }, va, vb, large("now"));
    CHECK(value == 2);
  }
  latch.open();
  wait_all();
}

TEST(lanes_at_once_inside_an_operator_reuses_its_vars) {
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  int value = 0;
  push(
      [&] {
        SyncScope sync;
        wait_to_read(a.get());
        push([&] { value = 5; }, va, vb, large("inner"));
        wait_to_write(b.get());
      },
      va, vb, large("outer", 0, Lane::kHost));
  wait_to_read(b.get());
  CHECK(value == 5);
}

TEST(lanes_nested_pushes_are_ordered_like_others) {
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  std::vector<int> order;
  push(
      [&] {
        for (int i = 0; i < 100; ++i) push([&, i] { order.push_back(i); }, vb, vb, large("inner"));
      },
      {}, va, large("outer"));
  wait_to_read(a.get());
  wait_to_read(b.get());
  CHECK(order.size() == 100 && std::is_sorted(order.begin(), order.end()));
}

namespace {
std::atomic<int> g_before{0}, g_after{0};
thread_local bool t_blocking = false;
}  // namespace

TEST(lanes_hooks_surround_blocking_and_only_that) {
  set_blocking_hooks(
      [] {
        ++g_before;
        t_blocking = true;
      },
      [] {
        ++g_after;
        t_blocking = false;
      });
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  wait_to_read(a.get());
  wait_all();
  CHECK(g_before == 0);
  push([] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }, {}, vars, large("slow"));
  wait_to_read(a.get());
  CHECK(g_before == 1 && g_after == 1 && !t_blocking);
  set_inflight_limit(size_t{1} << 40, 1);
  push([] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }, {}, {}, large("slow"));
  push([] {}, {}, {}, large("held back"));
  CHECK(g_before >= 2 && g_before == g_after);
  set_inflight_limit(size_t{1} << 40, 4096);
  wait_all();
  set_blocking_hooks(nullptr, nullptr);
}

TEST(lanes_move_only_and_large_functions) {
  auto owned = std::make_unique<int>(3);
  struct Big {
    char bytes[300];
  } big{};
  big.bytes[299] = 4;
  std::atomic<int> sum{0};
  push([p = std::move(owned), big, &sum] { sum = *p + big.bytes[299]; }, {}, {}, large("big"));
  wait_all();
  CHECK(sum == 7);
}

TEST(lanes_push_from_inside_an_inline_operator_does_not_block) {
  set_inflight_limit(size_t{1} << 40, 1);
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  int ran = 0;
  push(
      [&] {  // holds a while it pushes what waits for a: with back-pressure here the second push would never return
        for (int i = 0; i < 3; ++i) push([&] { ++ran; }, vars, vars, large("behind"));
      },
      vars, vars, {.name = "small"});
  wait_to_write(a.get());
  CHECK(ran == 3);
  set_inflight_limit(size_t{1} << 40, 4096);
}
