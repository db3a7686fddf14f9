// Running at once on the caller's thread: the naive policy, SyncScope, every wait (an operator without a function), and
// what is pushed after shutdown. The Vars' queues are the same as in the threaded policy, so other threads' operators
// keep their place; only the hands differ.
#include "common/error.h"
#include "engine/core.h"
#include "engine/inspect.h"
#include "engine/order.h"
#include "engine/parallel.h"
#include "engine/spin.h"
#include "engine/trace.h"

namespace minimx::engine {

namespace {

bool would_block(const Call& op) {
  for (const Use& use : op.uses())
    if (use.writes ? !use.var->idle() : !use.var->readable()) return true;
  return false;
}

/// Links the Op and sleeps until all its Vars are granted.
void await(Call& op) {
  if (t_role == Role::kCompute && would_block(op))
    throw Error(ErrorKind::kInternal, std::string(op.info.name) +
                                          ": expected not to wait on the compute worker, got a Var with pending "
                                          "operators. Push what needs to wait on the host lane.");
  op.retain();  // hand_out, maybe on another thread, touches the Op until after this one may go on
  Released out;
  if (ordering()) [[unlikely]]
    order::link(op, out, false);
  else
    op.link(out);
  hand_out(out);  // at most this Op itself
  if (op.ready()) return;
  const order::Blocked noted(op.order);
  if (op.ready()) return;
  BlockingScope blocking;
  if (spin_until([&op] { return op.ready(); })) return;
  core().gatherers.close_all();  // it may be behind another thread's bulk
  for (op.sleep(BlockingScope::kPatience); !op.ready(); op.sleep(BlockingScope::kPatience)) {
    try {
      blocking.still_blocked();
    } catch (...) {
      Released left;
      op.leave(left);
      run_here(hand_out(left));
      throw;
    }
  }
}

void sleep_for(Var* var, bool write, const char* name) {
  const WaitTrace trace(name, var);
  Var* const vars[] = {var};
  const std::span<Var* const> none;
  Ref<Call> op = make_ref<Call>(nullptr, vars, write ? std::span<Var* const>(vars) : none, PushInfo{.name = name});
  await(*op);
  const FailurePtr failure = op->inherited_failure();
  finish(*op, failure);
  if (failure) throw_poisoned(failure);
}

void wait_watched(Var* var, bool write, const char* name) {
  if (inspecting()) inspector().waited(*var, write, t_running);
  std::exception_ptr poisoned;
  try {
    if (!var->sound(write)) sleep_for(var, write, name);
  } catch (const Poisoned&) {
    poisoned = std::current_exception();
  }
  if (ordering()) order::waited(name);
  if (poisoned) std::rethrow_exception(poisoned);
}

void wait_for(Var* var, bool write, const char* name) {
  if (watched(kInspected | kOrdered)) [[unlikely]]
    return wait_watched(var, write, name);
  if (!var->sound(write)) sleep_for(var, write, name);
}

}  // namespace

FailurePtr run_on_caller(Call& op) {
  await(op);
  FailurePtr failure;
  {
    detail::TeamScope team(num_threads());
    failure = op.run();
  }
  finish(op, failure);
  return failure;
}

void wait_to_read(Var* var) { wait_for(var, false, "wait_to_read"); }
void wait_to_write(Var* var) { wait_for(var, true, "wait_to_write"); }

SyncScope::SyncScope() { ++t_sync_depth; }
SyncScope::~SyncScope() { --t_sync_depth; }
bool runs_at_once() { return synchronous(); }

}  // namespace minimx::engine
