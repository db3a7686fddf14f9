// invoke: the one way an operator is called, whoever calls it. Three interpreters stand behind it: eager (run now),
// recording (run and put a node on the tape) and tracing (only note the call in a graph).
#pragma once
#include <functional>
#include <span>

#include "runtime/plan.h"
#include "runtime/profile.h"

namespace minimx {

class Repeats;

/// Per-thread modes, as set by mx.autograd and by tracing.
struct Mode {
  bool recording = false;
  bool training = false;
  Trace* trace = nullptr;      // borrowed; set while a graph is traced on this thread
  Device device;               // where operators without array operands put their results
  int8_t low = kInherited;     // mixed precision: the low DType, kOff, or what set_low_type() said for all threads
  bool frees = false;          // inside a backward pass that frees what it has walked
  bool writes = false;         // inside one that is not recorded, begins with ones, and gives variables their gradients
  int bulk = -1;               // calls that are put off together (deferred.h), or -1: by default
  Repeats* repeats = nullptr;  // where the thread's repeated calls are put off (repeats.h)

  static constexpr int8_t kOff = -1, kInherited = -2;
};
Mode& mode();

/// Mixed precision of the threads that have none of their own: a 16-bit float DType, or Mode::kOff.
void set_low_type(int8_t low);
/// The low type of this thread, or Mode::kOff.
int8_t low_type();

/// Calls `op` on `ins`. `outs` receives the results: as many as the plan has. If `into` is not empty it holds the
/// arrays to write to (same shapes; another type is converted to), and `outs` are those arrays, newly placed on the
/// tape.
void invoke(Op& op, const AttrSet* attrs, std::span<const Operand> ins, std::vector<Array>& outs,
            std::span<const Array> into = {});

/// True if writing `into` could change an operand before it is read.
bool overlaps(const Plan& plan, const Array& into, std::span<const Operand> ins);
/// Runs a plan's kernel on operands and outputs as it wants them, or queues it. `site`: the user's line if that is
/// known already, else null.
void launch_plan(Plan& plan, std::span<const Operand> ins, std::vector<Array>& outs, const profile::Text& site = {});

/// Single-output convenience.
Array invoke1(Op& op, const AttrSet* attrs, std::initializer_list<Operand> ins);

/// Looks the plan up, asking the row's rule on a miss.
Plan& plan_for(Op& op, const AttrSet* attrs, std::span<const Operand> ins);

/// What the bind layer provides: the rows are Python's.
struct Rules {
  /// Asks the row for a plan and binds its kernel.
  Ref<Plan> (*plan)(Op& op, const AttrSet* attrs, std::span<const Operand> ins);
  /// Traces the row's gradient rule for operands in `mask`.
  Ref<GradProgram> (*gradient)(Plan& plan, std::span<const Operand> ins, uint64_t mask);
  /// Makes the kernel of a GPU: its text is written, and compiled, by minimx/rtc/cuda.
  KernelPtr (*device_kernel)(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs,
                             const Attrs& attrs, Device device);
  /// The line of the user's program that is running, for errors that surface later.
  std::shared_ptr<const std::string> (*site)();
};
void set_rules(const Rules& rules);
const Rules& rules();
/// The kernel of that name on a device.
KernelPtr make_kernel_on(Device device, const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs,
                         const Attrs& attrs);

/// Attributes of the internal casts and copies.
struct CoreOps {
  Ref<Op> cast, copy, add;
  Ref<const AttrSet> (*cast_attrs)(DType);
};
CoreOps& core_ops();

/// Copies `from` into `to` (equal shapes, any types and strides), ordered by the engine, not recorded.
void copy_into(const Array& from, const Array& to);
/// `a` itself if it is C-contiguous, else a contiguous copy, on the tape if `a` is.
Array contiguous(const Array& a);

/// State of the random stream: every random operator takes the next call number (see minimx/ops/kinds/random.py).
struct RandomState {
  uint64_t seed = 0, call = 0;
};
RandomState& random_state();

}  // namespace minimx
