// Building trace events, off the hot path, and changing the listener while others report.
#include "engine/trace.h"

#include <thread>

#include "engine/core.h"
#include "engine/op.h"
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

void trace_op_slow(TraceEvent::Kind kind, const Op& op, bool failed) {
  std::vector<uint64_t> reads, writes;
  if (kind == TraceEvent::Kind::kPush) {
    for (const Use& use : op.uses()) {
      if (use.reads) reads.push_back(use.var->id());
      if (use.writes) writes.push_back(use.var->id());
    }
  }
  report({.kind = kind,
          .name = op.info.name,
          .op = op.order,
          .lane = op.info.lane,
          .on_caller = t_role == Role::kUser,
          .failed = failed,
          .thread = thread_number(),
          .time_ns = now_ns(),
          .reads = reads,
          .writes = writes});
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

void forget_trace() {
  g_trace.store(nullptr, std::memory_order_relaxed);
  g_reporting.store(0, std::memory_order_relaxed);
}

}  // namespace detail

void set_trace(TraceSink* sink) {
  detail::g_trace.store(sink, std::memory_order_seq_cst);
  for (int tries = 0; g_reporting.load(std::memory_order_seq_cst) > 0; ++tries) backoff(tries);
}

}  // namespace minimx::engine
