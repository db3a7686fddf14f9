#include "cuda/timing.h"

#include <deque>

#include "cuda/backend.h"
#include "cuda/device.h"
#include "cuda/driver.h"

namespace minimx::cuda {
namespace {

constexpr int kRuns = 5;

class Event {
 public:
  Event() { check(driver().cuEventCreate(&event_, CU_EVENT_DEFAULT), "cuEventCreate"); }
  ~Event() { driver().cuEventDestroy_v2(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(StreamHandle stream) {
    check(driver().cuEventRecord(event_, static_cast<CUstream>(stream)), "cuEventRecord");
  }
  /// Milliseconds from the other event to this one; waits for it.
  float since(const Event& begin) const {
    float ms = 0;
    check(driver().cuEventSynchronize(event_), "cuEventSynchronize");
    check(driver().cuEventElapsedTime(&ms, begin.event_, event_), "cuEventElapsedTime");
    return ms;
  }

 private:
  CUevent event_ = nullptr;
};

class Moment : public DeviceMoment {
 public:
  Moment(int device, StreamKind kind) : gpu_(gpu(device)) {
    gpu_.use();
    check(driver().cuEventCreate(&event_, CU_EVENT_DEFAULT), "cuEventCreate");
    if (const CUresult result = driver().cuEventRecord(event_, gpu_.stream(kind)); result != CUDA_SUCCESS) {
      driver().cuEventDestroy_v2(event_);
      gpu_.check_work(result, "an event");
    }
  }
  Moment(const Moment&) = delete;
  Moment& operator=(const Moment&) = delete;
  ~Moment() override {
    try {
      driver().cuEventDestroy_v2(event_);
    } catch (const Error&) {  // a forked child
    }
  }
  double since(const DeviceMoment& earlier) const override {
    const auto& begin = static_cast<const Moment&>(earlier);
    float ms = 0;
    gpu_.use();
    gpu_.check_work(driver().cuEventSynchronize(begin.event_), "an event");
    gpu_.check_work(driver().cuEventSynchronize(event_), "an event");
    check(driver().cuEventElapsedTime(&ms, begin.event_, event_), "cuEventElapsedTime");
    return 1e6 * ms;
  }

 private:
  Gpu& gpu_;
  CUevent event_ = nullptr;
};

}  // namespace

std::unique_ptr<DeviceMoment> moment(int device, StreamKind kind) { return std::make_unique<Moment>(device, kind); }

Buffer::Buffer(size_t bytes, int device)
    : block_(bytes ? backend()->allocate(bytes, device, StreamKind::kCompute, "timing") : nullptr) {}

Buffer::~Buffer() {
  if (block_) backend()->release(block_);
}

std::mutex& timing() {
  static auto* m = new std::mutex;
  return *m;
}

float time_of(int device, const std::function<void(StreamHandle)>& run) {
  const StreamHandle stream = backend()->stream(device, StreamKind::kCompute);
  Event begin, end;
  run(stream);
  begin.record(stream);
  for (int i = 0; i < kRuns; ++i) run(stream);
  end.record(stream);
  return end.since(begin) / kRuns;
}

float time_of(const Kernel& kernel, std::span<const Spec> operands, int device) {
  const std::lock_guard alone(timing());
  std::deque<Buffer> buffers;
  std::vector<void*> data;
  for (const Spec& s : operands) {
    int64_t first = 0, last = 0;  // elements before the operand's own first, and after it
    for (int i = 0; i < s.shape.size(); ++i) {
      const int64_t reach = (s.shape[i] - 1) * s.strides[i];
      (reach < 0 ? first : last) += std::abs(reach);
    }
    const auto item = static_cast<int64_t>(itemsize(s.dtype));
    const Buffer& buffer = buffers.emplace_back(static_cast<size_t>((first + last + 1) * item), device);
    data.push_back(static_cast<char*>(buffer.data()) + first * item);
  }
  const Buffer workspace(kernel.workspace_bytes(), device);
  const auto& enqueued = dynamic_cast<const DeviceKernel&>(kernel);
  return time_of(device, [&](StreamHandle s) { enqueued.enqueue(data.data(), workspace.data(), s); });
}

std::vector<double> times(int device, const std::function<void(const std::function<void()>&)>& work) {
  const StreamHandle stream = backend()->stream(device, StreamKind::kCompute);
  std::deque<Event> marks;
  work([&] { marks.emplace_back().record(stream); });
  std::vector<double> out;
  for (size_t i = 1; i < marks.size(); ++i) out.push_back(1e6 * marks[i].since(marks[i - 1]));
  return out;
}

}  // namespace minimx::cuda
