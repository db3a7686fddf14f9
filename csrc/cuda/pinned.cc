#include "cuda/pinned.h"

#include <bit>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "cuda/device.h"

namespace minimx::cuda {
namespace {

constexpr size_t kPage = 4096;

/// Rounds up to a power of two of pages, or its half more: batches of nearly one size share blocks.
size_t size_class(size_t bytes) {
  const size_t ceiling = std::bit_ceil(std::max(bytes, kPage));
  return bytes <= ceiling / 4 * 3 ? std::max(ceiling / 4 * 3, kPage) : ceiling;
}

struct Blocks {
  std::mutex mutex;
  std::unordered_map<size_t, std::vector<void*>> free;  // by size class
  std::unordered_map<void*, size_t> sizes;              // of all blocks

  static Blocks& get() {
    static auto* blocks = new Blocks;  // leaked: arrays may be freed after static destructors ran
    return *blocks;
  }
  void give_to_system() {
    for (auto& [bytes, list] : free)
      for (void* p : list) {
        driver().cuMemFreeHost(p);
        sizes.erase(p);
      }
    free.clear();
  }
};

}  // namespace

void* allocate_pinned(size_t bytes) {
  const size_t rounded = size_class(bytes);
  Blocks& blocks = Blocks::get();
  std::lock_guard lock(blocks.mutex);
  auto& list = blocks.free[rounded];
  if (!list.empty()) {
    void* p = list.back();
    list.pop_back();
    return p;
  }
  gpu(0).use();
  void* p = nullptr;
  CUresult result = driver().cuMemHostAlloc(&p, rounded, CU_MEMHOSTALLOC_PORTABLE);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    blocks.give_to_system();
    result = driver().cuMemHostAlloc(&p, rounded, CU_MEMHOSTALLOC_PORTABLE);
  }
  if (result == CUDA_ERROR_OUT_OF_MEMORY)
    throw Error(ErrorKind::kMemory, "pin_memory: expected " + std::to_string(bytes) +
                                        " bytes of memory that can be pinned, got none. Use pin_memory=False, or "
                                        "less prefetch or smaller batches.");
  check(result, "cuMemHostAlloc");
  blocks.sizes[p] = rounded;
  return p;
}

void release_pinned(void* data) noexcept {
  Blocks& blocks = Blocks::get();
  std::lock_guard lock(blocks.mutex);
  blocks.free[blocks.sizes.at(data)].push_back(data);
}

void empty_pinned() noexcept {
  Blocks& blocks = Blocks::get();
  std::lock_guard lock(blocks.mutex);
  try {
    blocks.give_to_system();
  } catch (const Error&) {  // a forked child, or the end of the process: the system takes all
  }
}

}  // namespace minimx::cuda
