// The tests' whole framework: TEST(name) { ... CHECK(x); } and a runner that takes name prefixes as arguments.
// MINIMX_TEST_SCALE (default 1) multiplies the number of rounds, for sanitizers.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*body)();
};
inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
struct Registered {
  Registered(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

[[noreturn]] inline void failed(const char* file, int line, const std::string& what) {
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

/// n scaled by MINIMX_TEST_SCALE, at least 1.
inline int rounds(int n) {
  const char* scale = std::getenv("MINIMX_TEST_SCALE");
  const int scaled = static_cast<int>(n * (scale ? std::atof(scale) : 1.0));
  return scaled > 0 ? scaled : 1;
}

}  // namespace check

#define TEST(name)                                                      \
  static void test_##name();                                            \
  static const check::Registered registered_##name{#name, test_##name}; \
  static void test_##name()

#define CHECK(condition)                                                         \
  do {                                                                           \
    if (!(condition)) check::failed(__FILE__, __LINE__, "expected " #condition); \
  } while (0)

/// Runs the expression, which must throw Type, and returns what it threw.
#define CHECK_THROWS(Type, expression)                                             \
  [&]() -> Type {                                                                  \
    try {                                                                          \
      expression;                                                                  \
    } catch (const Type& thrown) {                                                 \
      return thrown;                                                               \
    }                                                                              \
    check::failed(__FILE__, __LINE__, "expected " #expression " to throw " #Type); \
  }()
