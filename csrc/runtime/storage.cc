// The caching allocator: size classes of a quarter of a power of two, one lock, nothing clever.
#include "runtime/storage.h"

#include <pthread.h>
#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "common/error.h"
#include "runtime/backend.h"
#include "runtime/checked.h"

namespace minimx {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kHugePage = size_t{2} << 20;

/// Rounds up so that at most a quarter is wasted and a size class is met again by similar requests.
size_t size_class(size_t bytes) {
  if (bytes <= kAlign) return kAlign;
  size_t step = std::max(kAlign, std::bit_floor(bytes - 1) / 4);
  return (bytes + step - 1) / step * step;
}

class Cache {
 public:
  static Cache& get() {
    static Cache* cache = [] {
      auto* made = new Cache;  // leaked: arrays may be freed after static destructors ran
      pthread_atfork([] { get().mutex_.lock(); }, [] { get().mutex_.unlock(); }, [] { get().mutex_.unlock(); });
      return made;
    }();
    return *cache;
  }

  void* take(size_t bytes) {
    std::lock_guard lock(mutex_);
    info_.used += bytes;
    info_.peak = std::max(info_.peak, info_.used);
    auto& list = free_[bytes];
    if (list.empty()) return nullptr;
    void* p = list.back();
    list.pop_back();
    info_.cached -= bytes;
    return p;
  }
  /// Counts a block that is not the cache's; forget() is its end.
  void lend(size_t bytes) {
    std::lock_guard lock(mutex_);
    info_.used += bytes;
    info_.peak = std::max(info_.peak, info_.used);
  }
  void give(void* p, size_t bytes) {
    std::lock_guard lock(mutex_);
    info_.used -= bytes;
    info_.cached += bytes;
    free_[bytes].push_back(p);
  }
  void forget(size_t bytes) {
    std::lock_guard lock(mutex_);
    info_.used -= bytes;
  }
  void clear() {
    std::lock_guard lock(mutex_);
    for (auto& [bytes, list] : free_)
      for (void* p : list) std::free(p);
    free_.clear();
    info_.cached = 0;
  }
  MemoryInfo info() {
    std::lock_guard lock(mutex_);
    return info_;
  }
  void reset_peak() {
    std::lock_guard lock(mutex_);
    info_.peak = info_.used;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> free_;
  MemoryInfo info_{0, 0, 0};
};

void* system_allocate(size_t bytes) {
  bool huge = bytes >= kHugePage;
  void* p =
      std::aligned_alloc(huge ? kHugePage : kAlign, huge ? (bytes + kHugePage - 1) / kHugePage * kHugePage : bytes);
  if (p && huge) madvise(p, bytes, MADV_HUGEPAGE);
  return p;
}

}  // namespace

Ref<Storage> Storage::promise(size_t bytes, Device device) {
  Ref<Storage> s(new Storage);
  s->bytes_ = bytes;
  s->device_ = device;
  return s;
}

Ref<Storage> Storage::allocate(size_t bytes, Device device, StreamKind home) {
  Ref<Storage> s = promise(bytes, device);
  s->acquire(home);
  return s;
}

void Storage::acquire(StreamKind home) {
  if (device_.kind == Device::Kind::kGpu) {
    block_ = backend_of(device_).allocate(bytes_, device_.id, home, allocating_operator);
    data_ = block_->data;
    streams_ = uint8_t(1 << static_cast<int>(home));  // who had the block before may still be at work there
    if (engine::inspecting()) [[unlikely]]
      checked::made(*this);
    return;
  }
  if (engine::inspecting()) [[unlikely]]
    return guard();
  const size_t rounded = size_class(bytes_);
  void* p = Cache::get().take(rounded);
  if (!p) p = system_allocate(rounded);
  if (!p) {
    empty_memory_cache();
    p = system_allocate(rounded);
  }
  if (!p) {
    Cache::get().forget(rounded);
    throw Error(ErrorKind::kMemory, "array: expected " + std::to_string(bytes_) + " free bytes on " + device_.str() +
                                        ", got none. Free arrays or use a smaller batch.");
  }
  data_ = p;
  block_bytes_ = rounded;
}

Ref<Storage> Storage::borrow(void* data, size_t bytes, Device device, std::function<void()> done, bool read_only,
                             bool pinned) {
  Ref<Storage> s(new Storage);
  s->data_ = data;
  s->bytes_ = bytes;
  s->device_ = device;
  s->read_only_ = read_only;
  s->pinned_ = pinned;
  if (device.kind == Device::Kind::kGpu)  // its owner has put the compute stream behind what is done to it so far
    s->streams_ = uint8_t(1 << static_cast<int>(StreamKind::kCompute));
  s->done_ = std::move(done);
  if (engine::inspecting()) checked::made(*s);
  return s;
}

Storage::~Storage() {
  if (done_ && device_.kind == Device::Kind::kGpu) {
    give_back_borrowed();
  } else if (done_) {
    done_();
  } else if (block_) {
    block_->used_on = streams_.load(std::memory_order_relaxed);
    gpu_backend()->release(block_);
  } else if (guarded()) [[unlikely]] {
    give_back_guarded();
  } else if (data_) {
    Cache::get().give(data_, block_bytes_);
  }
}

/// Memory of the CPU in checked mode: counted as the cache counts its own, and never reused by it.
void Storage::guard() {
  data_ = checked::allocate(bytes_);
  if (!data_)
    throw Error(ErrorKind::kMemory, "array: expected " + std::to_string(bytes_) +
                                        " free bytes in checked mode, got none. Check a smaller batch.");
  block_bytes_ = size_class(bytes_) + kGuarded;
  Cache::get().lend(size_class(bytes_));
  checked::made(*this);
}

void Storage::give_back_guarded() noexcept {
  checked::release(data_, bytes_);
  Cache::get().forget(block_bytes_ - kGuarded);
}

StreamKind Storage::home() const { return block_ ? block_->home : StreamKind::kCompute; }

void Storage::give_back_borrowed() noexcept {
  try {
    use_on(StreamKind::kCompute);
  } catch (const Error&) {  // a lost device: nothing will run there any more
  }
  gpu_backend()->when_done(device_.id, std::move(done_));
}

void Storage::follow(uint8_t streams, StreamKind stream) {
  for (int k = 0; k < kStreamKinds; ++k)
    if (streams >> k & 1) order_streams(device_.id, static_cast<StreamKind>(k), stream);
}

MemoryInfo memory_info(Device device) {
  return device.kind == Device::Kind::kCpu ? Cache::get().info() : backend_of(device).memory_info(device.id);
}
void reset_peak_memory(Device device) {
  device.kind == Device::Kind::kCpu ? Cache::get().reset_peak() : backend_of(device).reset_peak_memory(device.id);
}
void empty_memory_cache(Device device) {
  device.kind == Device::Kind::kCpu ? Cache::get().clear() : backend_of(device).empty_cache(device.id);
}

}  // namespace minimx
