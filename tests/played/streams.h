// The streams of a played GPU. At first what is put on one runs at once, on the caller. In their own time
// (`set_own_time`) each runs on a thread of its own, in order, and can be stopped in the middle of a piece of work: so
// a test decides which stream is slow, and sees what runs beside it and what waits. Not a model of speed.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace play {

using Work = std::function<void()>;
using Clock = std::chrono::steady_clock;

/// Something that happens once; when it did.
class Event {
 public:
  void happen() {
    std::lock_guard lock(mutex_);
    at_ = Clock::now();
    happened_ = true;
    changed_.notify_all();
  }
  Clock::time_point wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return happened_; });
    return at_;
  }
  bool wait_for(double seconds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return happened_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool happened_ = false;
  Clock::time_point at_{};
};
using EventRef = std::shared_ptr<Event>;

inline std::atomic<bool> g_own_time{false};

class Stream {
 public:
  /// Runs it now, or behind what is on the stream.
  void put(Work work) {
    if (!g_own_time) return work();
    std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    queue_.push_back(std::move(work));
    changed_.notify_all();
  }
  /// The same for a kernel or a copy: one in whose middle the stream may be asked to stop.
  void put_main(Work work) {
    if (std::shared_ptr<Event> gate = std::exchange(gate_, nullptr))
      put([gate, entered = entered_] {
        entered->happen();
        gate->wait();
      });
    put(std::move(work));
  }
  /// What happens when the stream gets here.
  EventRef record() {
    auto event = std::make_shared<Event>();
    put([event] { event->happen(); });
    return event;
  }
  void wait_for(const EventRef& event) {
    put([event] { event->wait(); });
  }
  /// The next kernel or copy that is put here does not end before the event.
  void stop_at_next(EventRef gate) {
    gate_ = std::move(gate);
    entered_ = std::make_shared<Event>();
  }
  /// Whether it stands there within so many seconds.
  bool stands(double seconds) { return entered_ && EventRef(entered_)->wait_for(seconds); }

 private:
  void run() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !queue_.empty(); });
      Work work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      work();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;
  std::thread thread_;  // never joined: streams live as long as the process
  EventRef gate_, entered_;
};

}  // namespace play
