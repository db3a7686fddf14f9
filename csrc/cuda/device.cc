#include "cuda/device.h"

#include <algorithm>
#include <mutex>

namespace minimx::cuda {
namespace {

/// Errors after which the driver refuses all further work of the process on a device.
bool sticky(CUresult r) {
  return r == CUDA_ERROR_ILLEGAL_ADDRESS || r == CUDA_ERROR_LAUNCH_FAILED || r == CUDA_ERROR_LAUNCH_TIMEOUT ||
         r == CUDA_ERROR_ILLEGAL_INSTRUCTION || r == CUDA_ERROR_MISALIGNED_ADDRESS ||
         r == CUDA_ERROR_INVALID_ADDRESS_SPACE || r == CUDA_ERROR_INVALID_PC || r == CUDA_ERROR_HARDWARE_STACK_ERROR ||
         r == CUDA_ERROR_ASSERT || r == CUDA_ERROR_ECC_UNCORRECTABLE;
}

constexpr int kMost = 64;
std::atomic<Gpu*> g_started[kMost];  // never deleted: no CUDA at exit

}  // namespace

Gpu::Gpu(int id) : id_(id), allocator_(*this) {
  const Driver& d = driver();
  check(d.cuDeviceGet(&device_, id), "cuDeviceGet");
  check(d.cuDevicePrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain");
  use();
  for (int k = 0; k < kStreamKinds; ++k) {
    // Copies and communication go first where they compete: compute is behind them in line anyway.
    const int priority = k == static_cast<int>(StreamKind::kCompute) ? 0 : -1;
    check(d.cuStreamCreateWithPriority(&streams_[k], CU_STREAM_NON_BLOCKING, priority), "cuStreamCreate");
    check(d.cuEventCreate(&events_[k], CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  }
  allocator_.start(device_);
}

int Gpu::attribute(CUdevice_attribute a) const {
  int value = 0;
  check(driver().cuDeviceGetAttribute(&value, a, device_), "cuDeviceGetAttribute");
  return value;
}

std::string Gpu::name() const {
  char text[256] = "";
  check(driver().cuDeviceGetName(text, sizeof text, device_), "cuDeviceGetName");
  return text;
}

void Gpu::order(StreamKind earlier, StreamKind later) {
  use();
  CUevent event = events_[static_cast<int>(earlier)];
  check_work(driver().cuEventRecord(event, stream(earlier)), "an event");
  check_work(driver().cuStreamWaitEvent(stream(later), event, 0), "a wait between streams");
}

CUstream Gpu::capture_stream() {
  if (!capture_) check(driver().cuStreamCreateWithPriority(&capture_, CU_STREAM_NON_BLOCKING, 0), "cuStreamCreate");
  return capture_;
}

void Gpu::synchronize(StreamKind kind) {
  use();
  check_work(driver().cuStreamSynchronize(stream(kind)), "a wait for the device");
}

void Gpu::synchronize() {
  for (int k = 0; k < kStreamKinds; ++k) synchronize(static_cast<StreamKind>(k));
}

void Gpu::report(CUresult result, const char* doing) {
  std::string names;
  const unsigned next = next_.load(), n = static_cast<unsigned>(last_.size());
  for (unsigned i = next; i < next + n; ++i)  // the oldest first
    if (const char* name = last_[i % n].load()) names += (names.empty() ? "" : ", ") + std::string(name);
  std::string text =
      std::string(doing) + ": expected gpu(" + std::to_string(id_) + ") to run it, got: " + describe(result) + ".";
  if (sticky(result))
    text += " The operators put on the device last: " + names +
            ". The device is lost to this process: start again, with mx.engine.sync() to find the operator.";
  throw Error(ErrorKind::kDevice, text);
}

int device_count() {
  static const int count = [] {
    int n = 0;
    check(driver().cuDeviceGetCount(&n), "cuDeviceGetCount");
    return n;
  }();
  driver();  // a forked child is told
  return count;
}

Gpu* started_gpu(int id) { return id >= 0 && id < kMost ? g_started[id].load(std::memory_order_acquire) : nullptr; }

Gpu& gpu(int id) {
  driver();  // a forked child is told
  if (Gpu* g = started_gpu(id)) return *g;
  const int count = std::min(device_count(), kMost);
  if (id < 0 || id >= count)
    throw Error(ErrorKind::kDevice, "gpu: expected a number below " + std::to_string(count) + ", got " +
                                        std::to_string(id) + ". Use mx.gpu(0).");
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  if (!g_started[id].load()) g_started[id].store(new Gpu(id), std::memory_order_release);
  return *g_started[id].load();
}

}  // namespace minimx::cuda
