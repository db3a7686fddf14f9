// The hook of checked mode: someone who knows what Vars stand for looks at each operator before and after it runs, and
// at what is pushed and waited for inside one. The engine only calls; what is looked for is csrc/runtime/checked.cc.
#pragma once
#include "engine/op.h"
#include "engine/watch.h"

namespace minimx::engine {

/// Called from any thread, from several at once. What it throws from run() is the operator's failure; what it throws
/// from the others surfaces where that was pushed, or waited for.
class Inspector {
 public:
  virtual ~Inspector() = default;
  /// `op` is about to be linked. `inside`: the operator whose function pushes it, or null.
  virtual void pushed(const Op& op, const Op* inside) = 0;
  /// Calls `fn`, the function of `op`, whose Vars are held.
  virtual void run(const Op& op, UniqueFunction<void()>& fn) = 0;
  /// Somebody is about to wait for `var`; to `write`: to change what it stands for, or to lend it.
  virtual void waited(const Var& var, bool write, const Op* inside) = 0;
};

namespace detail {
inline constinit std::atomic<Inspector*> g_inspector{nullptr};
}

/// Turns inspection on, or with null off. Nothing should be in flight. Whoever was set stays alive for good.
inline void set_inspector(Inspector* inspector) {
  if (inspector) detail::g_inspector.store(inspector);
  detail::set_watch(kInspected, inspector != nullptr);
}
/// Only where inspecting().
inline Inspector& inspector() { return *detail::g_inspector.load(std::memory_order_acquire); }

}  // namespace minimx::engine
