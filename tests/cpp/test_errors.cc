// What a failing operator does to those behind it, and to those who wait.
#include <atomic>
#include <thread>

#include "check.h"
#include "common/error.h"
#include "engine/engine.h"

using namespace minimx;
using namespace minimx::engine;

namespace {

struct Boom : std::runtime_error {
  using std::runtime_error::runtime_error;
};

PushInfo info(const char* name, double cost_ns = 1e9, Lane lane = Lane::kCompute) {
  return {.name = name, .cost_ns = cost_ns, .lane = lane, .site = std::make_shared<const std::string>("train.py:7")};
}

std::string cause(const Poisoned& p) {
  try {
    std::rethrow_exception(p.failure->error);
  } catch (const Boom& e) {
    return e.what();
  }
}

}  // namespace

TEST(errors_reach_the_waiter_with_class_name_and_line) {
  for (double cost : {0.0, 1e9}) {
    for (Lane lane : {Lane::kCompute, Lane::kHost}) {
      VarPtr a = make_var();
      Var* const vars[] = {a.get()};
      push([] { throw Boom("first"); }, {}, vars, info("bad", cost, lane));
      for (int again = 0; again < 2; ++again) {
        const Poisoned p = CHECK_THROWS(Poisoned, wait_to_read(a.get()));
        CHECK(cause(p) == "first" && p.failure->op == "bad" && *p.failure->site == "train.py:7");
      }
      CHECK_THROWS(Poisoned, wait_to_write(a.get()));
      CHECK(a->poisoned() && a->idle());
      wait_all();  // told already
    }
  }
}

TEST(errors_skip_what_depends_on_them_and_keep_the_earliest_cause) {
  VarPtr a = make_var(), b = make_var(), c = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()}, *const vc[] = {c.get()}, *const both[] = {b.get(), a.get()};
  std::atomic<int> ran{0};
  push([] { throw Boom("first"); }, {}, va, info("one"));
  push([] { throw Boom("second"); }, {}, vb, info("two", 1e9, Lane::kHost));
  push([&] { ++ran; }, both, vc, info("three"));
  push([&] { ++ran; }, vc, vc, info("four", 0));
  CHECK(cause(CHECK_THROWS(Poisoned, wait_to_read(c.get()))) == "first");
  CHECK(ran == 0);
  const Poisoned rest = CHECK_THROWS(Poisoned, wait_all());
  CHECK(cause(rest) == "second" && rest.others.empty());
}

TEST(errors_are_cured_by_a_full_overwrite_only) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  int ran = 0;
  push([] { throw Boom("x"); }, {}, vars, info("bad"));
  push([&] { ++ran; }, vars, vars, info("in place"));
  CHECK_THROWS(Poisoned, wait_to_read(a.get()));
  for (double cost : {0.0, 1e9}) {
    push([&] { ++ran; }, {}, vars, info("overwrite", cost));
    wait_to_read(a.get());
    CHECK(!a->poisoned());
  }
  CHECK(ran == 2);
}

TEST(errors_unseen_are_all_told_once_by_wait_all) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  push([] { throw Boom("first"); }, {}, vars, info("one"));
  push([] { throw Boom("second"); }, {}, {}, info("two", 1e9, Lane::kHost));
  push([] { throw Boom("third"); }, {}, vars, info("three", 0));
  const Poisoned p = CHECK_THROWS(Poisoned, wait_all());
  CHECK(cause(p) == "first" && p.others.size() == 2 && p.others[0]->op == "two" && p.others[1]->op == "three");
  wait_all();
  CHECK(a->poisoned());
}

TEST(errors_are_thrown_by_push_when_running_at_once) {
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  {
    SyncScope sync;
    CHECK(cause(CHECK_THROWS(Poisoned, push([] { throw Boom("now"); }, {}, va, info("bad")))) == "now");
    CHECK(cause(CHECK_THROWS(Poisoned, push([] {}, va, vb, info("behind")))) == "now");
    CHECK(a->poisoned() && b->poisoned());
    push([] {}, {}, vb, info("cure"));
    CHECK(!b->poisoned());
    InlineRun run = try_inline(vb, vb);
    CHECK(run);
    CHECK_THROWS(Poisoned, run.fail(std::make_exception_ptr(Boom("inline")), info("inline")));
    CHECK(b->poisoned() && b->idle());
  }
  push([] { throw Boom("later"); }, {}, va, info("bad"));  // does not throw here any more
  CHECK(cause(CHECK_THROWS(Poisoned, wait_to_read(a.get()))) == "later");
}

TEST(errors_of_an_inline_token_wake_those_behind) {
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  bool ran = false;
  {
    InlineRun run = try_inline({}, va);
    push([&] { ran = true; }, va, vb, info("behind"));
    run.fail(std::make_exception_ptr(Boom("inline")), info("token"));
    CHECK(!run);
  }
  const Poisoned p = CHECK_THROWS(Poisoned, wait_to_read(b.get()));
  CHECK(cause(p) == "inline" && p.failure->op == "token" && !ran);
}

TEST(errors_inside_a_function_that_waits_keep_their_cause) {
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  push([] { throw Boom("deep"); }, {}, va, info("bad"));
  push([&] { wait_to_read(a.get()); }, {}, vb, info("callback", 1e9, Lane::kHost));
  const Poisoned p = CHECK_THROWS(Poisoned, wait_to_read(b.get()));
  CHECK(cause(p) == "deep" && p.failure->op == "bad");
}

TEST(errors_of_use_are_refused_instead_of_hanging) {
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  // The compute worker must not wait for its own lane.
  push([&] { push([] {}, {}, va, info("inner")), wait_to_read(a.get()); }, {}, vb, info("outer"));
  CHECK_THROWS(Poisoned, wait_to_read(b.get()));
  // Nor may an operator write, at once, what it said it only reads.
  push(
      [&] {
        SyncScope sync;
        push([] {}, {}, va, info("inner"));
      },
      va, vb, info("outer", 1e9, Lane::kHost));
  CHECK_THROWS(Poisoned, wait_to_read(b.get()));
  push([] { wait_all(); }, {}, vb, info("outer", 1e9, Lane::kHost));
  CHECK_THROWS(Poisoned, wait_to_read(b.get()));
}

TEST(errors_do_not_pile_up) {
  for (int i = 0; i < 1000; ++i) push([] { throw Boom("again"); }, {}, {}, info("bad"));
  const Poisoned p = CHECK_THROWS(Poisoned, wait_all());
  CHECK(p.others.size() < 100);
}
