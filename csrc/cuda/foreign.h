// Streams of other libraries (CuPy, PyTorch, JAX), and memory of theirs: who waits for whom, and what may be let go
// when.
#pragma once
#include <functional>

#include "cuda/device.h"

namespace minimx::cuda {

/// The compute stream waits for what is on `earlier` now; `later` waits for what is on the compute stream now. The
/// handles 0 and 1 are CUDA's legacy default stream, 2 the calling thread's default stream.
void wait_for_stream(Gpu& gpu, CUstream earlier);
void make_stream_wait(Gpu& gpu, CUstream later);

/// A function that waits until what is on the stream now is done. The thread sleeps meanwhile.
std::function<void()> mark(Gpu& gpu, StreamKind kind);

/// Calls `then` when what is on the compute stream now is done: at once if it is, else in a later call of this or of
/// call_what_is_done.
void when_done(int gpu_id, std::function<void()> then) noexcept;
/// Calls what has waited long enough.
void call_what_is_done() noexcept;

}  // namespace minimx::cuda
