#include "runtime/program.h"

#include <algorithm>

#include "engine/parallel.h"
#include "runtime/invoke.h"
#include "runtime/launch.h"

namespace minimx {
namespace {

constexpr size_t kAlign = 64;
size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// A copy of the elements as they are now.
Array snapshot(const Array& a) {
  Array copy = Array::empty(a.shape, a.dtype, a.device());
  copy_into(a, copy);
  return copy;
}

/// Programs of small steps run on the caller's thread up to this much work.
constexpr double kInlineProgramNs = 500e3;

/// Elements a thread should have at least, for a fused kernel to be split.
constexpr int64_t kFusedGrain = 16384;

}  // namespace

int Program::add_constant(const void* data, size_t bytes) {
  constants_.push_back(Storage::allocate(std::max<size_t>(bytes, 1), {}));
  std::memcpy(constants_.back()->data(), data, bytes);
  return static_cast<int>(constants_.size()) - 1;
}

void Program::add_step(Step step) {
  max_operands_ = std::max(max_operands_, step.operands.size() + 1);
  workspace_ = std::max(workspace_, step.kernel->workspace_bytes());
  cost_ns_ += step.kernel->cost_ns() + 20;
  largest_ns_ = std::max(largest_ns_, step.kernel->cost_ns());
  random_steps_ += step.random;
  steps_.push_back(std::move(step));
}

void Program::execute(void* const* ins, void* const* outs, char* arena, uint64_t seed, uint64_t call) const {
  void* workspace = workspace_ ? thread_workspace(workspace_) : nullptr;
  constexpr size_t kSmall = 32;
  void* small[kSmall];
  std::vector<void*> large(max_operands_ > kSmall ? max_operands_ : 0);
  void** data = large.empty() ? small : large.data();
  for (const Step& step : steps_) {
    uint64_t state[4] = {seed, call, 0, 0};
    size_t n = 0;
    if (step.random) {
      data[n++] = state;
      ++call;
    }
    for (const Slot& s : step.operands) {
      char* base = nullptr;
      switch (s.kind) {
        case Slot::Kind::kInput:
          base = static_cast<char*>(ins[s.index]);
          break;
        case Slot::Kind::kOutput:
          base = static_cast<char*>(outs[s.index]);
          break;
        case Slot::Kind::kArena:
          base = arena;
          break;
        case Slot::Kind::kConstant:
          base = static_cast<char*>(constants_[s.index]->data());
          break;
      }
      data[n++] = base + s.offset;
    }
    step.kernel->run(data, workspace);
  }
}

bool Program::aliases_written(std::span<const Array> ins, size_t i) const {
  if (written[i]) return false;
  for (size_t j = 0; j < ins.size(); ++j)
    if (written[j] && ins[j].storage == ins[i].storage) return true;
  return false;
}

std::vector<Array> Program::run(std::span<const Array> ins, const Ref<Storage>& static_arena, const char* name) const {
  if (ins.size() != inputs.size())
    throw Error(ErrorKind::kInternal, "program: expected " + std::to_string(inputs.size()) + " inputs, got " +
                                          std::to_string(ins.size()) + ".");
  struct Call {
    std::vector<Array> ins, outs;
    std::vector<void*> in_data, out_data;
    Ref<Storage> arena;
    uint64_t seed, first_call;
    Ref<const Program> program;
  };
  auto c = std::make_unique<Call>();
  std::vector<engine::Var*> reads, writes;
  size_t bytes = arena_bytes;
  for (size_t i = 0; i < ins.size(); ++i) {
    if (ins[i].shape != inputs[i].shape || ins[i].dtype != inputs[i].dtype)
      throw Error(ErrorKind::kShape, "program: expected input " + std::to_string(i) + " of shape " +
                                         inputs[i].shape.str() + " and type " + dtype_name(inputs[i].dtype) + ", got " +
                                         ins[i].shape.str() + " and " + dtype_name(ins[i].dtype) + ". Trace anew.");
    c->ins.push_back(aliases_written(ins, i) ? snapshot(ins[i]) : contiguous(ins[i].detached()));
    c->in_data.push_back(c->ins.back().data());
    reads.push_back(c->ins.back().var());
    if (written[i]) writes.push_back(c->ins.back().var());
    if (written[i]) c->ins.back().storage->bump_version();
  }
  for (const OutSpec& o : outputs) {
    c->outs.push_back(Array::empty(o.shape, o.dtype, ins.empty() ? Device{} : ins[0].device()));
    c->out_data.push_back(c->outs.back().data());
    writes.push_back(c->outs.back().var());
    bytes += c->outs.back().bytes();
  }
  c->arena = static_arena || !arena_bytes ? static_arena : Storage::allocate(arena_bytes, {});
  if (static_arena) writes.push_back(static_arena.get());
  RandomState& random = random_state();
  c->seed = random.seed;
  c->first_call = random.call;
  random.call += random_steps_;
  c->program = Ref<const Program>(this);
  std::vector<Array> outs = c->outs;
  engine::PushInfo info;
  info.name = name;
  // Small steps gain nothing from the worker's team: while the whole is short too, a hop would cost more than it hides.
  info.cost_ns = cost_ns_ < kInlineProgramNs ? largest_ns_ : cost_ns_;
  info.bytes = bytes;
  info.site = info.cost_ns >= engine::inline_threshold_ns() && rules().site ? rules().site() : nullptr;
  engine::push(
      [c = std::move(c)] {
        char* arena = c->arena ? static_cast<char*>(c->arena->data()) : nullptr;
        c->program->execute(c->in_data.data(), c->out_data.data(), arena, c->seed, c->first_call);
      },
      reads, writes, info);
  return outs;
}

FusedKernel::FusedKernel(int operands, int64_t elements, double cost_ns, std::vector<Member> members,
                         std::vector<size_t> temporaries, std::vector<Constant> constants)
    : operands_(operands),
      elements_(elements),
      cost_ns_(cost_ns),
      members_(std::move(members)),
      constants_(std::move(constants)) {
  for (size_t bytes : temporaries) {
    offsets_.push_back(workspace_);
    workspace_ += aligned(bytes);
  }
  size_t inner = 0;
  for (const Member& m : members_) inner = std::max(inner, m.kernel->workspace_bytes());
  offsets_.push_back(workspace_);  // the members' own scratch lies behind the temporaries
  workspace_ += inner;
}

void FusedKernel::run(void* const* data, void* workspace) const {
  if (Function f = function_.load(std::memory_order_acquire)) {
    parallel_for(elements_, kFusedGrain, [&](int64_t begin, int64_t end) { f(data, begin, end); });
    return;
  }
  char* scratch = static_cast<char*>(workspace);
  std::vector<void*> operands;
  for (const Member& m : members_) {
    operands.clear();
    for (int i : m.operands)
      operands.push_back(i < 0           ? scratch + offsets_[~i]
                         : i < operands_ ? data[i]
                                         : const_cast<char*>(constants_[i - operands_].data()));
    m.kernel->run(operands.data(), scratch + offsets_.back());
  }
}

}  // namespace minimx
