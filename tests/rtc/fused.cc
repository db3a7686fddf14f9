// How a fused group runs: member by member over temporaries, then by the kernel that takes over. Device kernels here
// work on the host at once. Built and run by test_background.py.
#include "runtime/fused.h"

#include <cstdio>
#include <cstdlib>
#include <thread>

using namespace minimx;

namespace {

#define CHECK(x) ((x) ? void() : (std::fprintf(stderr, "line %d: %s\n", __LINE__, #x), std::exit(1)))

/// y = a + b over 4 numbers; b is one number of the host. Uses 8 bytes of workspace.
struct Plus : DeviceKernel {
  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override {
    CHECK(stream == &calls);
    ++calls;
    static_cast<double*>(workspace)[0] = *static_cast<const double*>(data[1]);
    for (int i = 0; i < 4; ++i)
      static_cast<double*>(data[2])[i] = static_cast<const double*>(data[0])[i] + static_cast<double*>(workspace)[0];
  }
  size_t workspace_bytes() const override { return 8; }
  static inline std::atomic<int> calls = 0;
};

/// y = x + 3.
struct Whole : DeviceKernel {
  explicit Whole(size_t workspace = 0) : workspace(workspace) {}
  void enqueue(void* const* data, void*, StreamHandle) const override {
    ++calls;
    for (int i = 0; i < 4; ++i) static_cast<double*>(data[1])[i] = static_cast<const double*>(data[0])[i] + 3;
  }
  size_t workspace_bytes() const override { return workspace; }
  size_t workspace;
  static inline std::atomic<int> calls = 0;
};

Members::Constant constant(double x) {
  Members::Constant c{};
  std::copy_n(reinterpret_cast<const char*>(&x), sizeof x, c.data());
  return c;
}

/// x + 1 + 2, of the operands (x, y).
Members three() {
  auto plus = std::make_shared<Plus>();
  return Members(2, {{plus, {0, 2, ~0}}, {plus, {~0, 3, 1}}}, {4 * sizeof(double)}, {constant(1), constant(2)});
}

void run(const FusedDeviceKernel& k) {
  double x[4] = {1, 2, 3, 4}, y[4] = {};
  std::vector<char> scratch(k.workspace_bytes());
  void* data[] = {x, y};
  k.enqueue(data, scratch.data(), &Plus::calls);
  for (int i = 0; i < 4; ++i) CHECK(y[i] == x[i] + 3);
}

}  // namespace

int main() {
  const FusedDeviceKernel k(three(), 0);
  CHECK(k.workspace_bytes() == 256 + 8 && !k.settled() && !k.compiled());
  CHECK(FusedDeviceKernel(three(), 1000).workspace_bytes() == 1000);
  run(k);
  CHECK(Plus::calls == 2);
  try {
    k.settle(std::make_shared<Whole>(1000));
    CHECK(!"reached");
  } catch (const Error&) {
  }
  CHECK(!k.settled());

  std::thread other([&] {
    for (int i = 0; i < 2000; ++i) run(k);
  });
  k.settle(std::make_shared<Whole>());
  other.join();
  k.settle(nullptr);  // too late
  CHECK(k.settled() && k.compiled());
  const int plain = Plus::calls, whole = Whole::calls;
  run(k);
  CHECK(Plus::calls == plain && Whole::calls == whole + 1);

  const FusedDeviceKernel stays(three(), 0);
  stays.settle(nullptr);
  CHECK(stays.settled() && !stays.compiled());
  run(stays);
  CHECK(Plus::calls == plain + 2);
}
