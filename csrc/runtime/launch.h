// launch: hands a bound kernel and its operands to the engine, or runs it here and now if nothing has to wait.
#pragma once
#include <span>

#include "runtime/array.h"
#include "runtime/kernel.h"
#include "runtime/profile.h"

namespace minimx {

/// Runs `kernel` on `ins` and `outs` once their earlier uses are over. Scalars are passed as elements of type
/// `scalar_types[i]`. `state`, if not null, points to four words copied and passed as the kernel's first operand.
/// `site`: the user's line, if it is not the one that is running.
void launch(const KernelPtr& kernel, const char* name, std::span<const Operand> ins,
            std::span<const int8_t> scalar_types, std::span<const Array> outs, const uint64_t* state = nullptr,
            const profile::Text& site = {});

/// Scratch memory of the calling thread, 64-byte aligned; valid until its next use.
void* thread_workspace(size_t bytes);

}  // namespace minimx
