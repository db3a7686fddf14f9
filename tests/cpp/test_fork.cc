// fork() while operators run and wait. The child must be able to use the same Vars, and to exit.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/engine.h"

using namespace minimx;
using namespace minimx::engine;

namespace {

/// Runs `child` in a forked process; its result is the exit status. A child that hangs is killed, its own children with
/// it, and fails the test.
template <class F>
int in_child(F child, bool full_exit = false) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int status = 99;
    try {
      status = child();
    } catch (const std::exception& e) {
      std::fprintf(stderr, "child: %s\n", e.what());
    }
    full_exit ? exit(status) : _exit(status);
  }
  for (int ms = 0; ms < 30'000; ++ms) {
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  return -1;
}

const PushInfo kCompute{.name = "compute", .cost_ns = 1e9};
const PushInfo kHost{.name = "host", .lane = Lane::kHost};

void nap() { std::this_thread::sleep_for(std::chrono::microseconds(300)); }

}  // namespace

TEST(fork_with_work_in_flight) {
  for (int round = 0; round < check::rounds(40); ++round) {
    std::vector<VarPtr> vars(6);
    for (VarPtr& v : vars) v = make_var();
    std::atomic<int> ran{0};
    const int ops = 40;
    for (int i = 0; i < ops; ++i) {
      Var *const reads[] = {vars[i % 6].get()}, *const writes[] = {vars[(i * 5 + 1) % 6].get()};
      push([&] { nap(), ++ran; }, reads, writes, i % 3 ? kCompute : kHost);
    }
    const int status = in_child(
        [&] {
          for (VarPtr& v : vars) {  // usable, whatever the parent had queued on them
            Var* const one[] = {v.get()};
            int value = 0;
            push([&] { value = 1; }, one, one, kCompute);
            push([&] { value += 1; }, one, one, kHost);
            push([&] { value += 1; }, one, one, {.name = "small"});
            wait_to_read(v.get());
            if (value != 3) return 1;
          }
          wait_all();
          return in_flight().ops == 0 ? 0 : 2;
        },
        round % 2 == 0);
    CHECK(status == 0);
    wait_all();
    CHECK(ran == ops);  // the parent lost nothing
    for (VarPtr& v : vars) CHECK(v->idle());
  }
}

TEST(fork_while_other_threads_hold_and_queue) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  std::atomic<bool> stop{false};
  std::vector<std::thread> others;
  for (int t = 0; t < 2; ++t)
    others.emplace_back([&, t] {
      while (!stop) {
        if (InlineRun run = try_inline(vars, vars); run && t) std::this_thread::yield();
        push([] {}, vars, vars, t ? kCompute : kHost);
      }
    });
  int bad = 0;
  for (int round = 0; round < check::rounds(40); ++round)
    bad += 0 != in_child([&] {
             push([] {}, vars, vars, kCompute);
             wait_to_write(a.get());
             return a->idle() && try_inline({}, vars) ? 0 : 1;
           });
  stop = true;
  for (std::thread& t : others) t.join();
  wait_all();
  CHECK(bad == 0);
}

TEST(fork_of_a_fork) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  push([] { nap(); }, {}, vars, kCompute);
  const int status = in_child([&] {
    push([] { nap(); }, {}, vars, kCompute);
    push([] { nap(); }, vars, vars, kHost);
    return in_child([&] {
      int value = 0;
      push([&] { value = 3; }, {}, vars, kCompute);
      wait_to_read(a.get());
      return value;
    });
  });
  CHECK(status == 3);
}

TEST(fork_keeps_poison_and_settings) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  push([] { throw std::runtime_error("x"); }, {}, vars, kCompute);
  CHECK_THROWS(Poisoned, wait_to_read(a.get()));
  set_inline_threshold_ns(123);
  const int status = in_child([&] {
    CHECK_THROWS(Poisoned, wait_to_read(a.get()));
    push([] {}, {}, vars, kCompute);
    wait_to_read(a.get());
    return inline_threshold_ns() == 123 ? 0 : 1;
  });
  set_inline_threshold_ns(20e3);
  CHECK(status == 0);
}

TEST(fork_inside_an_operator) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  int statuses[2] = {-1, -1};
  for (int i = 0; i < 2; ++i)
    push([&, i] { statuses[i] = in_child([] { return 5; }, i == 0); }, {}, vars, i ? kCompute : kHost);
  wait_to_read(a.get());
  CHECK(statuses[0] == 5 && statuses[1] == 5);
}

TEST(fork_inside_a_bulk) {
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  int value = 0;
  {
    const BulkScope bulk(100);
    push([&] { ++value; }, {}, va, kCompute);
    const int status = in_child([&] {
      for (int i = 0; i < 3; ++i) push([&] { ++value; }, va, vb, kCompute);  // gathered by the child for itself
      wait_to_read(b.get());
      return value;
    });
    CHECK(status == 3);
    CHECK(value == 0);
  }
  wait_to_read(a.get());
  CHECK(value == 1);
}

TEST(fork_does_not_wait_for_host_operators) {
  std::atomic<int> open{0};
  push([&] { open.wait(0); }, {}, {}, kHost);
  CHECK(in_child([] { return 4; }) == 4);
  open = 1;
  open.notify_all();
  wait_all();
}
