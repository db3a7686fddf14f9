// How long work takes on a device, to choose between ways to do it.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <span>

#include "runtime/backend.h"

namespace minimx::cuda {

/// Device memory for the length of a scope. Its contents are whatever was there: the time does not depend on them.
class Buffer {
 public:
  Buffer(size_t bytes, int device);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return block_ ? block_->data : nullptr; }

 private:
  DeviceBlock* block_;
};

/// To be held while something is timed, buffers included: threads would disturb one another.
std::mutex& timing();

/// Milliseconds that `run` takes on the device's compute stream, once it has warmed up.
float time_of(int device, const std::function<void(StreamHandle)>& run);

/// The same of a kernel of the device, over operands like these (inputs, then outputs) in buffers; holds timing().
float time_of(const Kernel& kernel, std::span<const Spec> operands, int device);

/// What a GPU of these years moves in a nanosecond and how many of them a launch takes, roughly.
constexpr double kBytesMoved = 3500, kLaunch = 4000;

/// See Backend::moment.
std::unique_ptr<DeviceMoment> moment(int device, StreamKind kind);
/// See Backend::times.
std::vector<double> times(int device, const std::function<void(const std::function<void()>& mark)>& work);

}  // namespace minimx::cuda
