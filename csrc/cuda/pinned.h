// Pinned main memory: what the GPU's copy engine reads by itself, so that a copy from it runs beside everything else.
// Pinning costs milliseconds, so blocks are kept and used again, by size. Who may use a block again is not decided
// here: the engine keeps the array over it until copies from it are done (runtime/backend.cc, transfer_pinned).
#pragma once
#include <cstddef>

namespace minimx::cuda {

/// At least `bytes` of memory that every GPU may copy from. Throws Error(kMemory) where the system gives none.
void* allocate_pinned(size_t bytes);
/// Takes memory of allocate_pinned back.
void release_pinned(void* data) noexcept;
/// Gives what nobody uses back to the system.
void empty_pinned() noexcept;

}  // namespace minimx::cuda
