// Building the list of deferred calls, and running it; see deferred.h.
#include "runtime/deferred.h"

#include <algorithm>
#include <iterator>

#include "engine/core.h"
#include "engine/watch.h"
#include "runtime/backend.h"
#include "runtime/known_lists.h"
#include "runtime/launch.h"
#include "runtime/repeats.h"

namespace minimx {

Deferred::Counts Deferred::counts_;

void Storage::settle() const {
  Deferred& deferred = Deferred::of(device_);
  if (slot_ >= 0 && !deferred.runs_here()) deferred.run();
}

void Storage::make() const {
  settle();
  if (slot_ != kUnmade) return;
  auto* self = const_cast<Storage*>(this);
  engine::wait_to_read(self);  // throws where the call that makes it found no memory
  self->acquire(StreamKind::kCompute);
  self->slot_ = kNoSlot;
}

// ---- building -----------------------------------------------------------------------------------------------------

int Deferred::find(const Array& a) const {
  if (a.storage->slot_ < 0) return -1;
  for (int v = list_.slots[a.storage->slot_].newest; v >= 0; v = list_.values[v].older) {
    const CallList::Value& value = list_.values[v];
    if (value.offset == a.offset && value.dtype == a.dtype && value.shape == a.shape && value.strides == a.strides)
      return v;
  }
  return -1;
}

/// True for a value of the list, and for an array that can become one: of memory that nobody else sees.
bool Deferred::readable(const Array& a, bool strided) const {
  const Storage& s = *a.storage;
  if (find(a) >= 0) return true;
  return s.slot_ == Storage::kNoSlot && (strided || a.contiguous()) && !s.shared() && !s.pinned() && !s.read_only();
}

bool Deferred::writable(const Array& a, const OutSpec& out) const {
  return readable(a, false) && a.dtype == out.dtype && a.shape == out.shape && a.contiguous() && a.covers_storage();
}

bool Deferred::joins(const Plan& plan, std::span<const Operand> ins, std::span<const Array> into, bool whole) const {
  if (!whole && ((!plan.pointwise && !plan.is_view) || plan.random)) return false;
  if (plan.host || (plan.is_view && !into.empty())) return false;
  for (const OutSpec& o : plan.outs)
    if (o.shape.product() == 0) return false;
  for (const Operand& x : ins)
    if (x.is_array() && !readable(*x.array, whole)) return false;
  for (size_t i = 0; i < into.size(); ++i) {
    if (!writable(into[i], plan.outs[i])) return false;
    if (overlaps(plan, into[i], ins)) return false;
  }
  return true;
}

int Deferred::add_slot(const Ref<Storage>& storage, bool promised) {
  CallList::Slot slot;
  slot.storage = storage;
  slot.promised = promised;
  storage->slot_ = static_cast<int>(list_.slots.size());
  list_.slots.push_back(std::move(slot));
  return storage->slot_;
}

int Deferred::add_value(const Array& a, int slot, bool external) {
  const int id = static_cast<int>(list_.values.size());
  CallList::Slot& home = list_.slots[slot];
  list_.values.push_back({slot, home.newest, external, a.dtype, a.offset, a.shape, a.strides});
  home.newest = id;
  if (home.first < 0) home.first = id;
  return id;
}

int Deferred::value_of(const Array& a) {
  int v = find(a);
  if (v < 0) v = add_value(a, add_slot(a.storage, false), true);
  list_.slots[list_.values[v].slot].last_call = static_cast<int>(list_.calls.size());
  return v;
}

void Deferred::add_args(CallList::Call& call, std::span<const Operand> ins) {
  call.first_arg = static_cast<int>(list_.args.size());
  call.arg_count = static_cast<int>(ins.size());
  for (const Operand& x : ins) {
    CallList::Arg arg;
    arg.kind = x.kind;
    arg.scalar = x.scalar;
    if (x.is_array()) arg.value = value_of(*x.array);
    list_.args.push_back(arg);
  }
}

void Deferred::add_outputs(CallList::Call& call, std::span<const Operand> ins, std::vector<Array>& outs,
                           std::span<const Array> into) {
  const Plan& plan = *call.plan;
  call.first_out = static_cast<int>(list_.outs.size());
  call.out_count = static_cast<int>(plan.outs.size());
  for (size_t i = 0; i < plan.outs.size(); ++i) {
    const OutSpec& o = plan.outs[i];
    Array a;
    int value = -1;
    if (!into.empty()) {
      a = into[i].detached();
      a.edge.leaf = into[i].edge.leaf;  // a variable stays one
      value = value_of(a);
      a.storage->bump_version();
    } else if (plan.is_view) {
      a = ins[0].array->detached();
      a.shape = o.shape;
      a.strides = plan.view_strides;
      a.offset += plan.view_offset;
      value = find(a) >= 0 ? value_of(a) : add_value(a, a.storage->slot_);
    } else {
      a = Array::over(Storage::promise(static_cast<size_t>(o.shape.product()) * itemsize(o.dtype), list_.device),
                      o.shape, o.dtype);
      value = add_value(a, add_slot(a.storage, true));
      list_.slots.back().last_call = static_cast<int>(list_.calls.size());
    }
    list_.outs.push_back(value);
    outs.push_back(std::move(a));
  }
}

bool Deferred::call(Plan& plan, Device device, std::span<const Operand> ins, std::vector<Array>& outs,
                    std::span<const Array> into, bool whole) {
  const auto here = std::this_thread::get_id();
  if (running_ || engine::runs_at_once() || engine::watched(engine::kInspected | engine::kOrdered)) return false;
  if (plan.is_view && ins[0].array->storage->slot_ < 0 && !whole) return false;  // nothing needs to run first
  const bool known = plan.is_view || plan.kernel();  // may let other threads run, and may throw
  if (running_) return false;
  if (whole && !list_.whole && owner_ != here) run();  // pointwise calls of another thread may run at any time
  if (!list_.empty() && (owner_ != here || list_.device != device)) return false;
  if (list_.whole != whole) run();
  if (plan.random) before_draw(this);
  if (!known || !joins(plan, ins, into, whole)) {
    run();
    for (const Operand& x : ins)
      if (x.is_array()) x.array->storage->make();  // before memory is asked for that makes no sense without
    return false;
  }
  const int size = whole ? static_cast<int>(Repeats::kMost) : asked(mode());
  const auto uses_list = [](const Operand& x) { return x.is_array() && x.array->storage->slot_ >= 0; };
  if (size < 0 && !plan.is_view && !pays(plan, device) && std::ranges::none_of(ins, uses_list)) return false;
  if (list_.empty()) begin(here, device, whole);
  CallList::Call call;
  call.plan = Ref<Plan>(&plan);
  call.in_place = !into.empty();
  if (whole)
    call.site = mode().repeats->site();
  else if (!plan.is_view && rules().site)
    call.site = rules().site();
  outs.clear();
  add_args(call, ins);
  add_outputs(call, ins, outs, into);
  list_.kernels += !plan.is_view;
  list_.random |= plan.random;
  list_.calls.push_back(std::move(call));
  ++counts_.calls;
  if (list_.calls.size() >= static_cast<size_t>(size < 0 ? kDefaultSize : size))
    run();
  else if (!whole)
    waiting_.store(number_ << 16 | list_.calls.size(), std::memory_order_relaxed);
  return true;
}

bool Deferred::copy(const Array& from, const Array& to) {
  Deferred& home = of(from.device());
  if (!home.list_.whole || !from.storage->waits() || from.device() != to.device()) return false;
  const Operand x(from);
  const Ref<Plan> plan(&plan_for(*core_ops().copy, nullptr, {&x, 1}));
  std::vector<Array> outs;
  return home.call(*plan, from.device(), {&x, 1}, outs, {&to, 1}, true);
}

void Deferred::begin(std::thread::id owner, Device device, bool whole) {
  owner_ = owner;
  list_.device = device;
  list_.whole = whole;
  number_ = ++begun_lists_;
  const int used = static_cast<int>(this - lists()) + 1;
  used_.store(std::max(used, used_.load(std::memory_order_relaxed)), std::memory_order_relaxed);
  if (begun_ && !whole) begun_();
}

// ---- running ------------------------------------------------------------------------------------------------------

void Deferred::wait_for_runner() {
  engine::BlockingScope blocking;
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return !running_.load(); });
}

/// The list as it is known, with its Program where it is to change over to that with this run. Others may run the list
/// meanwhile.
std::shared_ptr<KnownList> Deferred::recognised() {
  while (!running_ && !list_.empty()) {
    std::shared_ptr<KnownList> known = KnownLists::get().find(list_);
    if (!known || !list_.whole || !KnownLists::get().awaited(*known)) return known;
    known->wait();
  }
  return nullptr;
}

void Deferred::run() {
  if (running_ && !runs_here()) wait_for_runner();
  const std::shared_ptr<KnownList> known = recognised();
  if (running_ || list_.empty()) return;
  CallList list = std::exchange(list_, std::exchange(spare_, {}));
  waiting_.store(0, std::memory_order_relaxed);
  runner_ = std::this_thread::get_id();
  running_ = true;
  ++counts_.lists;
  if (!known || !run_as_program(list, known))
    for (size_t i = 0; i < list.calls.size(); ++i) run_call(list, i);
  for (CallList::Slot& slot : list.slots) leave(slot);
  list.clear();
  spare_ = std::move(list);
  {
    std::lock_guard lock(mutex_);
    running_ = false;
  }
  done_.notify_all();
}

void Deferred::run_list(uint64_t number) {
  if (waiting() == number) run();
}

/// False, with nothing done, where there is no Program for the list, or no memory for its results all at once.
bool Deferred::run_as_program(CallList& list, const std::shared_ptr<KnownList>& known) {
  const std::vector<int> live = list.live();
  if (!KnownLists::get().ready(known, list, live)) return false;
  try {
    const Ref<const Program> program = known->program;
    Program::Options options;
    options.fixed = list.whole;
    if (list.whole) options.arena = known->arena_for(*program);
    options.site = list.calls.front().site;
    std::vector<Array> ins, outs;
    for (int v : list.externals()) ins.push_back(list.array(v));
    std::ranges::move(known->inputs(list.device), std::back_inserter(ins));
    allocating_operator = "bulk";
    for (int v : live) {
      outs.push_back(list.array(v));
      outs.back().storage->acquire(StreamKind::kCompute);
    }
    options.outs = std::move(outs);
    program->run(std::move(ins), "bulk", std::move(options));
    return true;
  } catch (const Error&) {  // before anything was queued: what fails later poisons its results
    return false;
  }
}

void Deferred::leave(CallList::Slot& slot) {
  if (!slot.storage) return;
  slot.storage->slot_ = slot.storage->data_ ? Storage::kNoSlot : Storage::kUnmade;
  slot.storage.reset();
}

/// Runs one call, and lets go of what no later one uses, so that memory is given back as without the list.
void Deferred::run_call(CallList& list, size_t i) {
  const CallList::Call& call = list.calls[i];
  try {
    launch_call(list, call);
  } catch (...) {
    const auto var = [&](int value) { return list.slots[list.values[value].slot].storage.get(); };
    std::vector<engine::Var*> reads, writes;  // it reads, so that of two failures the first is what users see
    for (int k = 0; k < call.arg_count; ++k)
      if (const int v = list.args[call.first_arg + k].value; v >= 0) reads.push_back(var(v));
    for (int k = 0; k < call.out_count; ++k) writes.push_back(var(list.outs[call.first_out + k]));
    engine::PushInfo info;
    info.name = call.plan->op->name.c_str();
    info.site = call.site;
    engine::push([error = std::current_exception()] { std::rethrow_exception(error); }, reads, writes, info);
  }
  const auto let_go = [&](int value) {
    CallList::Slot& slot = list.slots[list.values[value].slot];
    if (slot.last_call == static_cast<int>(i)) leave(slot);
  };
  for (int k = 0; k < call.arg_count; ++k)
    if (const int v = list.args[call.first_arg + k].value; v >= 0) let_go(v);
  for (int k = 0; k < call.out_count; ++k) let_go(list.outs[call.first_out + k]);
}

void Deferred::launch_call(CallList& list, const CallList::Call& call) {
  Plan& plan = *call.plan;
  if (plan.is_view) return;
  std::vector<Array> arrays, outs;
  std::vector<Operand> ins;
  arrays.reserve(static_cast<size_t>(call.arg_count));
  for (int k = 0; k < call.arg_count; ++k) {
    const CallList::Arg& arg = list.args[call.first_arg + k];
    if (arg.kind == Operand::Kind::kArray)
      ins.emplace_back(arrays.emplace_back(list.array(arg.value)));
    else
      ins.push_back(arg.kind == Operand::Kind::kScalar ? Operand(arg.scalar) : Operand());
  }
  allocating_operator = plan.op->name.c_str();
  for (int k = 0; k < call.out_count; ++k) {
    outs.push_back(list.array(list.outs[call.first_out + k]));
    if (Storage& s = *outs.back().storage; !s.data_) s.acquire(StreamKind::kCompute);
  }
  launch_plan(plan, ins, outs, call.site);
}

}  // namespace minimx
