// The order of a GPU's streams in checked mode: a Backend around the real one, which keeps a vector clock for each
// stream, and for each block when which stream used it. Work on a block that is not behind what another stream did
// there is an error, whether or not it went wrong this time.
#pragma once
#include "runtime/backend.h"

namespace minimx::checked {

/// Puts the Backend around that of the GPUs, if there is one; end_clocks takes it away. Nothing should be in flight.
void begin_clocks();
void end_clocks();
/// The backend itself: what it is asked to do says nothing of the program's order.
Backend& real_backend();

}  // namespace minimx::checked
