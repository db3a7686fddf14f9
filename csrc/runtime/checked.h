// Checked mode: finds operators and callbacks that touch what they do not declare, or memory that is not theirs, and
// hosts that do not wait. It stands behind the engine's Inspector and gives arrays of the CPU guarded memory (guard.h);
// the order of a GPU's streams is clocks.h. Off, allocating costs one branch. Essay: docs/engine.md, "Checked mode".
#pragma once
#include <string>

#include "engine/watch.h"
#include "runtime/array.h"

namespace minimx::checked {

/// Turns the mode on; nothing should be in flight.
void begin();
/// Turns it off. Throws Error(kInternal) for what was found since and no operator could be blamed for.
void end();

/// Memory of `bytes`, aligned to 64, between red zones and full of a pattern that nobody writes. Null: there is none.
void* allocate(size_t bytes);
/// Takes such memory back: it is kept for a while, to see who still writes to it.
void release(void* data, size_t bytes) noexcept;
/// A new block of memory: whoever makes one inside an operator may use it there.
void made(const Storage& storage);
namespace detail {
void describe_slow(const Array& array);
/// "a float32 array of shape (2, 3)".
std::string text(DType dtype, const Dims& shape);
/// "<operator>, pushed at <line>".
std::string where(const engine::PushInfo& info);
}  // namespace detail

/// The next operator that this thread pushes, or the next wait, is for this array among others.
inline void describe(const Array& array) {
  if (engine::inspecting()) [[unlikely]]
    detail::describe_slow(array);
}

}  // namespace minimx::checked
