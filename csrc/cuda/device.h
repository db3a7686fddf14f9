// One GPU: its context, streams and events, its allocator, and what was put on it last.
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "cuda/allocator.h"
#include "cuda/driver.h"
#include "runtime/backend.h"

namespace minimx::cuda {

class Gpu {
 public:
  explicit Gpu(int id);

  int id() const { return id_; }
  /// Makes the primary context current on the calling thread: other libraries may have put another one there.
  void use() const { check(driver().cuCtxSetCurrent(context_), "cuCtxSetCurrent"); }
  CUstream stream(StreamKind kind) const { return streams_[static_cast<int>(kind)]; }
  CUcontext context() const { return context_; }
  Allocator& allocator() { return allocator_; }
  int attribute(CUdevice_attribute a) const;
  std::string name() const;

  /// Makes `later` wait for what is on `earlier` now.
  void order(StreamKind earlier, StreamKind later);
  /// Notes an operator, for the message of an error that surfaces later.
  void note(const char* name) {
    last_[next_.fetch_add(1, std::memory_order_relaxed) % last_.size()].store(name, std::memory_order_relaxed);
  }
  /// Throws Error(kDevice) unless `result` is success. `doing`: the operator or wait that reports it.
  void check_work(CUresult result, const char* doing) {
    if (result != CUDA_SUCCESS) [[unlikely]]
      report(result, doing);
  }
  /// A stream that runs nothing: work is captured from it, under `capturing`.
  CUstream capture_stream();
  std::mutex capturing;
  void synchronize(StreamKind kind);
  void synchronize();

 private:
  [[noreturn]] void report(CUresult result, const char* doing);

  int id_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  std::array<CUstream, kStreamKinds> streams_{};
  std::array<CUevent, kStreamKinds> events_{};
  CUstream capture_ = nullptr;
  Allocator allocator_;
  std::array<std::atomic<const char*>, 8> last_{};
  std::atomic<unsigned> next_{0};
};

/// While this thread captures: the stream that takes the compute stream's place. Other threads go on using that one.
inline thread_local CUstream t_capturing = nullptr;

/// How many GPUs the driver sees.
int device_count();
/// The GPU of that number, started when first asked for.
Gpu& gpu(int id);
/// The same if it was started, else null: it has nothing to wait for.
Gpu* started_gpu(int id);

}  // namespace minimx::cuda
