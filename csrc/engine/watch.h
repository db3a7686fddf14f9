// Who watches the engine: one word, so that the hot path asks once, whatever may be on. While anyone watches, every
// operator goes through push, which knows its name. Listeners: trace.h (a profiler), inspect.h (checked mode), order.h
// (orders that are recorded, replayed or shuffled).
#pragma once
#include <atomic>

namespace minimx::engine {

enum Watch : unsigned { kTraced = 1, kInspected = 2, kOrdered = 4 };

namespace detail {
inline constinit std::atomic<unsigned> g_watching{0};
inline void set_watch(Watch bit, bool on) { on ? g_watching.fetch_or(bit) : g_watching.fetch_and(~unsigned{bit}); }
}  // namespace detail

inline bool watched(unsigned by = ~0u) { return detail::g_watching.load(std::memory_order_relaxed) & by; }
inline bool tracing() { return watched(kTraced); }
inline bool inspecting() { return watched(kInspected); }
inline bool ordering() { return watched(kOrdered); }

}  // namespace minimx::engine
