// Bulks: when what was gathered is handed over, that nobody waits for an open one in vain, and that members fail alone.
// Random programs with bulks are in test_workload.cc, forks in test_fork.cc, exits in test_exit.cc.
#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/engine.h"
#include "engine/trace.h"

using namespace minimx;
using namespace minimx::engine;

namespace {

const PushInfo kLarge{.name = "large", .cost_ns = 1e9};
const PushInfo kHost{.name = "host", .lane = Lane::kHost};

/// A Var, and how often it was written. Each `add` depends on the last.
struct Counter {
  VarPtr var = make_var();
  std::atomic<int> n{0};
  Var* vars[1] = {var.get()};

  ~Counter() { wait_to_write(var.get()); }
  void add(const PushInfo& info = kLarge) {
    push([this] { ++n; }, vars, vars, info);
  }
  bool reaches(int want) const {
    for (int ms = 0; ms < 5'000 && n != want; ++ms) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return n == want;
  }
  bool stays(int want) const {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return n == want;
  }
};

/// Opens when told; whoever passes waits for that.
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

TEST(bulk_is_handed_over_when_full) {
  Counter c;
  const BulkScope bulk(4);
  for (int i = 0; i < 3; ++i) c.add();
  CHECK(c.stays(0));
  c.add();
  CHECK(c.reaches(4));
  c.add();
  CHECK(c.stays(4));
}

TEST(bulk_is_handed_over_at_the_end_of_each_scope) {
  Counter c;
  {
    const BulkScope outer(100);
    c.add();
    {
      const BulkScope inner(50);
      c.add();
      CHECK(bulk_size() == 50);
      CHECK(c.stays(0));
    }
    CHECK(c.reaches(2));
    c.add();
    {
      const BulkScope none(0);
      c.add();  // goes alone, behind the open one
      CHECK(c.reaches(4));
    }
    c.add();
    try {
      const BulkScope thrown_out(10);
      c.add();
      throw 1;
    } catch (int) {
    }
    CHECK(c.reaches(6));
    c.add();
  }
  CHECK(bulk_size() == 0);
  CHECK(c.reaches(7));
}

TEST(bulk_is_handed_over_before_a_wait) {
  Counter c, other;
  const BulkScope bulk(100);
  c.add();
  wait_to_read(c.var.get());
  CHECK(c.n == 1);
  c.add();
  wait_to_write(c.var.get());
  CHECK(c.n == 2);
  c.add();
  wait_all();
  CHECK(c.n == 3);
  c.add();
  other.add(kHost);
  wait_to_read(other.var.get());
  c.add(kHost);  // queues behind the open one
  CHECK(c.reaches(5));
}

TEST(bulk_is_closed_by_other_threads_that_wait) {
  Counter c;
  const BulkScope bulk(100);
  const auto elsewhere = [](auto body) { std::thread(body).join(); };
  c.add();
  elsewhere([&] { wait_to_read(c.var.get()); });
  CHECK(c.n == 1);
  c.add();
  elsewhere([] { wait_all(); });
  CHECK(c.n == 2);
  c.add();
  elsewhere([&] {
    const SyncScope sync;
    c.add();
  });
  CHECK(c.n == 4);
  c.add();
  Latch seen;  // set by an operator of another thread, which does not wait itself
  elsewhere([&] { push([&] { seen.open(); }, c.vars, {}, kHost); });
  seen.pass();
  CHECK(c.n == 5);
  Counter between;  // through a bulk of that thread's
  c.add();
  elsewhere([&] {
    const BulkScope own(100);
    push([] {}, c.vars, between.vars, kLarge);
    push([&] { CHECK(c.n == 6); }, between.vars, {}, kHost);
    wait_to_write(between.var.get());
  });
  wait_all();
}

TEST(bulk_is_not_opened_while_somebody_waits_for_all) {
  Latch busy;
  push([&] { busy.pass(); }, {}, {}, kHost);
  std::thread waiter([] { wait_all(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const BulkScope bulk(100);
  Counter c;
  c.add();
  CHECK(c.reaches(1));  // or the waiter would wait for this thread's next whim
  busy.open();
  waiter.join();
}

TEST(bulk_respects_back_pressure) {
  set_inflight_limit(size_t{1} << 40, 5);
  Counter c;
  {
    const BulkScope bulk(100);
    for (int i = 0; i < 200; ++i) {
      c.add();
      CHECK(in_flight().ops <= 5);
    }
  }
  set_inflight_limit(size_t{1} << 40, 4096);
  CHECK(c.reaches(200));
}

// A callback may wait for what an operator writes that was pushed after it. Were that operator tied to one that needs
// the callback, they would wait for each other.
TEST(bulk_ties_no_operator_to_what_it_does_not_need) {
  Counter slow, free, both;
  Latch pushed;
  push(
      [&] {
        pushed.pass();
        wait_to_read(free.var.get());
        CHECK(free.n == 1);
      },
      {}, slow.vars, kHost);
  const BulkScope bulk(100);
  push([] {}, slow.vars, both.vars, kLarge);
  free.add();
  pushed.open();
  wait_to_read(both.var.get());
}

TEST(bulk_order_of_reads_and_writes_is_kept) {
  VarPtr x = make_var(), y = make_var();
  Var *const vx[] = {x.get()}, *const vy[] = {y.get()};
  int a = 1, b = 0;
  Latch reading;
  push([&] { reading.pass(); }, vx, {}, kHost);  // a reader that is still there
  {
    const BulkScope bulk(100);
    push([&] { b = a; }, vx, vy, kLarge);
    push([&] { a = 2; }, {}, vx, kLarge);  // must wait for that reader, and starts another bulk
    push([&] { b += 10 * a; }, vx, vy, kLarge);
  }
  reading.open();
  wait_to_write(y.get());
  CHECK(a == 2 && b == 21);
  {
    const BulkScope bulk(100);
    push([&] { b = a; }, vx, vy, kLarge);
    push([&] { a = 3; }, {}, vx, kLarge);  // sole reader: joins
    push([&] { b += 10 * a; }, vx, vy, kLarge);
  }
  wait_to_write(y.get());
  CHECK(a == 3 && b == 32);
  CHECK(x->idle() && y->idle());
}

TEST(bulk_members_fail_alone) {
  std::vector<VarPtr> v(6);
  std::vector<Var*> p;
  for (VarPtr& var : v) p.push_back((var = make_var()).get());
  const auto op = [&](const char* name, std::vector<Var*> reads, std::vector<Var*> writes, bool fails = false) {
    push(
        [fails, name] {
          if (fails) throw std::runtime_error(name);
        },
        reads, writes,
        {.name = name, .cost_ns = 1e9, .site = std::make_shared<const std::string>(std::string(name) + ".py:1")});
  };
  {
    const BulkScope bulk(100);
    op("good", {}, {p[0]});
    op("bad", {p[0]}, {p[1]}, true);
    op("worse", {p[0]}, {p[2]}, true);
    op("skipped", {p[2], p[1], p[0]}, {p[3]});
    op("cures", {p[0]}, {p[2]});
    op("after", {p[2]}, {p[4]});
    op("in place", {p[1]}, {p[1]});
    op("reads the past", {p[3]}, {p[5]});
  }
  for (int good : {0, 2, 4}) wait_to_read(p[good]);
  for (int poisoned : {1, 3, 5}) {
    const Poisoned e = CHECK_THROWS(Poisoned, wait_to_read(p[poisoned]));
    CHECK(e.failure->op == "bad" && *e.failure->site == "bad.py:1");
  }
  {
    const BulkScope bulk(100);  // poison from before the bulk
    op("good", {p[0]}, {p[0]});
    op("still", {p[1]}, {p[0]});
    op("new", {}, {p[1]});
    op("fine", {p[1]}, {p[3]});
  }
  CHECK(CHECK_THROWS(Poisoned, wait_to_read(p[0])).failure->op == "bad");
  wait_to_read(p[1]);
  wait_to_read(p[3]);
  CHECK(CHECK_THROWS(Poisoned, wait_all()).failure->op == "worse");
}

TEST(bulk_gives_way_to_operators_at_once) {
  Counter c;
  {
    const BulkScope bulk(100);
    c.add();
    {
      const SyncScope sync;
      c.add();
      CHECK(c.n == 2);
    }
    c.add();
    set_policy(Policy::kNaive);
    CHECK(c.n == 3);
    c.add();
    CHECK(c.n == 4);
    set_policy(Policy::kThreaded);
    c.add();
    CHECK(c.stays(4));
  }
  CHECK(c.reaches(5));
}

TEST(bulk_of_a_thread_that_ends_is_not_lost) {
  Counter c;
  std::thread([&] {
    set_bulk_size(100);
    c.add();
    c.add();
  }).join();
  CHECK(c.reaches(2));
}

TEST(bulk_lets_go_of_what_it_held) {
  struct Tracked : Var {
    explicit Tracked(std::atomic<int>& n) : alive(n) { ++alive; }
    ~Tracked() override { --alive; }
    std::atomic<int>& alive;
  };
  std::atomic<int> vars{0};
  auto captured = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = captured;
  const BulkScope bulk(2);
  VarPtr last = make_var();
  for (int i = 0; i < 2; ++i) {
    VarPtr v = make_ref<Tracked>(vars);
    Var *const write[] = {v.get()}, *const more[] = {v.get(), last.get()};
    push([captured] {}, {}, i ? std::span<Var* const>(more) : write, kLarge);
  }
  captured.reset();
  wait_to_read(last.get());
  CHECK(watch.expired());  // before anyone can learn that it is done
  wait_all();
  for (int ms = 0; ms < 5'000 && vars > 0; ++ms) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(vars == 0);
}

TEST(bulk_members_are_traced_one_by_one) {
  class Recorder final : public TraceSink {
   public:
    void on_event(const TraceEvent& e) override {
      std::lock_guard lock(mutex_);
      if (e.kind == TraceEvent::Kind::kEnd) ended.push_back(e.name);
    }
    std::vector<std::string> ended;

   private:
    std::mutex mutex_;
  } recorder;
  set_trace(&recorder);
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  {
    const BulkScope bulk(10);
    for (const char* name : {"one", "two", "three"}) push([] {}, vars, vars, {.name = name, .cost_ns = 1e9});
  }
  wait_to_read(a.get());
  set_trace(nullptr);
  CHECK((recorder.ended == std::vector<std::string>{"one", "two", "three"}));
}
