// What the rest of the bind layer sees of programs (program.cc).
#pragma once
#include <pybind11/pybind11.h>

#include "runtime/program.h"

namespace minimx::bind {

/// The program in a `_core.Program`.
Ref<const Program> program_of(pybind11::handle x);

}  // namespace minimx::bind
