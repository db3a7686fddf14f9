#include "cuda/foreign.h"

#include <list>
#include <mutex>

namespace minimx::cuda {
namespace {

/// An event of what is on a stream now; destroying it before it has happened is allowed.
class Event {
 public:
  Event(Gpu& gpu, CUstream stream) : gpu_(gpu) {
    gpu.use();
    check(driver().cuEventCreate(&event_, CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC), "cuEventCreate");
    const CUresult result = driver().cuEventRecord(event_, stream);
    if (result == CUDA_SUCCESS) return;
    driver().cuEventDestroy_v2(event_);
    gpu.check_work(result, "an event");
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() {
    try {
      driver().cuEventDestroy_v2(event_);
    } catch (const Error&) {  // a forked child
    }
  }
  bool done() const { return driver().cuEventQuery(event_) != CUDA_ERROR_NOT_READY; }
  void wait() const { gpu_.check_work(driver().cuEventSynchronize(event_), "a wait for a copy"); }
  void before(CUstream later) const {
    gpu_.check_work(driver().cuStreamWaitEvent(later, event_, 0), "a wait between streams");
  }

 private:
  Gpu& gpu_;
  CUevent event_ = nullptr;
};

struct Waiting {
  std::shared_ptr<const Event> event;
  std::function<void()> then;
};
std::mutex& waiting_mutex() {
  static auto* mutex = new std::mutex;  // leaked: arrays may be freed after static destructors ran
  return *mutex;
}
std::list<Waiting>& all_waiting() {
  static auto* list = new std::list<Waiting>;
  return *list;
}

}  // namespace

void wait_for_stream(Gpu& gpu, CUstream earlier) { Event(gpu, earlier).before(gpu.stream(StreamKind::kCompute)); }
void make_stream_wait(Gpu& gpu, CUstream later) { Event(gpu, gpu.stream(StreamKind::kCompute)).before(later); }

std::function<void()> mark(Gpu& gpu, StreamKind kind) {
  return [event = std::make_shared<const Event>(gpu, gpu.stream(kind))] { event->wait(); };
}

void when_done(int gpu_id, std::function<void()> then) noexcept {
  bool now = true;
  try {
    Gpu& g = gpu(gpu_id);
    auto event = std::make_shared<const Event>(g, g.stream(StreamKind::kCompute));
    now = event->done();
    if (!now) {
      std::lock_guard lock(waiting_mutex());
      all_waiting().push_back({event, then});
    }
  } catch (const Error&) {  // a lost device, a forked child or the end of the process: nothing runs there any more
  }
  if (now) then();
  call_what_is_done();
}

void call_what_is_done() noexcept {
  std::list<Waiting> ready;
  try {
    std::lock_guard lock(waiting_mutex());
    auto& waiting = all_waiting();
    for (auto it = waiting.begin(); it != waiting.end();) {
      const auto next = std::next(it);
      if (it->event->done()) ready.splice(ready.end(), waiting, it);
      it = next;
    }
  } catch (const Error&) {  // a forked child: the memory is its parent's
  }
  for (Waiting& w : ready) w.then();  // may free arrays, and come here again
}

}  // namespace minimx::cuda
