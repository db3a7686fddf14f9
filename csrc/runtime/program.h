// Program: a compiled graph, as the engine runs it. A fixed list of bound kernels over buffers whose places were
// planned once; one engine operator whatever its length. Built by minimx/graph/lower.py. Immutable once built: many
// threads and many calls may run one Program at once, each with outputs and an arena of its own.
#pragma once
#include <array>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/array.h"
#include "runtime/captured.h"
#include "runtime/kernel.h"
#include "runtime/plan.h"
#include "runtime/profile.h"

namespace minimx {

class FusedDeviceKernel;

class Program : public RefCounted {
 public:
  Program();
  ~Program() override;
  /// Where an operand of a step lies: in an input, an output, the arena of intermediates, the tray, or a constant,
  /// which on a GPU is either an array of the device or a number that stays on the host (kHost).
  struct Slot {
    enum class Kind : uint8_t { kInput, kOutput, kArena, kTray, kConstant, kHost } kind;
    int index = 0;
    size_t offset = 0;  // bytes
  };
  struct Step {
    KernelPtr kernel;
    std::vector<Slot> operands;
    std::string name;
    bool random = false;              // takes the next call number of the random stream
    std::optional<Slot> workspace{};  // scratch memory that was planned; else one for all steps lies behind the arena
    profile::Text members{}, site{};  // of a fused group, and where it was traced; may be null
    size_t outs = 1;                  // operands that it writes, the last ones
  };

  /// One block that holds what a graph's forward run saves for its backward run, and in places that are not taken yet,
  /// or no longer, intermediates of both. invariant: who takes a tray is the last to read what was saved in it.
  struct Tray {
    bool made = false;            // by this program; else it takes that of its inputs
    size_t first = 0;             // output, or input, from which on arrays lie in it:
    std::vector<size_t> offsets;  // in bytes, of these
    size_t bytes = 0;
  };

  std::vector<OutSpec> inputs;   // what run() expects; arrays must be C-contiguous
  std::vector<bool> written;     // inputs that steps write to (batch-norm statistics)
  std::vector<OutSpec> outputs;  // what run() makes
  size_t arena_bytes = 0;
  std::optional<Tray> tray;
  Device device;  // where everything lies, set before constants and steps are added

  /// Returns its index among the constants, or with `host` among the numbers that stay on the host.
  int add_constant(const void* data, size_t bytes, bool host = false);
  void add_step(Step step);
  const std::vector<Step>& steps() const { return steps_; }
  double cost_ns() const { return cost_ns_; }

  struct Options {
    Ref<Storage> arena{};  // memory for intermediates to reuse (static_alloc)
    bool fixed = false;    // the run may be captured as a device graph, which takes an arena to reuse; then outputs
    size_t alone = 0;      // from this number on are parts of one block, so that addresses repeat
    std::optional<std::vector<Array>> outs{};  // to write to; who gives them has counted all writes (Storage::version)
    profile::Text site{};                      // the user's line, if it is not the one that is running
  };
  /// Queues a run, or runs at once if it is small and nothing is pending. `name` must outlive the run.
  std::vector<Array> run(std::vector<Array> ins, const char* name, Options options) const;
  /// Nanoseconds that each step takes: the middle one of `repeats` runs of all steps in order, after one that is not
  /// counted, on copies of the inputs that steps write to. Waits for all other work first; none should follow
  /// meanwhile.
  std::vector<double> time_steps(std::span<const Array> ins, int repeats) const;
  /// Device graphs that were captured of runs, and are kept.
  size_t captured_graphs() const;
  /// Bytes that `arena` must have.
  size_t total_arena_bytes() const;

 private:
  struct Call;
  /// The first and the last step that writes to an input or output.
  struct Writers {
    int first = std::numeric_limits<int>::max(), last = -1;
  };
  /// Throws what step `call.at` threw as its own: inputs that no step has begun to write keep what they held, and what
  /// all steps have written stays.
  [[noreturn]] void fail(const Call& call) const;
  /// Enqueues a run on the device's compute stream: step by step, or as a captured graph once all steps are settled.
  void enqueue(const Call& call) const;
  /// The memory that a run uses: inputs, outputs, the arena.
  std::vector<CapturedRuns::Place> places_of(const Call& call) const;
  /// Throws where arrays are not of the inputs' types and on their device.
  void check_inputs(std::span<const Array> ins) const;
  /// Tells the allocator that the compute stream uses all that a run touches.
  static void use_all(const Call& call);
  /// Tells checked mode what arrays a run is for.
  static void describe(const Call& call);
  /// The memory of the inputs that steps write to, in order of address.
  std::vector<const Storage*> written_storages(std::span<const Array> ins) const;
  /// Runs or enqueues the steps. random: seed, call, and on a GPU the address of a base for both, or 0. `mark`, if
  /// there is one, is called before the first step and after each.
  void execute(const Call& call, std::array<uint64_t, 3> random, const std::function<void()>& mark = {}) const;
  /// Arrays for the outputs, from number `alone` on in one block: the tray, if there is one to make.
  void make_outputs(Call& call, Device home, size_t alone) const;
  /// The tray in which inputs lie. Throws where they do not.
  Ref<Storage> tray_of(std::span<const Array> ins) const;
  /// The operands of a step: `data` has room for max_operands_.
  void place(const Step& step, const Call& call, void** data) const;
  void* address(const Slot& slot, const Call& call) const;

  std::vector<Step> steps_;
  std::vector<Writers> input_writers_, output_writers_;
  std::vector<Ref<Storage>> constants_, numbers_;
  std::unique_ptr<CapturedRuns> captured_;
  std::vector<const FusedDeviceKernel*> unsettled_;  // steps that may change: captured graphs would miss that
  double cost_ns_ = 0, largest_ns_ = 0;
  size_t max_operands_ = 0, workspace_ = 0;
  int random_steps_ = 0;
};

/// Memory for intermediates that programs keep from run to run (static_alloc).
using Arena = std::shared_ptr<const Ref<Storage>>;
/// `own`, or one that is large enough. Programs of a GPU run one after the other, in the order of its stream, so those
/// that one thread calls share the largest that any of them needed. Another thread has another, and need not wait for
/// the launches of this one.
Arena arena_for(Device device, size_t bytes, const Arena& own);

}  // namespace minimx
