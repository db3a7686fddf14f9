// The inline path: when it may run, and that it stays right while other threads push on the same Vars.
#include <atomic>
#include <thread>

#include "check.h"
#include "engine/core.h"
#include "engine/engine.h"
#include "engine/parallel.h"

using namespace minimx;
using namespace minimx::engine;

namespace {

const PushInfo kSmall{.name = "small", .cost_ns = 0};
const PushInfo kLarge{.name = "large", .cost_ns = 1e9};

/// Blocks a lane until opened.
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

}  // namespace

TEST(inline_runs_small_operators_on_the_caller) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  std::thread::id where;
  push([&] { where = std::this_thread::get_id(); }, {}, vars, kSmall);
  CHECK(where == std::this_thread::get_id());
  CHECK(a->idle());
  push([&] { where = std::this_thread::get_id(); }, {}, vars, kLarge);
  wait_to_read(a.get());
  CHECK(where != std::this_thread::get_id());
}

TEST(inline_waits_its_turn_behind_pending_operators) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  Latch latch;
  int value = 0;
  push([&] { latch.pass(), value = 1; }, {}, vars, kLarge);
  CHECK(!a->idle());
  CHECK(!try_inline(vars, {}));
  push([&] { value *= 10; }, vars, vars, kSmall);  // small, but must not run before the first
  latch.open();
  wait_to_read(a.get());
  CHECK(value == 10);
}

TEST(inline_token_keeps_others_out_and_lets_them_in) {
  VarPtr a = make_var(), b = make_var();
  Var *const reads[] = {a.get()}, *const writes[] = {b.get()};
  std::atomic<bool> ran{false};
  {
    InlineRun run = try_inline(reads, writes);
    CHECK(run);
    CHECK(!b->idle());
    CHECK(try_inline(reads, {}));    // two may read
    CHECK(!try_inline({}, writes));  // but not write
    CHECK(!try_inline(writes, {}));
    push([&] { ran = true; }, {}, writes, kLarge);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    CHECK(!ran);
  }
  wait_to_read(b.get());
  CHECK(ran);
  CHECK(a->idle() && b->idle());
}

TEST(inline_accepts_duplicates_and_in_place) {
  VarPtr a = make_var(), b = make_var();
  Var* const twice[] = {a.get(), b.get(), a.get()};
  Var* const b_b[] = {b.get(), b.get()};
  {
    InlineRun run = try_inline(twice, b_b);
    CHECK(run);
    CHECK(!a->idle() && !b->idle());
  }
  CHECK(a->idle() && b->idle());
  int ran = 0;
  push([&] { ++ran; }, twice, b_b, kLarge);
  push([&] { ++ran; }, twice, twice, kSmall);
  wait_all();
  CHECK(ran == 2 && a->idle() && b->idle());
}

TEST(inline_takes_back_what_it_got_when_something_is_missing) {
  VarPtr a = make_var(), b = make_var();
  Var *const both[] = {a.get(), b.get()}, *const only_b[] = {b.get()};
  InlineRun outer = try_inline({}, only_b);
  CHECK(!try_inline({}, both));
  CHECK(!try_inline(both, {}));
  CHECK(a->idle());
}

TEST(inline_many_vars_go_the_long_way) {
  std::vector<VarPtr> vars(100);
  std::vector<Var*> pointers;
  for (VarPtr& v : vars) pointers.push_back((v = make_var()).get());
  CHECK(!try_inline(pointers, {}));
  int ran = 0;
  push([&] { ++ran; }, {}, pointers, kSmall);
  CHECK(ran == 1);
}

TEST(inline_beside_a_pushing_thread) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  const int n = check::rounds(100'000);
  int64_t count = 0;  // not atomic: the Var guards it
  std::thread other([&] {
    for (int i = 0; i < n / 10; ++i) push([&] { ++count; }, vars, vars, kLarge);
  });
  int inlined = 0;
  for (int i = 0; i < n; ++i) {
    if (InlineRun run = try_inline(vars, vars)) {
      ++count;
      ++inlined;
    }
  }
  other.join();
  wait_to_write(a.get());
  CHECK(count == inlined + n / 10);
}

TEST(inline_vars_may_die_before_their_operators) {
  std::atomic<int> ran{0};
  for (int i = 0; i < 1000; ++i) {
    VarPtr a = make_var();
    Var* const vars[] = {a.get()};
    push([&] { ++ran; }, {}, vars, kLarge);
    push([&] { ++ran; }, vars, {}, {.name = "host", .lane = Lane::kHost});
  }
  wait_all();
  CHECK(ran == 2000);
}

TEST(inline_function_is_gone_when_the_var_is_ready) {
  auto held = std::make_shared<int>(7);
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  char large[200] = {};
  push([held, large] { (void)large; }, {}, vars, kLarge);
  wait_to_read(a.get());
  CHECK(held.use_count() == 1);
}

TEST(inline_with_a_team_on_callers_outside_operators) {
  const PushInfo middling{.name = "middling", .cost_ns = kMiddlingNs / 2};
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  int team = 0;
  std::thread::id ran;
  const auto note = [&] { team = detail::t_team, ran = std::this_thread::get_id(); };
  const auto on_caller = [&] {
    push(note, {}, vars, middling);
    return team == num_threads() && ran == std::this_thread::get_id();
  };
  CHECK(on_caller());
  std::thread([&] { CHECK(on_caller()); }).join();
  CHECK(detail::t_team == 1);
  VarPtr b = make_var();
  Var* const others[] = {b.get()};
  push([&] { push(note, {}, vars, middling); }, {}, others, {.name = "small"});
  wait_all();
  CHECK(ran != std::thread::id() && ran != std::this_thread::get_id());
  ran = {};
  {
    const BulkScope bulk(4);
    push(note, {}, vars, middling);
  }
  wait_all();
  CHECK(ran != std::thread::id() && ran != std::this_thread::get_id());
}
