// Device memory: blocks by size class, kept for reuse in stream order; the driver's own stream-ordered pool behind
// them. A block freed while its stream still uses it may be handed out at once for later work on the same stream: the
// order of the stream is the order of use. So there is a free list for each stream, and other users are waited for at
// release.
#pragma once
#include <cuda.h>

#include <map>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "runtime/backend.h"

namespace minimx::cuda {

class Gpu;

class Allocator {
 public:
  explicit Allocator(Gpu& gpu) : gpu_(gpu) {}
  void start(CUdevice device);

  DeviceBlock* allocate(size_t bytes, StreamKind home, const char* name);
  void release(DeviceBlock* block) noexcept;
  MemoryInfo info();
  void reset_peak();
  /// Gives the free blocks back to the driver.
  void empty();

 private:
  using FreeList = std::map<size_t, std::vector<DeviceBlock*>>;

  DeviceBlock* reuse(size_t bytes, StreamKind home);
  void* take_from_driver(size_t bytes, StreamKind home);
  void give_to_driver();
  std::string largest_live() const;

  Gpu& gpu_;
  CUmemoryPool pool_ = nullptr;  // null: the device has no stream-ordered memory
  std::mutex mutex_;
  std::array<FreeList, kStreamKinds> free_;
  std::unordered_set<DeviceBlock*> blocks_;  // all, free ones too
  MemoryInfo info_{0, 0, 0};
};

}  // namespace minimx::cuda
