// StagedKernel: a Kernel that is a short list of steps (oneDNN primitives and plain functions) over operands and
// temporaries, with reorders put in wherever an operand's layout or type is not the one a step wants.
// Built once by a factory: `read`/`write` name operands, `add` appends steps, `finish` closes it. Then immutable.
// Read next: dnnl_conv.cc, the first user.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/dnnl_engine.h"
#include "cpu/dnnl_layout.h"
#include "runtime/kernel.h"

namespace minimx::onednn {

class StagedKernel : public Kernel {
 public:
  using Slot = int;
  using Function = std::function<void(char* const* slots)>;

  /// `threads` is what the primitives are created for and run with; the operands are the factory's.
  StagedKernel(std::span<const Spec> ins, std::span<const Spec> outs, double cost_ns, int threads);

  /// Slot of input `i` as `want`, reordered into a temporary first where it differs. `seen_as` replaces the Spec's own
  /// descriptor (a grouped view of weights).
  Slot read(int i, const Desc& want, const Desc* seen_as = nullptr);
  /// Slot to write output `i` in as `want`; reordered to the operand's own layout by `finish` where it differs.
  Slot write(int i, const Desc& want, const Desc* seen_as = nullptr);
  /// Copies input `i` to what `write` gave.
  void load(int i, Slot slot);
  /// Slots of operands as they lie in memory, for steps that are functions.
  Slot raw_input(int i) { return operand_slot(i, Desc()); }
  Slot raw_output(int i) { return operand_slot(inputs_ + i, Desc()); }
  /// Copies input `i` to output `o`, whatever their layouts and types: the whole of the reorder kernel.
  void move(int i, int o);
  /// A temporary in the workspace.
  Slot temporary(const Desc& desc);
  Slot temporary_bytes(size_t bytes);

  struct Arg {
    int name;  // DNNL_ARG_...
    Slot slot;
  };
  void add(const dnnl::primitive& primitive, std::vector<Arg> args);
  /// Steps that are functions get the pointers of all slots.
  void add(Function function);
  /// Closes the list: appends the reorders back to the outputs. No step may be added after it.
  void finish();

  void run(void* const* data, void* workspace) const override;
  size_t workspace_bytes() const override { return temporaries_bytes_ + scratchpad_bytes_; }
  double cost_ns() const override { return cost_ns_; }

 private:
  struct SlotInfo {
    int operand = -1;   // index in `data`, or
    size_t offset = 0;  // place in the workspace
    Desc desc;          // zero for slots that only functions use
  };
  struct Step {
    dnnl::primitive primitive;
    std::vector<Arg> args;
    Function function;
  };
  /// What one run needs to itself: memory objects whose handles it sets. Kept for the next run.
  struct Bindings {
    std::vector<dnnl::memory> memories;              // by slot
    std::vector<char*> pointers;                     // by slot
    std::vector<std::vector<dnnl_exec_arg_t>> args;  // by step
  };

  Slot operand_slot(int operand, const Desc& desc);
  void reorder(Slot from, Slot to);
  void copy(int operand, Slot slot, bool from_operand);
  /// A copy between strided Specs by the cast kernel.
  void cast(const Spec& from, Slot source, const Spec& to, Slot target);
  std::unique_ptr<Bindings> bind() const;
  std::unique_ptr<Bindings> take() const;
  void run_steps(const Bindings& bindings) const;

  std::vector<Spec> specs_;  // inputs, then outputs
  int inputs_;
  double cost_ns_;
  int threads_;
  std::vector<SlotInfo> slots_;
  std::vector<Step> steps_;
  std::vector<std::function<void()>> deferred_;  // until finish: writes back to the outputs
  size_t temporaries_bytes_ = 0;
  size_t scratchpad_bytes_ = 0;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Bindings>> idle_;
};

/// A kernel that does nothing (an output without elements), or fills its outputs with zeros (a sum over nothing).
KernelPtr zero_kernel(std::span<const Spec> ins, std::span<const Spec> outs);

/// True when any of the operands has no elements.
bool any_empty(std::span<const Spec> specs);

}  // namespace minimx::onednn

namespace minimx {
/// Registers every kernel of the dnnl_*.cc files and batch_norm.cc: the one call csrc/bind makes.
void register_dnnl_kernels();
}  // namespace minimx
