#include "runtime/clocks.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include "engine/op.h"
#include "runtime/captured.h"
#include "runtime/checked.h"

namespace minimx::checked {
namespace {

/// What of each stream has been done, as far as somebody knows: the number of its pieces of work.
using Clock = std::array<uint64_t, kStreamKinds>;

void join(Clock& into, const Clock& other) {
  for (int k = 0; k < kStreamKinds; ++k) into[k] = std::max(into[k], other[k]);
}

constexpr const char* kNames[kStreamKinds] = {"compute", "copy", "communication"};

/// A block of device memory: when each stream last wrote, and last used, it.
struct Block {
  size_t bytes = 0;
  Clock written{}, used{};
  std::string user{};  // the last, for messages
  bool freed = false;
};

struct Streams {
  Clock clocks[kStreamKinds] = {};  // what each stream is behind; [k][k]: its own work
  Clock host{};                     // what the host has waited for
  std::map<const char*, Block> blocks;
};

class ClockedBackend final : public Backend {
 public:
  explicit ClockedBackend(Backend& real) : real(real) {}
  Backend& real;

  int device_count() override { return real.device_count(); }
  bool usable() const noexcept override { return real.usable(); }
  DeviceBlock* allocate(size_t bytes, int device, StreamKind home, const char* name) override {
    DeviceBlock* block = real.allocate(bytes, device, home, name);
    std::lock_guard lock(mutex_);
    auto& blocks = streams_[device].blocks;
    const char* data = static_cast<const char*>(block->data);
    Block fresh{.bytes = block->bytes, .user = name};
    for (auto at = first_over(blocks, data); at != blocks.end() && at->first < data + block->bytes;) {
      join(fresh.written,
           at->second.used);  // all that was done there counts as writing: the new owner's must come after
      join(fresh.used, at->second.used);
      fresh.user = at->second.user;
      fresh.freed = true;
      at = blocks.erase(at);
    }
    blocks[data] = std::move(fresh);
    return block;
  }
  void release(DeviceBlock* block) noexcept override {
    {
      std::lock_guard lock(mutex_);
      Streams& s = streams_[block->device];
      for (int k = 0; k < kStreamKinds; ++k)  // the allocator sees to it that its next owner is behind these
        if (block->used_on >> k & 1) join(s.clocks[static_cast<int>(block->home)], s.clocks[k]);
    }
    real.release(block);
  }
  MemoryInfo memory_info(int device) override { return real.memory_info(device); }
  void reset_peak_memory(int device) override { real.reset_peak_memory(device); }
  void empty_cache(int device) override { real.empty_cache(device); }

  StreamHandle stream(int device, StreamKind kind) override { return real.stream(device, kind); }
  void order(int device, StreamKind earlier, StreamKind later) override {
    real.order(device, earlier, later);
    std::lock_guard lock(mutex_);
    Streams& s = streams_[device];
    join(s.clocks[static_cast<int>(later)], s.clocks[static_cast<int>(earlier)]);
  }
  void wait_for_stream(int device, StreamHandle earlier) override { real.wait_for_stream(device, earlier); }
  void make_stream_wait(int device, StreamHandle later) override { real.make_stream_wait(device, later); }
  std::function<void()> mark(int device, StreamKind kind) override {
    const Clock then = clock(device, kind);
    return [this, device, then, wait = real.mark(device, kind)] {
      wait();
      waited(device, then);
    };
  }
  void when_done(int device, std::function<void()> then) noexcept override { real.when_done(device, std::move(then)); }
  void enqueue(const DeviceKernel& kernel, void* const* data, void* workspace, int device, StreamKind kind,
               const char* name, bool synchronous) override {
    uses(device, kind, name, workspace);
    real.enqueue(kernel, data, workspace, device, kind, name, synchronous);
    if (synchronous) waited(device, clock(device, kind));
  }
  void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes, StreamKind kind) override {
    const Device home = to_device.kind == Device::Kind::kGpu ? to_device : from_device;
    if (!capturing) {
      std::lock_guard lock(mutex_);
      begin_work(home.id, kind);
      if (from_device == home) use(home.id, kind, from, false, "copy");
      if (to_device == home) use(home.id, kind, to, true, "copy");
    }
    real.copy(to, to_device, from, from_device, bytes, kind);
    if (to_device.kind == Device::Kind::kCpu) waited(home.id, clock(home.id, kind));
  }
  std::unique_ptr<DeviceGraph> capture(int device, const std::function<void()>& enqueue,
                                       std::unique_ptr<DeviceGraph> reuse) override {
    return real.capture(device, enqueue, std::move(reuse));
  }
  void launch(DeviceGraph& graph, int device, const char* name) override {
    uses(device, StreamKind::kCompute, name, nullptr);
    real.launch(graph, device, name);
  }
  std::vector<double> times(int device, const std::function<void(const std::function<void()>&)>& work) override {
    return real.times(device, work);
  }
  std::unique_ptr<DeviceMoment> moment(int device, StreamKind kind) override { return real.moment(device, kind); }
  void synchronize(int device) override {
    real.synchronize(device);
    for (int k = 0; k < kStreamKinds; ++k) waited(device, clock(device, static_cast<StreamKind>(k)));
  }
  void synchronize(int device, StreamKind kind) override {
    real.synchronize(device, kind);
    waited(device, clock(device, kind));
  }

 private:
  static std::map<const char*, Block>::iterator first_over(std::map<const char*, Block>& blocks, const char* data) {
    auto at = blocks.upper_bound(data);
    if (at != blocks.begin() && std::prev(at)->first + std::prev(at)->second.bytes > data) --at;
    return at;
  }
  Clock clock(int device, StreamKind kind) {
    std::lock_guard lock(mutex_);
    return streams_[device].clocks[static_cast<int>(kind)];
  }
  void waited(int device, const Clock& until) {
    std::lock_guard lock(mutex_);
    join(streams_[device].host, until);
  }
  /// Under the lock, as the next two: one more piece of work on the stream, behind what the host has waited for.
  void begin_work(int device, StreamKind kind) {
    Streams& s = streams_[device];
    Clock& own = s.clocks[static_cast<int>(kind)];
    join(own, s.host);
    ++own[static_cast<int>(kind)];
  }
  void use(int device, StreamKind kind, const void* data, bool write, const char* name);
  /// What the running operator declares is used by the work it puts on a stream.
  void uses(int device, StreamKind kind, const char* name, const void* workspace) {
    if (capturing) return;
    std::lock_guard lock(mutex_);
    begin_work(device, kind);
    if (workspace) use(device, kind, workspace, true, name);
    if (!engine::t_running) return;
    for (const engine::Use& u : engine::t_running->uses())
      if (const auto* s = dynamic_cast<const Storage*>(u.var.get()))
        if (s->device() == Device{Device::Kind::kGpu, static_cast<uint8_t>(device)})
          use(device, kind, s->data(), u.writes, name);
  }

  std::mutex mutex_;  // guards the rest
  std::map<int, Streams> streams_;
};

void ClockedBackend::use(int device, StreamKind kind, const void* data, bool write, const char* name) {
  Streams& s = streams_[device];
  const auto at = first_over(s.blocks, static_cast<const char*>(data));
  if (at == s.blocks.end() || at->first > data) return;  // memory of others, or from before
  Block& b = at->second;
  const int k = static_cast<int>(kind);
  const Clock& now = s.clocks[k];
  for (int j = 0; j < kStreamKinds; ++j) {
    if (j == k || (write ? b.used : b.written)[j] <= now[j]) continue;
    const std::string by = engine::t_running ? detail::where(engine::t_running->info) : name;
    const std::string was = b.user;
    b.written = b.used = now;  // told once
    throw Error(ErrorKind::kInternal,
                by + ": expected work on the " + kNames[k] + " stream to come after what the " + kNames[j] +
                    " stream does with the same " + std::to_string(b.bytes) + " bytes (" + was +
                    (b.freed ? ", before they were freed" : "") +
                    "), got streams that are in no order. Call Storage::use_on before putting work on a stream.");
  }
  b.used[k] = now[k];
  if (write) b.written[k] = now[k];
  b.user = name;
}

ClockedBackend* g_clocked = nullptr;

}  // namespace

void begin_clocks() {
  if (!gpu_backend()) return;
  g_clocked = new ClockedBackend(*gpu_backend());  // leaked: marks that it gave out may be waited for later
  set_gpu_backend(g_clocked);
}

Backend& real_backend() { return g_clocked ? g_clocked->real : *gpu_backend(); }

void end_clocks() {
  if (g_clocked) set_gpu_backend(&g_clocked->real);
  g_clocked = nullptr;
}

}  // namespace minimx::checked
