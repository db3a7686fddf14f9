// Processes that end with work in flight must end, quickly and cleanly. Each is a fresh process of this program.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/engine.h"

using namespace minimx;
using namespace minimx::engine;

extern char** environ;

/// Keeps both lanes busy and leaves in one of several ways.
int exit_child(int seed) {
  static std::vector<VarPtr> vars;  // destroyed after the engine's last moment, as a user's globals might be
  for (int i = 0; i < 4; ++i) vars.push_back(make_var());
  for (int i = 0; i < 50; ++i) {
    Var *const reads[] = {vars[i % 4].get()}, *const writes[] = {vars[(i + 1) % 4].get()};
    push([] { std::this_thread::sleep_for(std::chrono::microseconds(20)); }, reads, writes,
         {.name = "op", .cost_ns = 1e9, .lane = i % 3 ? Lane::kCompute : Lane::kHost});
  }
  if (seed % 2) set_bulk_size(100);  // and leave with a bulk open
  push([] {}, {}, std::vector<Var*>{vars[0].get()}, {.name = "gathered", .cost_ns = 1e9});
  if (seed % 5 == 1) shutdown();
  if (seed % 5 == 2) std::exit(0);
  if (seed % 5 == 3) std::thread([] { std::exit(0); }).join();
  if (seed % 5 == 4) {
    push([] { std::exit(0); }, {}, {},
         {.name = "exit", .cost_ns = 1e9, .lane = seed % 2 ? Lane::kCompute : Lane::kHost});
    std::this_thread::sleep_for(std::chrono::seconds(20));
    return 7;
  }
  if (seed % 5 == 1) {  // after shutdown everything still works, at once
    int value = 0;
    Var* const writes[] = {vars[0].get()};
    push([&] { value = 1; }, {}, writes, {.name = "late", .cost_ns = 1e9});
    shutdown();
    return value == 1 ? 0 : 8;
  }
  return 0;
}

namespace {

int run_child(int seed) {
  const std::string number = std::to_string(seed);
  const char* const argv[] = {"engine_tests", "--exit-child", number.c_str(), nullptr};
  pid_t pid = 0;
  if (posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr, const_cast<char* const*>(argv), environ) != 0) return -2;
  for (int ms = 0; ms < 15'000; ++ms) {
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  return -1;
}

}  // namespace

TEST(exit_with_work_in_flight) {
  for (int seed = 0; seed < check::rounds(200); ++seed) {
    const int status = run_child(seed);
    if (status != 0)
      check::failed(__FILE__, __LINE__, "exit " + std::to_string(seed) + " ended with " + std::to_string(status));
  }
}
