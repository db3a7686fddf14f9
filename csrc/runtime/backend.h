// Backend: what the runtime asks of a kind of device other than the CPU. csrc/cuda implements it in an extension module
// of its own and hands it over as a pointer, so that a build or a machine without that module lacks nothing else.
// The order of a device's work is the order of its stream: nothing here waits for the device but where it says so.
#pragma once
#include <string>
#include <vector>

#include "runtime/array.h"
#include "runtime/kernel.h"

namespace minimx {

constexpr int kStreamKinds = 3;
using StreamHandle = void*;  // a CUstream

/// A kernel of a device: puts work on a stream instead of running to completion.
class DeviceKernel : public Kernel {
 public:
  /// Enqueues the work and returns. `data` as for Kernel::run, with pointers into device memory; host scalars
  /// (Spec::scalar) and the random state are host memory, read before it returns. `workspace`: device memory, aligned
  /// to 256 bytes, that belongs to this work until it is done.
  virtual void enqueue(void* const* data, void* workspace, StreamHandle stream) const = 0;
  void run(void* const*, void*) const final {
    throw Error(ErrorKind::kInternal, "kernel: expected to be put on a stream, got a call on the host.");
  }
  double cost_ns() const override { return 0; }
};

/// A block of device memory, owned by the backend's allocator. `name` is the operator that asked for it.
struct DeviceBlock {
  void* data = nullptr;
  size_t bytes = 0;
  const char* name = "";
  uint8_t device = 0;
  StreamKind home = StreamKind::kCompute;  // the stream that it was allocated for, and is reused on
  uint8_t used_on = 0;                     // bit k: stream k used it since it was last in step with `home`
};

/// Work that was captured from a stream, to be put on it again as a whole.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  virtual void launch(StreamHandle stream) = 0;
};

/// A point in a stream's work, and the time at which the device gets there.
class DeviceMoment {
 public:
  virtual ~DeviceMoment() = default;
  /// Nanoseconds from another moment of the device to this one; waits for both.
  virtual double since(const DeviceMoment& earlier) const = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual int device_count() = 0;
  /// False in a child of a process that had started the devices before it forked: they, and arrays there, are lost to
  /// it.
  virtual bool usable() const noexcept = 0;
  /// A block of at least `bytes` for work on `home` of the device. Frees caches and tries again before it throws
  /// Error(kMemory), whose text lists the largest live blocks by operator.
  virtual DeviceBlock* allocate(size_t bytes, int device, StreamKind home, const char* name) = 0;
  /// Takes a block back in stream order: work already on its streams may still use it.
  virtual void release(DeviceBlock* block) noexcept = 0;
  virtual MemoryInfo memory_info(int device) = 0;
  virtual void reset_peak_memory(int device) = 0;
  virtual void empty_cache(int device) = 0;

  virtual StreamHandle stream(int device, StreamKind kind) = 0;
  /// What is put on `later` from now on waits for all that is on `earlier` now.
  virtual void order(int device, StreamKind earlier, StreamKind later) = 0;
  /// The compute stream waits for all that is on another library's stream of that device now.
  virtual void wait_for_stream(int device, StreamHandle earlier) = 0;
  /// Another library's stream waits for all that is on the compute stream now.
  virtual void make_stream_wait(int device, StreamHandle later) = 0;
  /// What, when called, waits for all that is on the stream now, and for nothing later.
  virtual std::function<void()> mark(int device, StreamKind kind) = 0;
  /// Calls `then` when all that is on the compute stream now is done: at once, or in a later call or wait.
  virtual void when_done(int device, std::function<void()> then) noexcept = 0;
  /// Makes the calling thread's current context that of the device, then enqueues; throws what the driver reports. In
  /// synchronous mode (engine: naive policy, or sync()) it waits, so that errors name their operator.
  virtual void enqueue(const DeviceKernel& kernel, void* const* data, void* workspace, int device, StreamKind kind,
                       const char* name, bool synchronous) = 0;
  /// Copies between host and device, or on or between devices, on a stream. From pageable host memory it returns once
  /// that memory may be changed, from pinned memory at once; to host memory it returns when the bytes are there.
  virtual void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes,
                    StreamKind kind) = 0;
  /// Captures what `enqueue` puts on the device's compute stream instead of running it. `reuse`, if not null, is a
  /// graph of the same work at other addresses, which is updated if the driver can. Null where it cannot be captured.
  virtual std::unique_ptr<DeviceGraph> capture(int device, const std::function<void()>& enqueue,
                                               std::unique_ptr<DeviceGraph> reuse) = 0;
  /// Puts a captured graph on the compute stream.
  virtual void launch(DeviceGraph& graph, int device, const char* name) = 0;
  /// What passes on the compute stream between one call of `mark` and the next, in nanoseconds, while `work` enqueues
  /// and marks. Waits for it.
  virtual std::vector<double> times(int device, const std::function<void(const std::function<void()>& mark)>& work) = 0;
  /// The moment when all that is on the stream now is done.
  virtual std::unique_ptr<DeviceMoment> moment(int device, StreamKind kind) = 0;
  /// Waits for one stream, or (no kind) for all of the device.
  virtual void synchronize(int device) = 0;
  virtual void synchronize(int device, StreamKind kind) = 0;
};

/// The backend of GPUs, or null; who sets it keeps it alive for good.
Backend* gpu_backend();
void set_gpu_backend(Backend* backend);
/// The backend of a GPU; Error(kDevice) where there is none or it has no device of that number.
Backend& backend_of(Device device);

/// Backend::order, for work of arrays: in a profile the later stream's row shows how long it waited.
void order_streams(int device, StreamKind earlier, StreamKind later);
/// Begins what GPUs compute together: `work` puts it on their communication streams, where it comes behind what is on
/// their compute streams now and runs beside what is put there later. In a profile it is called `name`; `bytes`: of
/// the arrays on one of them. Under Python's lock.
void communicate(std::span<const int> devices, const char* name, size_t bytes, const std::function<void()>& work);
/// What is put on the compute streams later comes behind all that was begun so far.
void join_communication(std::span<const int> devices);

/// Copies the elements of `from` to `to` on another device: same shape and type, both C-contiguous. To a GPU it is an
/// operator of the engine; to the host it waits.
void transfer(const Array& from, const Array& to);
/// From a GPU to the host without waiting: the copy comes behind what is on the compute stream now, and runs beside
/// what is put there later. Whoever uses `to` waits for it.
void transfer_beside(const Array& from, const Array& to);
/// `a` with its elements on `device`, as a new C-contiguous array if it is elsewhere now. `beside`: to the host, too,
/// without waiting (transfer_beside).
Array on_device(const Array& a, Device device, bool beside = false);
/// Waits until the array's elements are there: for the engine, and on a GPU for its stream.
void wait_for(const Array& a);
/// Waits for all work of the engine and of all GPUs.
void wait_for_all();

}  // namespace minimx
