// Runs the tests whose names start with one of the arguments (all without arguments). Each must leave the engine empty.
// With --exit-child it is the process that test_exit.cc starts and watches.
#include <chrono>
#include <cstring>

#include "check.h"
#include "engine/engine.h"

int exit_child(int seed);

namespace {

bool wanted(const char* name, int argc, char** argv) {
  if (argc < 2) return true;
  for (int i = 1; i < argc; ++i)
    if (std::strncmp(name, argv[i], std::strlen(argv[i])) == 0) return true;
  return false;
}

bool passes(const check::Test& test) {
  try {
    test.body();
    minimx::engine::wait_all();
    CHECK(minimx::engine::in_flight().ops == 0);
    return true;
  } catch (const std::exception& e) {
    std::printf("FAILED %s\n  %s\n", test.name, e.what());
    return false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--exit-child") == 0) return exit_child(std::atoi(argv[2]));
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  int ran = 0, bad = 0;
  for (const check::Test& test : check::tests()) {
    if (!wanted(test.name, argc, argv)) continue;
    const auto start = std::chrono::steady_clock::now();
    ++ran;
    if (!passes(test)) {
      ++bad;
      continue;
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::printf("ok %-40s %6.2f s\n", test.name, took.count());
  }
  std::printf("%d tests, %d failed\n", ran, bad);
  return bad || ran == 0;
}
