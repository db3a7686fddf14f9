// Two GPUs played by the CPU: a Backend over main memory, whose streams run what they are given at once, and kernels of
// the CPU as DeviceKernels. So all that the runtime does for a GPU (transfers, programs, captured graphs, who is waited
// for) is tested where there is none. What minimx._cuda does itself is not here. Memory is full of garbage when it is
// handed out and when it comes back.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>

#include "runtime/backend.h"

namespace py = pybind11;
using namespace minimx;

namespace {

constexpr int kDevices = 2;
constexpr size_t kAlign = 256;

using Work = std::function<void()>;
thread_local std::vector<Work>* t_capturing = nullptr;

/// A kernel of the CPU. `operands`: how many; `random`: the state of the random stream comes before them.
class Played : public DeviceKernel {
 public:
  Played(KernelPtr kernel, size_t operands, bool random)
      : kernel_(std::move(kernel)), operands_(operands), random_(random) {}
  size_t workspace_bytes() const override { return kernel_->workspace_bytes(); }
  void enqueue(void* const* data, void* workspace, StreamHandle) const override {
    if (!t_capturing) return run({data, data + operands_ + random_}, workspace);
    std::array<uint64_t, 4> state{};
    if (random_) std::memcpy(state.data(), data[0], sizeof state);
    std::vector<void*> places(data, data + operands_ + random_);
    t_capturing->push_back([this, kernel = kernel_, places, state, workspace]() mutable {
      if (random_) places[0] = state.data();
      run(places, workspace);
    });
  }

 private:
  void run(std::vector<void*> places, void* workspace) const {
    uint64_t state[4] = {};
    if (random_) {
      std::memcpy(state, places[0], sizeof state);
      if (const auto* base = reinterpret_cast<const uint64_t*>(state[2])) state[0] = base[0], state[1] += base[1];
      places[0] = state;
    }
    kernel_->run(places.data(), workspace);
  }
  KernelPtr kernel_;
  size_t operands_;
  bool random_;
};

class PlayedGraph : public DeviceGraph {
 public:
  explicit PlayedGraph(std::vector<Work> work) : work_(std::move(work)) {}
  void launch(StreamHandle) override {
    for (Work& w : work_) w();
  }

 private:
  std::vector<Work> work_;
};

/// The host's time: what is put on a stream is done by then.
class PlayedMoment : public DeviceMoment {
 public:
  double since(const DeviceMoment& earlier) const override {
    return std::chrono::duration<double, std::nano>(at_ - static_cast<const PlayedMoment&>(earlier).at_).count();
  }

 private:
  std::chrono::steady_clock::time_point at_ = std::chrono::steady_clock::now();
};

class PlayedBackend : public Backend {
 public:
  int device_count() override { return kDevices; }
  bool usable() const noexcept override { return true; }
  DeviceBlock* allocate(size_t bytes, int device, StreamKind home, const char* name) override {
    const size_t rounded = (bytes + kAlign - 1) / kAlign * kAlign + kAlign;
    if (bytes > (size_t{1} << 34))
      throw Error(ErrorKind::kMemory,
                  std::string("array: expected less memory for ") + name + ". Use a smaller batch.");
    std::lock_guard lock(mutex_);
    auto& free = free_[rounded];
    void* data = free.empty() ? std::aligned_alloc(kAlign, rounded) : free.back();
    if (!free.empty()) free.pop_back();
    std::memset(data, 0xA5, rounded);
    info_[device].used += rounded;
    info_[device].peak = std::max(info_[device].peak, info_[device].used);
    return new DeviceBlock{data, rounded, name, static_cast<uint8_t>(device), home, 0};
  }
  void release(DeviceBlock* block) noexcept override {
    std::lock_guard lock(mutex_);
    info_[block->device].used -= block->bytes;
    std::memset(block->data, 0x5A, block->bytes);
    free_[block->bytes].push_back(block->data);
    delete block;
  }
  MemoryInfo memory_info(int device) override { return info_[device]; }
  void reset_peak_memory(int device) override { info_[device].peak = info_[device].used; }
  void empty_cache(int) override {}
  StreamHandle stream(int device, StreamKind kind) override { return &streams_[device][static_cast<int>(kind)]; }
  void order(int, StreamKind, StreamKind) override { ++orders; }
  void wait_for_stream(int, StreamHandle) override {}
  void make_stream_wait(int, StreamHandle) override {}
  Work mark(int, StreamKind) override {
    return [this] {
      ++waits;
      if (PyGILState_Check()) ++waits_with_lock;
    };
  }
  void when_done(int, Work then) noexcept override { then(); }
  void enqueue(const DeviceKernel& kernel, void* const* data, void* workspace, int device, StreamKind kind, const char*,
               bool) override {
    ++launches;
    kernel.enqueue(data, workspace, stream(device, kind));
  }
  void copy(void* to, Device, const void* from, Device, size_t bytes, StreamKind) override {
    if (t_capturing)
      t_capturing->push_back([=] { std::memcpy(to, from, bytes); });
    else
      std::memcpy(to, from, bytes);
  }
  std::unique_ptr<DeviceGraph> capture(int, const Work& work, std::unique_ptr<DeviceGraph>) override {
    std::vector<Work> made;
    t_capturing = &made;
    bool whole = true;
    try {
      work();
    } catch (const Error&) {
      whole = false;
    }
    t_capturing = nullptr;
    ++captures;
    return whole ? std::make_unique<PlayedGraph>(std::move(made)) : nullptr;
  }
  void launch(DeviceGraph& graph, int device, const char*) override {
    ++replays;
    graph.launch(stream(device, StreamKind::kCompute));
  }
  std::vector<double> times(int, const std::function<void(const Work&)>& work) override {
    int marks = 0;
    work([&] { ++marks; });
    return std::vector<double>(std::max(marks - 1, 0), 1000);
  }
  std::unique_ptr<DeviceMoment> moment(int, StreamKind) override { return std::make_unique<PlayedMoment>(); }
  void synchronize(int) override {}
  void synchronize(int, StreamKind) override {}

  std::atomic<int> orders{0}, launches{0}, captures{0}, replays{0}, waits{0}, waits_with_lock{0};

 private:
  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;  // blocks by size, the last one freed first
  MemoryInfo info_[kDevices] = {};
  char streams_[kDevices][kStreamKinds] = {};
};

PlayedBackend& played() {
  static auto* made = new PlayedBackend;
  return *made;
}

}  // namespace

PYBIND11_MODULE(played_gpu, m) {
  m.def("backend", [] { return py::capsule(static_cast<Backend*>(&played()), [](void*) {}); });
  m.def("device_count", [] { return kDevices; });
  m.def("on_device", [](const py::capsule& kernel, size_t operands, bool random) {
    auto* made = new KernelPtr(std::make_shared<Played>(*kernel.get_pointer<KernelPtr>(), operands, random));
    return py::capsule(made, [](void* p) { delete static_cast<KernelPtr*>(p); });
  });
  m.def("counts", [] {
    py::dict d;
    d["orders"] = played().orders.load(), d["launches"] = played().launches.load();
    d["captures"] = played().captures.load(), d["replays"] = played().replays.load();
    d["waits"] = played().waits.load(), d["waits_with_lock"] = played().waits_with_lock.load();
    return d;
  });
}
