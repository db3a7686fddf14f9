// Building trace events, off the hot path, and changing the listener while others report.
#include "engine/trace.h"

#include <thread>

#include "engine/core.h"
#include "engine/order.h"
#include "engine/spin.h"

namespace minimx::engine {

namespace {

constinit std::atomic<int> g_reporting{0};  // threads that may be inside a listener

/// Reports to the listener of this moment. set_trace() waits for those who are in here.
void report(const TraceEvent& event) {
  g_reporting.fetch_add(1, std::memory_order_seq_cst);
  if (TraceSink* sink = detail::g_trace.load(std::memory_order_seq_cst)) sink->on_event(event);
  g_reporting.fetch_sub(1, std::memory_order_release);
}

}  // namespace

int thread_number() {
  static constinit std::atomic<int> last{0};
  thread_local const int number = last.fetch_add(1, std::memory_order_relaxed) + 1;
  return number;
}

namespace detail {

void trace_push_slow(const PushInfo& info, uint64_t order, std::span<Var* const> reads, std::span<Var* const> writes) {
  const auto ids = [](std::span<Var* const> vars) {
    std::vector<uint64_t> out;
    for (const Var* v : vars) out.push_back(v->id());
    return out;
  };
  const std::vector<uint64_t> read = ids(reads), written = ids(writes);
  report({.kind = TraceEvent::Kind::kPush,
          .name = info.name,
          .op = order,
          .lane = info.lane,
          .on_caller = t_role == Role::kUser,
          .thread = thread_number(),
          .time_ns = now_ns(),
          .info = &info,
          .reads = read,
          .writes = written});
}

void trace_run_slow(TraceEvent::Kind kind, const PushInfo& info, uint64_t order, bool failed) {
  report({.kind = kind,
          .name = info.name,
          .op = order,
          .lane = info.lane,
          .on_caller = t_role == Role::kUser,
          .failed = failed,
          .thread = thread_number(),
          .time_ns = now_ns(),
          .info = &info,
          .reads = {},
          .writes = {}});
}

void trace_wait_slow(TraceEvent::Kind kind, const char* name, const Var* var) {
  const uint64_t id = var ? var->id() : 0;
  report({.kind = kind,
          .name = name,
          .on_caller = true,
          .thread = thread_number(),
          .time_ns = now_ns(),
          .reads = std::span<const uint64_t>(&id, var ? 1 : 0),
          .writes = {}});
}

void forget_watchers() {
  g_watching.store(0, std::memory_order_relaxed);
  order::forget();
  g_trace.store(nullptr, std::memory_order_relaxed);
  g_reporting.store(0, std::memory_order_relaxed);
}

}  // namespace detail

void set_trace(TraceSink* sink) {
  detail::g_trace.store(sink, std::memory_order_seq_cst);
  detail::set_watch(kTraced, sink != nullptr);
  for (int tries = 0; g_reporting.load(std::memory_order_seq_cst) > 0; ++tries) backoff(tries);
}

}  // namespace minimx::engine
