// The trace hooks: what a listener hears, and that it can come and go while operators run.
#include <algorithm>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/trace.h"

using namespace minimx;
using namespace minimx::engine;

namespace {

using Kind = TraceEvent::Kind;

class Recorder final : public TraceSink {
 public:
  struct Heard {
    TraceEvent event;
    std::vector<uint64_t> reads, writes;
  };
  void on_event(const TraceEvent& e) override {
    std::lock_guard lock(mutex_);
    heard_.push_back({e, {e.reads.begin(), e.reads.end()}, {e.writes.begin(), e.writes.end()}});
  }
  const Heard& find(Kind kind, const std::string& name) {
    std::lock_guard lock(mutex_);
    for (const Heard& h : heard_)
      if (h.event.kind == kind && name == h.event.name) return h;
    check::failed(__FILE__, __LINE__, "no event of " + name);
  }
  size_t size() {
    std::lock_guard lock(mutex_);
    return heard_.size();
  }

 private:
  std::mutex mutex_;
  std::vector<Heard> heard_;
};

}  // namespace

TEST(trace_tells_push_start_end_and_wait) {
  Recorder recorder;
  set_trace(&recorder);
  VarPtr a = make_var(), b = make_var();
  Var *const va[] = {a.get()}, *const vb[] = {b.get()};
  push([] { std::this_thread::sleep_for(std::chrono::milliseconds(3)); }, va, vb, {.name = "far", .cost_ns = 1e9});
  wait_to_read(b.get());
  CHECK(!try_inline(va, vb));  // so that the runtime goes through push, which has a name
  push([] {}, {}, va, {.name = "near"});
  push([] { throw 1; }, {}, va, {.name = "bad"});
  push([] {}, va, vb, {.name = "skipped"});
  set_trace(nullptr);

  const auto &pushed = recorder.find(Kind::kPush, "far"), &started = recorder.find(Kind::kStart, "far"),
             &ended = recorder.find(Kind::kEnd, "far");
  CHECK(pushed.reads == std::vector<uint64_t>{a->id()} && pushed.writes == std::vector<uint64_t>{b->id()});
  CHECK(pushed.event.op == started.event.op && started.event.op == ended.event.op);
  CHECK(pushed.event.thread == thread_number() && started.event.thread != thread_number());
  CHECK(pushed.event.time_ns <= started.event.time_ns && ended.event.time_ns - started.event.time_ns >= 3'000'000);
  CHECK(!started.event.on_caller && recorder.find(Kind::kStart, "near").event.on_caller);
  CHECK(recorder.find(Kind::kWaitBegin, "wait_to_read").reads == std::vector<uint64_t>{b->id()});
  CHECK(recorder.find(Kind::kWaitEnd, "wait_to_read").event.time_ns >= ended.event.time_ns);
  CHECK(recorder.find(Kind::kEnd, "bad").event.failed && !recorder.find(Kind::kStart, "bad").event.failed);
  CHECK(recorder.find(Kind::kStart, "skipped").event.failed);
  CHECK_THROWS(Poisoned, wait_all());

  const size_t before = recorder.size();
  push([] {}, {}, vb, {.name = "unheard", .cost_ns = 1e9});
  wait_all();
  CHECK(recorder.size() == before);
}

TEST(trace_listeners_come_and_go) {
  VarPtr a = make_var();
  Var* const vars[] = {a.get()};
  std::atomic<bool> stop{false};
  std::thread pusher([&] {
    while (!stop)
      for (double cost : {0.0, 1e9}) push([] {}, vars, vars, {.name = "op", .cost_ns = cost});
  });
  for (int i = 0; i < check::rounds(300); ++i) {
    Recorder recorder;  // dies right after set_trace(nullptr)
    set_trace(&recorder);
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    set_trace(nullptr);
  }
  stop = true;
  pusher.join();
}
