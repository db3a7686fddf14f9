// Waits that are ended by what the hook throws (Python's KeyboardInterrupt), and that the engine is whole afterwards.
#include <atomic>
#include <chrono>
#include <thread>

#include "check.h"
#include "engine/engine.h"

using namespace minimx;
using namespace minimx::engine;

namespace {

struct Interrupt {};

std::atomic<int> g_calls{0};
std::atomic<bool> g_wanted{false};

/// While it lives, a long wait is interrupted as soon as it asks.
struct Interrupted {
  Interrupted() {
    g_wanted = true;
    set_blocking_hooks(nullptr, nullptr, [] {
      ++g_calls;
      if (g_wanted) throw Interrupt();
    });
  }
  ~Interrupted() { set_blocking_hooks(nullptr, nullptr, nullptr); }
};

/// A host operator that holds `vars` until it is let go.
struct Block {
  explicit Block(std::span<Var* const> vars) {
    push([this] { open.wait(0); }, {}, vars, {.name = "block", .lane = Lane::kHost});
  }
  void end() {
    open = 1;
    open.notify_all();
  }
  std::atomic<int> open{0};
};

}  // namespace

TEST(interrupt_ends_a_wait_for_a_var) {
  const Interrupted on;
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  Block block(vars);
  CHECK_THROWS(Interrupt, wait_to_read(a.get()));
  CHECK_THROWS(Interrupt, wait_to_write(a.get()));
  int value = 0;
  push([&] { value = 1; }, vars, vars, {.name = "behind", .cost_ns = 1e9});  // behind the waits that were left
  block.end();
  g_wanted = false;
  wait_to_read(a.get());
  CHECK(value == 1);
  wait_all();
  CHECK(a->idle());
}

TEST(interrupt_ends_wait_all_and_back_pressure) {
  const Interrupted on;
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  Block block(vars);
  CHECK_THROWS(Interrupt, wait_all());
  set_inflight_limit(size_t{1} << 40, 1);
  bool ran = false;
  CHECK_THROWS(Interrupt, push([&] { ran = true; }, {}, vars, {.name = "late", .cost_ns = 1e9}));
  {
    const BulkScope bulk(10);
    CHECK_THROWS(Interrupt, push([&] { ran = true; }, {}, vars, {.name = "late", .cost_ns = 1e9}));
  }
  set_inflight_limit(size_t{1} << 40, 4096);
  block.end();
  g_wanted = false;
  wait_all();
  CHECK(!ran && in_flight().ops == 0);
}

TEST(interrupt_of_an_operator_at_once_leaves_its_vars_as_they_were) {
  const Interrupted on;
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  push([] { throw 1; }, {}, vb, {.name = "bad", .cost_ns = 1e9});
  g_wanted = false;
  CHECK_THROWS(Poisoned, wait_to_read(b.get()));
  g_wanted = true;
  Block block(va);
  bool ran = false;
  {
    const SyncScope sync;
    CHECK_THROWS(Interrupt, push([&] { ran = true; }, va, vb, {.name = "sync"}));
  }
  block.end();
  g_wanted = false;
  wait_to_read(a.get());
  CHECK_THROWS(Poisoned, wait_to_write(b.get()));  // neither cured nor anew
  CHECK(!ran);
  CHECK(a->idle());
}

TEST(interrupt_is_asked_for_rarely) {
  const Interrupted on;
  g_wanted = false;
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  g_calls = 0;
  for (int i = 0; i < 200; ++i) {
    push([] {}, {}, vars, {.name = "quick", .cost_ns = 1e9});
    wait_to_read(a.get());
  }
  CHECK(g_calls < 20);
  push([] { std::this_thread::sleep_for(std::chrono::milliseconds(450)); }, {}, vars, {.name = "slow", .cost_ns = 1e9});
  wait_to_read(a.get());
  CHECK(g_calls >= 2);
}
