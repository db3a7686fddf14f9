// The runtime's Backend on CUDA: streams, copies, launches and captured graphs.
#include "cuda/backend.h"

#include "cuda/device.h"
#include "cuda/foreign.h"
#include "cuda/pinned.h"
#include "cuda/timing.h"

namespace minimx::cuda {
namespace {

CUdeviceptr address(const void* p) { return reinterpret_cast<CUdeviceptr>(p); }

struct Capturing {
  explicit Capturing(CUstream stream) { t_capturing = stream; }
  ~Capturing() { t_capturing = nullptr; }
};

/// A CUDA graph that is ready to run.
class CudaGraph : public DeviceGraph {
 public:
  explicit CudaGraph(CUgraphExec exec) : exec_(exec) {}
  ~CudaGraph() override {
    if (!forked()) driver().cuGraphExecDestroy(exec_);
  }
  void launch(StreamHandle stream) override {
    check(driver().cuGraphLaunch(exec_, static_cast<CUstream>(stream)), "cuGraphLaunch");
  }
  /// True if the graph now does what `graph` does.
  bool update(CUgraph graph) {
    CUgraphExecUpdateResultInfo info{};
    return driver().cuGraphExecUpdate_v2(exec_, graph, &info) == CUDA_SUCCESS;
  }

 private:
  CUgraphExec exec_;
};

class CudaBackend : public Backend {
 public:
  int device_count() override { return cuda::device_count(); }
  bool usable() const noexcept override { return !forked(); }

  DeviceBlock* allocate(size_t bytes, int device, StreamKind home, const char* name) override {
    return gpu(device).allocator().allocate(bytes, home, name);
  }
  void release(DeviceBlock* block) noexcept override {
    if (!forked()) gpu(block->device).allocator().release(block);
  }
  MemoryInfo memory_info(int device) override { return gpu(device).allocator().info(); }
  void reset_peak_memory(int device) override { gpu(device).allocator().reset_peak(); }
  void empty_cache(int device) override {
    gpu(device).allocator().empty();
    empty_pinned();
  }

  StreamHandle stream(int device, StreamKind kind) override { return gpu(device).stream(kind); }
  void order(int device, StreamKind earlier, StreamKind later) override { gpu(device).order(earlier, later); }
  void wait_for_stream(int device, StreamHandle earlier) override {
    cuda::wait_for_stream(gpu(device), static_cast<CUstream>(earlier));
  }
  void make_stream_wait(int device, StreamHandle later) override {
    cuda::make_stream_wait(gpu(device), static_cast<CUstream>(later));
  }
  std::function<void()> mark(int device, StreamKind kind) override { return cuda::mark(gpu(device), kind); }
  void when_done(int device, std::function<void()> then) noexcept override { cuda::when_done(device, std::move(then)); }

  void enqueue(const DeviceKernel& kernel, void* const* data, void* workspace, int device, StreamKind kind,
               const char* name, bool synchronous) override {
    Gpu& g = gpu(device);
    g.use();
    g.note(name);
    if (t_capturing) return kernel.enqueue(data, workspace, t_capturing);
    try {
      kernel.enqueue(data, workspace, g.stream(kind));
    } catch (const Error&) {
      check_earlier_work(g, kind, name);
      throw;
    }
    if (synchronous) g.check_work(driver().cuStreamSynchronize(g.stream(kind)), name);
  }

  void copy(void* to, Device to_device, const void* from, Device from_device, size_t bytes, StreamKind kind) override {
    if (!bytes) return;
    const bool from_gpu = from_device.kind == Device::Kind::kGpu, to_gpu = to_device.kind == Device::Kind::kGpu;
    if (from_gpu && to_gpu && from_device.id != to_device.id)
      return copy_between(to, to_device.id, from, from_device.id, bytes);
    Gpu& g = gpu(to_gpu ? to_device.id : from_device.id);
    g.use();
    CUstream s = g.stream(kind);
    if (!from_gpu) return g.check_work(driver().cuMemcpyHtoDAsync_v2(address(to), from, bytes, s), "a copy to the GPU");
    if (to_gpu)
      return g.check_work(driver().cuMemcpyDtoDAsync_v2(address(to), address(from), bytes, s), "a copy on the GPU");
    g.check_work(driver().cuMemcpyDtoHAsync_v2(to, address(from), bytes, s), "a copy from the GPU");
    g.check_work(driver().cuStreamSynchronize(s), "a copy from the GPU");
  }

  std::unique_ptr<DeviceGraph> capture(int device, const std::function<void()>& work,
                                       std::unique_ptr<DeviceGraph> reuse) override {
    Gpu& g = gpu(device);
    g.use();
    std::lock_guard one_at_a_time(g.capturing);
    const CUstream s = g.capture_stream();
    check(driver().cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
    bool whole = true;
    try {
      Capturing scope(s);
      work();
    } catch (const Error&) {  // something in it may not be captured: it will run plainly, and fail there if it must
      whole = false;
    }
    CUgraph graph = nullptr;
    if (driver().cuStreamEndCapture(s, &graph) != CUDA_SUCCESS || !graph) return nullptr;
    std::unique_ptr<DeviceGraph> made;
    if (whole && reuse && static_cast<CudaGraph&>(*reuse).update(graph)) {
      made = std::move(reuse);
    } else if (CUgraphExec exec = nullptr;
               whole && driver().cuGraphInstantiateWithFlags(&exec, graph, 0) == CUDA_SUCCESS) {
      made = std::make_unique<CudaGraph>(exec);
    }
    driver().cuGraphDestroy(graph);
    return made;
  }

  void launch(DeviceGraph& graph, int device, const char* name) override {
    Gpu& g = gpu(device);
    g.use();
    g.note(name);
    try {
      graph.launch(g.stream(StreamKind::kCompute));
    } catch (const Error&) {
      check_earlier_work(g, StreamKind::kCompute, name);
      throw;
    }
  }

  std::unique_ptr<DeviceMoment> moment(int device, StreamKind kind) override { return cuda::moment(device, kind); }
  std::vector<double> times(int device, const std::function<void(const std::function<void()>&)>& work) override {
    gpu(device).use();
    return cuda::times(device, work);
  }

  void synchronize(int device) override {
    if (Gpu* g = started_gpu(device)) g->synchronize();
    call_what_is_done();
  }
  void synchronize(int device, StreamKind kind) override { gpu(device).synchronize(kind); }

 private:
  /// After a launch that failed: earlier work may be to blame, and then the device says so.
  static void check_earlier_work(Gpu& g, StreamKind kind, const char* name) {
    const CUresult state = driver().cuStreamQuery(g.stream(kind));
    g.check_work(state == CUDA_ERROR_NOT_READY ? CUDA_SUCCESS : state, name);
  }

  /// From one GPU to another, in the order of both compute streams.
  static void copy_between(void* to, int to_id, const void* from, int from_id, size_t bytes) {
    Gpu &source = gpu(from_id), &target = gpu(to_id);
    wait_across(source, target);
    target.use();
    target.check_work(driver().cuMemcpyPeerAsync(address(to), target.context(), address(from), source.context(), bytes,
                                                 target.stream(StreamKind::kCompute)),
                      "a copy between GPUs");
    wait_across(target, source);  // who writes the source next waits until it has been read
  }

  static void wait_across(Gpu& earlier, Gpu& later) {
    earlier.use();
    CUevent event = nullptr;
    check(driver().cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
    earlier.check_work(driver().cuEventRecord(event, earlier.stream(StreamKind::kCompute)), "an event");
    later.use();
    later.check_work(driver().cuStreamWaitEvent(later.stream(StreamKind::kCompute), event, 0), "a wait between GPUs");
    driver().cuEventDestroy_v2(event);  // destroyed when it has happened
  }
};

}  // namespace

Backend* backend() {
  static auto* made = new CudaBackend;
  return made;
}

}  // namespace minimx::cuda
