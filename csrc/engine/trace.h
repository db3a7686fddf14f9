// Hooks for a profiler: every push, start, end and wait can be seen. The engine only reports; writing Perfetto's JSON
// is the listener's business. Without a listener a hook costs one relaxed load.
#pragma once
#include <atomic>
#include <cstdint>
#include <span>

#include "engine/engine.h"
#include "engine/watch.h"

namespace minimx::engine {

struct TraceEvent {
  enum class Kind : uint8_t { kPush, kStart, kEnd, kWaitBegin, kWaitEnd };
  Kind kind{};
  const char* name = "";  // of the operator, or of the wait
  uint64_t op = 0;        // push number; the same for an operator's push, start and end; 0 for waits
  Lane lane{};
  bool on_caller = false;           // start, end: it runs on the thread that pushed it
  bool failed = false;              // start: skipped because an input is poisoned; end: it failed or was skipped
  int thread = 0;                   // a small number of the reporting thread, see thread_number()
  int64_t time_ns = 0;              // steady clock
  const PushInfo* info = nullptr;   // what the operator was pushed with; push, start and end only
  std::span<const uint64_t> reads;  // Var ids; push and wait only
  std::span<const uint64_t> writes;
};

/// Listener. Called from any thread, from several at once. Must not call the engine, nor want a lock (the GIL, say)
/// that whoever calls set_trace holds.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  virtual void on_event(const TraceEvent& event) = 0;
};

/// A small number for the calling thread: 1, 2, ... in the order in which threads first ask.
int thread_number();

namespace detail {
inline constinit std::atomic<TraceSink*> g_trace{nullptr};
void trace_push_slow(const PushInfo& info, uint64_t order, std::span<Var* const> reads, std::span<Var* const> writes);
void trace_run_slow(TraceEvent::Kind kind, const PushInfo& info, uint64_t order, bool failed);
void trace_wait_slow(TraceEvent::Kind kind, const char* name, const Var* var);
void forget_watchers();
}  // namespace detail

inline void trace_push(const PushInfo& info, uint64_t order, std::span<Var* const> reads,
                       std::span<Var* const> writes) {
  if (tracing()) detail::trace_push_slow(info, order, reads, writes);
}
inline void trace_run(TraceEvent::Kind kind, const PushInfo& info, uint64_t order, bool failed) {
  if (tracing()) detail::trace_run_slow(kind, info, order, failed);
}
inline void trace_wait(TraceEvent::Kind kind, const char* name, const Var* var) {
  if (tracing()) detail::trace_wait_slow(kind, name, var);
}

/// Reports a wait: its begin, and its end, however it ends.
class WaitTrace {
 public:
  WaitTrace(const char* name, const Var* var) : name_(name), var_(var) {
    trace_wait(TraceEvent::Kind::kWaitBegin, name_, var_);
  }
  ~WaitTrace() { trace_wait(TraceEvent::Kind::kWaitEnd, name_, var_); }
  WaitTrace(const WaitTrace&) = delete;
  WaitTrace& operator=(const WaitTrace&) = delete;

 private:
  const char* name_;
  const Var* var_;
};

}  // namespace minimx::engine
