#include "runtime/program.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "engine/core.h"
#include "runtime/backend.h"
#include "runtime/checked.h"
#include "runtime/fused.h"
#include "runtime/invoke.h"
#include "runtime/launch.h"
#include "runtime/repeats.h"

namespace minimx {
namespace {

constexpr size_t kAlign = 256;  // what kernels of a GPU may ask of their scratch memory
size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// A copy of the elements as they are now.
Array snapshot(const Array& a) {
  Array copy = Array::empty(a.shape, a.dtype, a.device());
  copy_into(a, copy);
  return copy;
}

/// Backend::times for the CPU.
std::vector<double> host_times(const std::function<void(const std::function<void()>&)>& work) {
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> marks;
  work([&] { marks.push_back(Clock::now()); });
  std::vector<double> out;
  for (size_t i = 1; i < marks.size(); ++i)
    out.push_back(std::chrono::duration<double, std::nano>(marks[i] - marks[i - 1]).count());
  return out;
}

/// Programs of small steps run on the caller's thread up to this much work.
constexpr double kInlineProgramNs = 500e3;

}  // namespace

Program::Program() = default;
Program::~Program() = default;

/// One run: what its steps read, write and use meanwhile.
struct Program::Call {
  std::vector<Array> ins, outs;
  Ref<Storage> arena, tray;
  uint64_t seed = 0, first_call = 0;
  bool fixed = false;
  Ref<const Program> program;
  mutable int at = -1;  // the step that runs
};

void Program::describe(const Call& call) {
  for (const auto* arrays : {&call.ins, &call.outs})
    for (const Array& a : *arrays)  // what lies in a tray may have gaps, and so have bit masks
      if (a.storage != call.tray && a.dtype != DType::kUInt8) checked::describe(a);
}

int Program::add_constant(const void* data, size_t bytes, bool host) {
  auto& list = host ? numbers_ : constants_;
  Ref<Storage> here = Storage::allocate(std::max<size_t>(bytes, 1), {});
  std::memcpy(here->data(), data, bytes);
  if (!host && device.kind == Device::Kind::kGpu) {
    Ref<Storage> there = Storage::allocate(std::max<size_t>(bytes, 1), device);
    there->use_on(StreamKind::kCompute);
    gpu_backend()->copy(there->data(), device, here->data(), {}, bytes, StreamKind::kCompute);
    here = std::move(there);
  }
  list.push_back(std::move(here));
  return static_cast<int>(list.size()) - 1;
}

void Program::add_step(Step step) {
  input_writers_.resize(inputs.size());
  output_writers_.resize(outputs.size());
  if (device.kind == Device::Kind::kGpu && !captured_) captured_ = std::make_unique<CapturedRuns>(device);
  max_operands_ = std::max(max_operands_, step.operands.size() + 1);
  if (!step.workspace) workspace_ = std::max(workspace_, step.kernel->workspace_bytes());
  cost_ns_ += step.kernel->cost_ns() + 20;
  largest_ns_ = std::max(largest_ns_, step.kernel->cost_ns());
  random_steps_ += step.random;
  for (size_t i = step.operands.size() - step.outs; i < step.operands.size(); ++i) {
    const Slot& s = step.operands[i];
    if (s.kind != Slot::Kind::kInput && s.kind != Slot::Kind::kOutput) continue;
    Writers& writers = (s.kind == Slot::Kind::kInput ? input_writers_ : output_writers_).at(s.index);
    writers.last = static_cast<int>(steps_.size());
    writers.first = std::min(writers.first, writers.last);
  }
  if (auto* fused = dynamic_cast<const FusedDeviceKernel*>(step.kernel.get())) unsettled_.push_back(fused);
  if (captured_) captured_->describe(step.name, step.members, step.site);
  steps_.push_back(std::move(step));
}

size_t Program::captured_graphs() const { return captured_ ? captured_->size() : 0; }

size_t Program::total_arena_bytes() const {
  return device.kind == Device::Kind::kCpu ? arena_bytes : aligned(arena_bytes) + workspace_;
}

void Program::place(const Step& step, const Call& call, void** data) const {
  for (const Slot& s : step.operands) *data++ = address(s, call);
}

void* Program::address(const Slot& s, const Call& call) const {
  void* base = nullptr;
  switch (s.kind) {
    case Slot::Kind::kInput:
      base = call.ins[s.index].data();
      break;
    case Slot::Kind::kOutput:
      base = call.outs[s.index].data();
      break;
    case Slot::Kind::kArena:
      base = call.arena ? call.arena->data() : nullptr;  // null where all of it is empty arrays
      break;
    case Slot::Kind::kTray:
      base = call.tray->data();
      break;
    case Slot::Kind::kConstant:
      base = constants_[s.index]->data();
      break;
    case Slot::Kind::kHost:
      base = numbers_[s.index]->data();
      break;
  }
  return static_cast<char*>(base) + s.offset;
}

void Program::execute(const Call& call, std::array<uint64_t, 3> random, const std::function<void()>& mark) const {
  const bool gpu = device.kind == Device::Kind::kGpu;
  const bool synchronous = gpu && !random[2] && engine::runs_at_once();
  void* workspace = !workspace_ ? nullptr
                    : gpu       ? static_cast<char*>(call.arena->data()) + aligned(arena_bytes)
                                : thread_workspace(workspace_);
  constexpr size_t kSmall = 32;
  void* small[kSmall];
  std::vector<void*> large(max_operands_ > kSmall ? max_operands_ : 0);
  void** data = large.empty() ? small : large.data();
  if (mark) mark();
  call.at = -1;
  for (const Step& step : steps_) {
    ++call.at;
    uint64_t state[4] = {random[0], random[1], random[2], 0};
    if (step.random) {
      data[0] = state;
      ++random[1];
    }
    place(step, call, data + step.random);
    const profile::StepSpan span(device, step.name, step.members, step.site);
    void* scratch = step.workspace ? address(*step.workspace, call) : workspace;
    if (gpu)
      gpu_backend()->enqueue(static_cast<const DeviceKernel&>(*step.kernel), data, scratch, device.id,
                             StreamKind::kCompute, step.name.c_str(), synchronous);
    else
      step.kernel->run(data, scratch);
    if (mark) mark();
  }
  call.at = -1;
}

void Program::fail(const Call& call) const {
  engine::PartFailed part;
  part.error = std::current_exception();
  part.op = steps_[call.at].name;
  part.site = steps_[call.at].site;
  std::vector<const engine::Var*> broken;
  const auto sort = [&](const Array& a, bool whole) { (whole ? part.spared : broken).push_back(a.var()); };
  for (size_t i = 0; i < call.ins.size(); ++i)
    if (written[i]) sort(call.ins[i], call.at < input_writers_[i].first || call.at > input_writers_[i].last);
  for (size_t i = 0; i < call.outs.size(); ++i) sort(call.outs[i], call.at > output_writers_[i].last);
  std::erase_if(part.spared, [&](const engine::Var* v) { return std::ranges::find(broken, v) != broken.end(); });
  throw part;
}

std::vector<double> Program::time_steps(std::span<const Array> ins, int repeats) const {
  const bool gpu = device.kind == Device::Kind::kGpu;
  check_inputs(ins);
  Call call;
  for (size_t i = 0; i < inputs.size(); ++i)
    call.ins.push_back(written[i] ? snapshot(ins[i]) : contiguous(ins[i].detached()));
  if (tray && !tray->made) call.tray = tray_of(ins);
  make_outputs(call, gpu || ins.empty() ? device : ins[0].device(), outputs.size());
  if (const size_t bytes = total_arena_bytes()) call.arena = Storage::allocate(bytes, device);
  wait_for_all();
  if (gpu) use_all(call);
  std::vector<std::vector<double>> found(steps_.size());
  engine::BlockingScope blocking;
  for (int run = 0; run <= repeats; ++run) {
    const auto work = [&](const std::function<void()>& mark) { execute(call, {1, 0, 0}, mark); };
    const std::vector<double> times = gpu ? gpu_backend()->times(device.id, work) : host_times(work);
    for (size_t i = 0; i < times.size() && run > 0; ++i) found[i].push_back(times[i]);
  }
  std::vector<double> out;
  for (std::vector<double>& times : found) {
    std::ranges::nth_element(times, times.begin() + times.size() / 2);
    out.push_back(times[times.size() / 2]);
  }
  return out;
}

void Program::use_all(const Call& call) {
  for (const Array& a : call.ins) a.storage->use_on(StreamKind::kCompute);
  for (const Array& a : call.outs) a.storage->use_on(StreamKind::kCompute);
  if (call.arena) call.arena->use_on(StreamKind::kCompute);
}

void Program::enqueue(const Call& call) const {
  if (steps_.empty()) return;
  use_all(call);
  const std::array<uint64_t, 3> random{call.seed, call.first_call, 0};
  engine::BlockingScope blocking;  // launches take a while, and none of them needs Python
  if (!call.fixed || engine::runs_at_once() || profile::step_by_step() ||
      !std::ranges::all_of(unsettled_, &FusedDeviceKernel::settled))
    return execute(call, random);
  captured_->run(
      places_of(call), random_steps_ ? &random : nullptr, [&] { execute(call, random); },
      [&](uint64_t base, const CapturedRuns::Instead& instead) {
        Call moved = call;
        for (size_t i = 0; i < instead.size(); ++i) {
          if (!instead[i]) continue;
          Array& a = i < call.ins.size() ? moved.ins[i] : moved.outs[i - call.ins.size()];
          a = Array::over(instead[i], a.shape, a.dtype);
        }
        execute(moved, {0, 0, base});
      });
}

std::vector<CapturedRuns::Place> Program::places_of(const Call& call) const {
  std::vector<CapturedRuns::Place> out;
  out.reserve(call.ins.size() + call.outs.size() + 1);
  const auto add = [&](const Array& a, bool moves, bool made) {
    out.push_back({a.data(), moves && a.storage != call.tray ? a.bytes() : 0, made});
  };
  for (size_t i = 0; i < call.ins.size(); ++i) add(call.ins[i], !written[i], false);
  for (const Array& a : call.outs) add(a, a.contiguous(), true);
  if (call.arena) out.push_back({static_cast<char*>(call.arena->data())});
  return out;
}

void Program::check_inputs(std::span<const Array> ins) const {
  if (ins.size() != inputs.size())
    throw Error(ErrorKind::kInternal, "program: expected " + std::to_string(inputs.size()) + " inputs, got " +
                                          std::to_string(ins.size()) + ".");
  for (size_t i = 0; i < ins.size(); ++i) {
    if (ins[i].shape != inputs[i].shape || ins[i].dtype != inputs[i].dtype)
      throw Error(ErrorKind::kShape, "program: expected input " + std::to_string(i) + " of shape " +
                                         inputs[i].shape.str() + " and type " + dtype_name(inputs[i].dtype) + ", got " +
                                         ins[i].shape.str() + " and " + dtype_name(ins[i].dtype) + ". Trace anew.");
    if (!ins[i].device().shares_memory(device))
      throw Error(ErrorKind::kDevice, "program: expected input " + std::to_string(i) + " on " + device.str() +
                                          ", got one on " + ins[i].device().str() + ". Move it with to_device().");
  }
}

std::vector<const Storage*> Program::written_storages(std::span<const Array> ins) const {
  std::vector<const Storage*> out;
  for (size_t i = 0; i < ins.size(); ++i)
    if (written[i]) out.push_back(ins[i].storage.get());
  std::ranges::sort(out);
  return out;
}

void Program::make_outputs(Call& call, Device home, size_t alone) const {
  const bool makes_tray = tray && tray->made;
  if (makes_tray) alone = tray->first;
  size_t bytes = 0;
  for (const OutSpec& o : outputs) {
    const size_t i = call.outs.size();
    if (i < alone) {
      call.outs.push_back(Array::empty(o.shape, o.dtype, home));
      continue;
    }
    Array a;
    a.dtype = o.dtype;
    a.shape = o.shape;
    a.strides = o.shape.contiguous_strides();
    a.offset = static_cast<int64_t>((makes_tray ? tray->offsets[i - alone] : bytes) / itemsize(o.dtype));
    bytes += aligned(a.bytes());
    call.outs.push_back(std::move(a));
  }
  if (alone >= outputs.size()) return;
  const Ref<Storage> block = Storage::allocate(makes_tray ? tray->bytes : bytes, home);
  for (size_t i = alone; i < outputs.size(); ++i) call.outs[i].storage = block;
  if (makes_tray) call.tray = block;
}

Ref<Storage> Program::tray_of(std::span<const Array> ins) const {
  for (size_t i = 0; i < tray->offsets.size(); ++i) {
    const Array& a = ins[tray->first + i];
    if (a.storage != ins[tray->first].storage || a.storage->bytes() < tray->bytes ||
        static_cast<size_t>(a.offset) * itemsize(a.dtype) != tray->offsets[i])
      throw Error(ErrorKind::kInternal,
                  "program: expected saved arrays as forward left them, got others. Run backward "
                  "on what its forward run gave.");
  }
  return ins[tray->first].storage;
}

std::vector<Array> Program::run(std::vector<Array> ins, const char* name, Options options) const {
  check_inputs(ins);
  const bool counted = options.outs.has_value();
  if (!counted) Repeats::boundary();
  auto c = std::make_unique<Call>();
  std::vector<engine::Var*> reads, writes;
  const Device home = device.kind == Device::Kind::kCpu && !ins.empty() ? ins[0].device() : device;
  size_t bytes = arena_bytes;
  allocating_operator = name;
  const std::vector<const Storage*> changing = written_storages(ins);
  reads.reserve(ins.size());
  writes.reserve(changing.size() + outputs.size() + 2);
  for (size_t i = 0; i < ins.size(); ++i) {
    Array& a = ins[i];
    a.edge = {};
    if (!written[i] && !changing.empty() && std::ranges::binary_search(changing, a.storage.get()))
      a = snapshot(a);  // steps would see it change
    else if (!a.contiguous())
      a = contiguous(a);
    reads.push_back(a.var());
    if (written[i]) writes.push_back(a.var());
    if (written[i] && !counted) a.storage->bump_version();
  }
  c->ins = std::move(ins);
  if (tray && !tray->made) c->tray = tray_of(c->ins);
  if (c->tray) writes.push_back(c->tray.get());
  if (options.outs)
    c->outs = std::move(*options.outs);
  else
    make_outputs(*c, home, options.fixed && device.kind == Device::Kind::kGpu ? options.alone : outputs.size());
  for (const Array& o : c->outs) {
    if (writes.empty() || writes.back() != o.var()) writes.push_back(o.var());
    bytes += o.bytes();
  }
  const size_t scratch = total_arena_bytes();
  c->arena = options.arena || !scratch ? options.arena : Storage::allocate(scratch, device);
  c->fixed = options.fixed && (options.arena || !scratch);
  if (options.arena) writes.push_back(options.arena.get());
  if (random_steps_) {
    RandomState& random = random_state();
    c->seed = random.seed;
    c->first_call = random.call;
    random.call += random_steps_;
  }
  c->program = Ref<const Program>(this);
  std::vector<Array> outs = c->outs;
  engine::PushInfo info;
  info.name = name;
  // Small steps gain nothing from the worker's team: while the whole is short too, a hop would cost more than it hides.
  info.cost_ns = cost_ns_ < kInlineProgramNs ? largest_ns_ : cost_ns_;
  info.all_ns = device.kind == Device::Kind::kCpu ? cost_ns_ : 0;
  info.bytes = bytes;
  const bool sited = info.cost_ns >= engine::inline_threshold_ns() || engine::watched();
  info.site = options.site ? options.site : sited && rules().site ? rules().site() : nullptr;
  if (engine::inspecting()) [[unlikely]]
    describe(*c);
  engine::push(
      [c = std::move(c)] {
        profile::note_program();
        try {
          if (c->program->device.kind == Device::Kind::kGpu)
            c->program->enqueue(*c);
          else
            c->program->execute(*c, {c->seed, c->first_call, 0});
        } catch (const engine::Poisoned&) {  // a step waited for what failed elsewhere
          throw;
        } catch (const std::exception&) {
          if (c->at < 0) throw;
          c->program->fail(*c);
        }
      },
      reads, writes, info);
  return outs;
}

Arena arena_for(Device device, size_t bytes, const Arena& own) {
  thread_local std::map<int, std::weak_ptr<const Ref<Storage>>> shared;
  const bool gpu = device.kind == Device::Kind::kGpu;
  Arena arena = gpu ? shared[device.id].lock() : own;
  if (!arena || (*arena)->bytes() < bytes) {
    arena = std::make_shared<const Ref<Storage>>(Storage::allocate(bytes, device));
    if (gpu) shared[device.id] = arena;
  }
  return arena;
}

}  // namespace minimx
