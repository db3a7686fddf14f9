// Memory of arrays: Device, Storage and the caching allocator behind it.
// A Storage is a block of memory with the engine Var that orders its use; arrays and their views share it. Freed blocks
// stay in free lists by size class, because imperative code asks for the same sizes again and again.
#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
#include <string>

#include "common/refcount.h"
#include "engine/engine.h"

namespace minimx {

struct Device {
  enum class Kind : uint8_t { kCpu, kGpu };
  Kind kind = Kind::kCpu;
  uint8_t id = 0;
  bool operator==(const Device&) const = default;
  std::string str() const { return (kind == Kind::kCpu ? "cpu(" : "gpu(") + std::to_string(id) + ")"; }
};

/// A block of memory, and the Var that orders its use. The last owner returns the block to the allocator; queued
/// operators are owners too, so memory outlives them without anyone waiting.
class Storage : public engine::Var {
 public:
  /// Uninitialised memory, 64-byte aligned. Throws Error(kMemory) after emptying the caches in vain.
  static Ref<Storage> allocate(size_t bytes, Device device);
  /// Memory of somebody else (NumPy, DLPack); `done` is called when the last owner is gone.
  static Ref<Storage> borrow(void* data, size_t bytes, Device device, std::function<void()> done, bool read_only);

  void* data() const { return data_; }
  /// As asked for; the block may be larger.
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  /// Names another CPU number as home of a block that nobody else has seen yet: all CPU numbers are one memory.
  void set_device(Device device) { device_ = device; }
  bool read_only() const { return read_only_; }
  /// Counts writes after creation: the tape compares it to find saved arrays that were written to in place.
  uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

  ~Storage() override;

 private:
  Storage() = default;
  void* data_ = nullptr;
  size_t bytes_ = 0, block_bytes_ = 0;
  Device device_;
  bool read_only_ = false;
  std::atomic<uint32_t> version_{0};
  std::function<void()> done_;  // set only for borrowed memory
};

/// Bytes in use, bytes held in free lists, and the peak of the former since start or reset.
struct MemoryInfo {
  size_t used, cached, peak;
};
MemoryInfo memory_info();
void reset_peak_memory();
/// Gives the free lists back to the system.
void empty_memory_cache();

}  // namespace minimx
