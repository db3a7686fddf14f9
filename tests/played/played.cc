// Two GPUs played by the CPU: a Backend over main memory, whose streams (streams.h) run what they are given at once or
// in their own time, and kernels of the CPU as DeviceKernels. So all that the runtime does for a GPU (transfers,
// programs, captured graphs, who is waited for) is tested where there is none. What minimx._cuda does itself is not
// here, but for sums over GPUs. Memory is full of garbage when it is handed out and, in the order of its stream, when
// it comes back.
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>

#include "runtime/backend.h"
#include "streams.h"

namespace py = pybind11;
using namespace minimx;

namespace {

constexpr int kDevices = 2;
constexpr size_t kAlign = 256;

using play::Event;
using play::EventRef;
using play::Stream;
using play::Work;
thread_local std::vector<Work>* t_capturing = nullptr;

Stream& stream_at(StreamHandle handle) { return *static_cast<Stream*>(handle); }

/// A kernel of the CPU. `operands`: how many; `scalars`: which of them are numbers on the host, read before `enqueue`
/// returns; `random`: the state of the random stream comes before them.
class Played : public DeviceKernel {
 public:
  Played(KernelPtr kernel, size_t operands, std::vector<size_t> scalars, bool random)
      : kernel_(std::move(kernel)), operands_(operands), scalars_(std::move(scalars)), random_(random) {}
  size_t workspace_bytes() const override { return kernel_->workspace_bytes(); }
  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override {
    if (!t_capturing) return put(data, workspace, stream_at(stream));
    std::array<uint64_t, 4> state{};
    if (random_) std::memcpy(state.data(), data[0], sizeof state);
    std::vector<void*> places(data, data + operands_ + random_);
    t_capturing->push_back([this, kernel = kernel_, places, state, workspace]() mutable {
      if (random_) places[0] = state.data();
      run(places, workspace);
    });
  }

 private:
  void put(void* const* data, void* workspace, Stream& stream) const {
    std::vector<void*> places(data, data + operands_ + random_);
    std::vector<std::array<char, 8>> numbers(scalars_.size());
    for (size_t i = 0; i < scalars_.size(); ++i) std::memcpy(&numbers[i], places[random_ + scalars_[i]], 8);
    std::array<uint64_t, 4> state{};
    if (random_) std::memcpy(state.data(), data[0], sizeof state);
    stream.put_main([self = *this, places, numbers, state, workspace]() mutable {
      for (size_t i = 0; i < numbers.size(); ++i) places[self.random_ + self.scalars_[i]] = &numbers[i];
      if (self.random_) places[0] = state.data();
      self.run(places, workspace);
    });
  }
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
  std::vector<size_t> scalars_;
  bool random_;
};

class PlayedGraph : public DeviceGraph {
 public:
  explicit PlayedGraph(std::vector<Work> work) : work_(std::make_shared<std::vector<Work>>(std::move(work))) {}
  void launch(StreamHandle stream) override {
    stream_at(stream).put_main([work = work_] {
      for (Work& w : *work) w();
    });
  }

 private:
  std::shared_ptr<std::vector<Work>> work_;
};

/// The host's time at which the stream gets there.
class PlayedMoment : public DeviceMoment {
 public:
  explicit PlayedMoment(EventRef event) : event_(std::move(event)) {}
  double since(const DeviceMoment& earlier) const override {
    const auto before = static_cast<const PlayedMoment&>(earlier).event_->wait();
    return std::chrono::duration<double, std::nano>(event_->wait() - before).count();
  }

 private:
  EventRef event_;
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
    auto& free = free_[{device, home, rounded}];
    void* data = free.empty() ? std::aligned_alloc(kAlign, rounded) : free.back();
    if (!free.empty()) free.pop_back();
    at(device, home).put([=] { std::memset(data, 0xA5, rounded); });
    info_[device].used += rounded;
    info_[device].peak = std::max(info_[device].peak, info_[device].used);
    return new DeviceBlock{data, rounded, name, static_cast<uint8_t>(device), home, 0};
  }
  void release(DeviceBlock* block) noexcept override {
    std::lock_guard lock(mutex_);
    info_[block->device].used -= block->bytes;
    for (int k = 0; k < kStreamKinds; ++k)
      if (block->used_on >> k & 1) follow(block->device, static_cast<StreamKind>(k), block->home);
    at(block->device, block->home).put([data = block->data, bytes = block->bytes] { std::memset(data, 0x5A, bytes); });
    free_[{block->device, block->home, block->bytes}].push_back(block->data);
    delete block;
  }
  MemoryInfo memory_info(int device) override { return info_[device]; }
  void reset_peak_memory(int device) override { info_[device].peak = info_[device].used; }
  void empty_cache(int) override {}
  StreamHandle stream(int device, StreamKind kind) override { return &at(device, kind); }
  void order(int device, StreamKind earlier, StreamKind later) override {
    ++orders;
    follow(device, earlier, later);
  }
  void wait_for_stream(int, StreamHandle) override {}
  void make_stream_wait(int, StreamHandle) override {}
  Work mark(int device, StreamKind kind) override {
    return [this, event = at(device, kind).record()] {
      ++waits;
      if (PyGILState_Check()) ++waits_with_lock;
      event->wait();
    };
  }
  void when_done(int device, Work then) noexcept override { at(device, StreamKind::kCompute).put(std::move(then)); }
  void enqueue(const DeviceKernel& kernel, void* const* data, void* workspace, int device, StreamKind kind, const char*,
               bool synchronous) override {
    ++launches;
    kernel.enqueue(data, workspace, stream(device, kind));
    if (synchronous) synchronize(device, kind);
  }
  void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes, StreamKind kind) override {
    const bool up = from_device.kind == Device::Kind::kCpu, down = to_device.kind == Device::Kind::kCpu;
    if (t_capturing) return t_capturing->push_back([=] { std::memcpy(to, from, bytes); });
    Stream& stream = at(up ? to_device.id : from_device.id, kind);
    const bool between = !up && !down && from_device.id != to_device.id;
    if (between) stream.wait_for(at(to_device.id, kind).record());
    if (up && !is_pinned(from)) {
      const auto* first = static_cast<const char*>(from);
      stream.put_main([=, staged = std::vector<char>(first, first + bytes)] { std::memcpy(to, staged.data(), bytes); });
    } else {
      stream.put_main([=] { std::memcpy(to, from, bytes); });
    }
    if (down) stream.record()->wait();
    if (between) at(to_device.id, kind).wait_for(stream.record());
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
  std::unique_ptr<DeviceMoment> moment(int device, StreamKind kind) override {
    return std::make_unique<PlayedMoment>(at(device, kind).record());
  }
  void synchronize(int device) override {
    for (Stream& s : streams_[device]) s.record()->wait();
  }
  void synchronize(int device, StreamKind kind) override { at(device, kind).record()->wait(); }

  /// The stream of that kind; of a GPU with one stream, that one.
  Stream& at(int device, StreamKind kind) { return streams_[device][one_stream ? 0 : static_cast<int>(kind)]; }
  void note_pinned(uintptr_t address, size_t bytes) {
    std::lock_guard lock(mutex_);
    pinned_[address] = bytes;
  }
  /// Adds up copies of float32 arrays where they are: no stream goes on before all are there.
  void sum(const std::vector<int>& devices, std::vector<std::pair<size_t, std::vector<float*>>> arrays) {
    const auto add = [arrays = std::move(arrays), n = devices.size()] {
      for (const auto& [count, places] : arrays)
        for (size_t i = 0; i < count; ++i) {
          float total = 0;
          for (size_t k = 0; k < n; ++k) total += places[k][i];
          for (size_t k = 0; k < n; ++k) places[n + k][i] = total;
        }
    };
    if (!play::g_own_time) return add();
    auto meeting = std::make_shared<std::barrier<>>(static_cast<ptrdiff_t>(devices.size()));
    for (int id : devices)
      at(id, StreamKind::kCommunication).put_main([=, first = id == devices[0]] {
        meeting->arrive_and_wait();
        if (first) add();
        meeting->arrive_and_wait();
      });
  }
  bool one_stream = false;

  std::atomic<int> orders{0}, launches{0}, captures{0}, replays{0}, waits{0}, waits_with_lock{0};

 private:
  void follow(int device, StreamKind earlier, StreamKind later) {
    if (&at(device, earlier) != &at(device, later)) at(device, later).wait_for(at(device, earlier).record());
  }
  bool is_pinned(const void* p) {
    std::lock_guard lock(mutex_);
    const auto after = pinned_.upper_bound(reinterpret_cast<uintptr_t>(p));
    return after != pinned_.begin() &&
           reinterpret_cast<uintptr_t>(p) < std::prev(after)->first + std::prev(after)->second;
  }

  std::mutex mutex_;
  std::map<std::tuple<int, StreamKind, size_t>, std::vector<void*>> free_;  // the last one freed first
  std::map<uintptr_t, size_t> pinned_;                                      // address, bytes
  MemoryInfo info_[kDevices] = {};
  Stream streams_[kDevices][kStreamKinds];
};

PlayedBackend& played() {
  static auto* made = new PlayedBackend;
  return *made;
}

/// What keeps the streams that are stopped; any of them may be let go at any time.
EventRef& gate() {
  static auto* made = new EventRef(std::make_shared<Event>());
  return *made;
}

}  // namespace

PYBIND11_MODULE(played_gpu, m) {
  m.def("backend", [] { return py::capsule(static_cast<Backend*>(&played()), [](void*) {}); });
  // A copy on GPU 0's copy stream of which nobody tells the arrays. `after`: behind the compute stream.
  m.def("copy_aside", [](const py::capsule& backend, uintptr_t to, uintptr_t from, size_t bytes, bool after) {
    auto* b = static_cast<Backend*>(backend.get_pointer());
    const Device gpu{Device::Kind::kGpu, 0};
    if (after) b->order(0, StreamKind::kCompute, StreamKind::kCopy);
    b->copy(reinterpret_cast<void*>(to), gpu, reinterpret_cast<void*>(from), gpu, bytes, StreamKind::kCopy);
  });
  m.def("device_count", [] { return kDevices; });
  const py::call_guard<py::gil_scoped_release> free;
  m.def(
      "set_own_time",
      [](bool on) {
        for (int id = 0; id < kDevices; ++id) played().synchronize(id);
        play::g_own_time = on;
      },
      free, "Whether streams run on threads of their own, or what is put there runs at once.");
  m.def(
      "set_one_stream",
      [](bool on) {
        for (int id = 0; id < kDevices; ++id) played().synchronize(id);
        played().one_stream = on;
      },
      free, "Whether all work of a GPU is put on one stream: nothing overlaps.");
  m.def(
      "stop_at_next",
      [](int device, int kind) { played().at(device, static_cast<StreamKind>(kind)).stop_at_next(gate()); },
      "The next kernel or copy that is put on the stream does not end before go_on().");
  m.def("go_on", [] { std::exchange(gate(), std::make_shared<Event>())->happen(); });
  m.def(
      "reached",
      [](int device, int kind, double seconds) {
        return played().at(device, static_cast<StreamKind>(kind)).record()->wait_for(seconds);
      },
      free, "Whether the stream does all that is on it now within these seconds.");
  m.def(
      "stands", [](int device, int kind) { return played().at(device, static_cast<StreamKind>(kind)).stands(60); },
      free, "Waits until the stream stands where it was asked to stop.");
  m.def("synchronize", [](int device) { played().synchronize(device); }, free);
  m.def("note_pinned", [](uintptr_t address, size_t bytes) { played().note_pinned(address, bytes); });
  m.def("sum_copies", [](const std::vector<int>& devices, const py::sequence& arrays) {
    std::vector<std::pair<size_t, std::vector<float*>>> all;
    for (py::handle h : arrays) {
      using Places = std::vector<uintptr_t>;
      auto [dtype, count, from, to] = h.cast<std::tuple<std::string, size_t, Places, Places>>();
      if (dtype != "float32") throw py::type_error("sum_copies: expected float32, got " + dtype + ".");
      from.insert(from.end(), to.begin(), to.end());
      std::vector<float*> places;
      for (uintptr_t a : from) places.push_back(reinterpret_cast<float*>(a));
      all.emplace_back(count, std::move(places));
    }
    played().sum(devices, std::move(all));
  });
  m.def("on_device", [](const py::capsule& kernel, size_t operands, std::vector<size_t> scalars, bool random) {
    auto* made =
        new KernelPtr(std::make_shared<Played>(*kernel.get_pointer<KernelPtr>(), operands, std::move(scalars), random));
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
