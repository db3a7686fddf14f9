#include "cuda/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdio>

#include "cuda/device.h"

namespace minimx::cuda {
namespace {

constexpr size_t kSmallest = 512;
constexpr size_t kLarge = size_t{1} << 20;  // from here on a block up to a quarter too large is taken too

constexpr size_t kLargestStep = size_t{64} << 20;

/// Rounds up by at most an eighth, so that sizes that differ a little share blocks, and by little where that is much.
size_t size_class(size_t bytes) {
  if (bytes <= kSmallest) return kSmallest;
  const size_t step = std::clamp(std::bit_floor(bytes - 1) / 8, kSmallest, kLargestStep);
  return (bytes + step - 1) / step * step;
}

std::string mebibytes(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

}  // namespace

void Allocator::start(CUdevice device) {
  int supported = 0;
  driver().cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, device);
  if (!supported) return;
  check(driver().cuDeviceGetDefaultMemPool(&pool_, device), "cuDeviceGetDefaultMemPool");
  cuuint64_t keep = ~cuuint64_t{0};  // what is freed goes back to the system in empty(), not at every wait
  check(driver().cuMemPoolSetAttribute(pool_, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep), "cuMemPoolSetAttribute");
}

DeviceBlock* Allocator::allocate(size_t bytes, StreamKind home, const char* name) {
  const size_t rounded = size_class(bytes);
  std::lock_guard lock(mutex_);
  DeviceBlock* block = reuse(rounded, home);
  if (!block) {
    void* data = take_from_driver(rounded, home);
    if (!data) {
      give_to_driver();
      data = take_from_driver(rounded, home);
    }
    if (!data) {
      if (pool_) driver().cuMemPoolTrimTo(pool_, 0);  // what it had gathered for the attempt
      throw Error(ErrorKind::kMemory, "array: expected " + mebibytes(bytes) + " free on gpu(" +
                                          std::to_string(gpu_.id()) + ") for " + name + ", got less. Arrays use " +
                                          mebibytes(info_.used) + ":" + largest_live() +
                                          "\nUse a smaller batch, or drop arrays that are not needed any more.");
    }
    block = new DeviceBlock{data, rounded, name, static_cast<uint8_t>(gpu_.id()), home, 0};
    blocks_.insert(block);
  }
  block->name = name;
  info_.used += block->bytes;
  info_.peak = std::max(info_.peak, info_.used);
  return block;
}

DeviceBlock* Allocator::reuse(size_t bytes, StreamKind home) {
  FreeList& free = free_[static_cast<int>(home)];
  auto it = free.lower_bound(bytes);
  if (it == free.end() || it->first > (bytes < kLarge ? bytes : bytes + bytes / 4)) return nullptr;
  DeviceBlock* block = it->second.back();
  it->second.pop_back();
  if (it->second.empty()) free.erase(it);
  info_.cached -= block->bytes;
  return block;
}

void* Allocator::take_from_driver(size_t bytes, StreamKind home) {
  gpu_.use();
  CUdeviceptr p = 0;
  const CUresult result =
      pool_ ? driver().cuMemAllocAsync(&p, bytes, gpu_.stream(home)) : driver().cuMemAlloc_v2(&p, bytes);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return nullptr;
  gpu_.check_work(result, "an allocation");
  return reinterpret_cast<void*>(p);
}

void Allocator::release(DeviceBlock* block) noexcept {
  try {
    for (int k = 0; k < kStreamKinds; ++k)
      if (k != static_cast<int>(block->home) && (block->used_on >> k & 1))
        gpu_.order(static_cast<StreamKind>(k), block->home);
  } catch (const Error&) {  // a lost device, or the end of the process: nothing will use the block again
    return;
  }
  std::lock_guard lock(mutex_);
  block->used_on = 0;
  info_.used -= block->bytes;
  info_.cached += block->bytes;
  free_[static_cast<int>(block->home)][block->bytes].push_back(block);
}

void Allocator::empty() {
  std::lock_guard lock(mutex_);
  give_to_driver();
}

void Allocator::give_to_driver() {
  gpu_.use();
  for (int k = 0; k < kStreamKinds; ++k) {
    const CUstream stream = gpu_.stream(static_cast<StreamKind>(k));
    if (!pool_) gpu_.check_work(driver().cuStreamSynchronize(stream), "a wait for the device");
    for (auto& [bytes, list] : free_[k])
      for (DeviceBlock* b : list) {
        const auto p = reinterpret_cast<CUdeviceptr>(b->data);
        pool_ ? driver().cuMemFreeAsync(p, stream) : driver().cuMemFree_v2(p);
        blocks_.erase(b);
        delete b;
      }
    free_[k].clear();
    if (pool_) gpu_.check_work(driver().cuStreamSynchronize(stream), "a wait for the device");
  }
  info_.cached = 0;
  if (pool_) driver().cuMemPoolTrimTo(pool_, 0);
}

/// The arrays that use most, by the operator that made them: a line each.
std::string Allocator::largest_live() const {
  std::unordered_set<const DeviceBlock*> idle;
  for (const FreeList& free : free_)
    for (const auto& [bytes, list] : free) idle.insert(list.begin(), list.end());
  struct Use {
    size_t bytes = 0, count = 0;
  };
  std::map<std::string, Use> by_name;
  for (const DeviceBlock* b : blocks_) {
    if (idle.count(b)) continue;
    Use& u = by_name[b->name];
    u.bytes += b->bytes;
    ++u.count;
  }
  std::vector<std::pair<std::string, Use>> sorted(by_name.begin(), by_name.end());
  std::ranges::sort(sorted, [](const auto& a, const auto& b) { return a.second.bytes > b.second.bytes; });
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(sorted.size(), 8); ++i)
    text += "\n  " + mebibytes(sorted[i].second.bytes) + " in " + std::to_string(sorted[i].second.count) +
            " arrays of " + sorted[i].first;
  return text;
}

MemoryInfo Allocator::info() {
  std::lock_guard lock(mutex_);
  return info_;
}

void Allocator::reset_peak() {
  std::lock_guard lock(mutex_);
  info_.peak = info_.used;
}

}  // namespace minimx::cuda
