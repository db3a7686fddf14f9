#include "runtime/invoke.h"

#include <algorithm>
#include <atomic>
#include <optional>

#include "runtime/backend.h"
#include "runtime/deferred.h"
#include "runtime/launch.h"
#include "runtime/repeats.h"
#include "runtime/tape.h"
#include "runtime/trace.h"

namespace minimx {
namespace {

Rules g_rules;
std::atomic<int8_t> g_low{Mode::kOff};

[[noreturn]] void wrong_output(const Op& op, const Array& got, const OutSpec& want) {
  throw Error(ErrorKind::kShape, op.name + ": expected an output of shape " + want.shape.str() + ", got " +
                                     got.shape.str() + ". Pass an array of that shape, or none.");
}

Array view_of(const Plan& plan, const Array& x) {
  Array v = x.detached();
  v.shape = plan.outs[0].shape;
  v.strides = plan.view_strides;
  v.offset += plan.view_offset;
  return v;
}

/// Results go to arrays of the caller: directly where the kernel can write there, else through a temporary.
void run_into(Plan& plan, std::span<const Operand> ins, std::vector<Array>& outs, std::span<const Array> into) {
  outs.clear();
  bool direct = !plan.is_view;
  for (size_t i = 0; i < plan.outs.size(); ++i) {
    if (into[i].shape != plan.outs[i].shape) wrong_output(*plan.op, into[i], plan.outs[i]);
    if (into[i].storage->read_only())
      throw Error(ErrorKind::kValue,
                  plan.op->name + ": expected an array that may be written to, got a read-only one. Copy it first.");
    direct = direct && into[i].dtype == plan.outs[i].dtype && into[i].contiguous() && !overlaps(plan, into[i], ins);
  }
  for (size_t i = 0; i < plan.outs.size(); ++i)
    outs.push_back(direct ? into[i].detached()
                          : Array::empty(plan.outs[i].shape, plan.outs[i].dtype, into[i].device()));
  if (plan.is_view)
    outs[0] = view_of(plan, *ins[0].array);
  else
    launch_plan(plan, ins, outs);
  for (size_t i = 0; i < outs.size(); ++i) {
    if (!direct) {
      copy_into(outs[i], into[i]);
      outs[i] = into[i].detached();
    }
    outs[i].edge.leaf = into[i].edge.leaf;  // a variable stays one: w -= lr * w.grad
    outs[i].storage->bump_version();
  }
}

/// While recording: an operand written to through another view of its memory is not what the tape says of it any more.
void check_current(const Op& op, std::span<const Operand> ins) {
  for (const Operand& x : ins) {
    if (!x.is_array() || !x.array->edge.node || x.array->edge.version == x.array->storage->version()) continue;
    throw Error(ErrorKind::kAutograd,
                op.name +
                    ": expected operands as they were recorded, got one whose memory was written to through another "
                    "view since. Write to the array itself, or to a copy.");
  }
}

void must_have_elements(const Op& op, const Array& a) {
  if (a.traced())
    throw Error(ErrorKind::kGraph,
                op.name +
                    ": expected arrays with elements, got one of a graph that was traced. Do not keep "
                    "arrays from inside hybridized code beyond the call; return them.");
}

Device device_of(const Op& op, std::span<const Operand> ins) {
  const Array* first = nullptr;
  for (const Operand& x : ins) {
    if (!x.is_array()) continue;
    must_have_elements(op, *x.array);
    if (!first) first = x.array;
    if (!(x.array->device() == first->device()))
      throw Error(ErrorKind::kDevice, op.name + ": expected operands on one device, got " + first->device().str() +
                                          " and " + x.array->device().str() + ". Move one with to_device().");
  }
  return first ? first->device() : mode().device;
}

/// The type that mixed precision brings float operands to, if it asks for one.
std::optional<DType> wanted_type(const Op& op, int8_t low, std::span<const Operand> ins) {
  if (op.precision == Precision::kAsIs || low == Mode::kOff) return std::nullopt;
  for (const Operand& x : ins)
    if (x.is_array() && x.array->dtype == DType::kFloat64) return std::nullopt;
  return op.precision == Precision::kLow ? static_cast<DType>(low) : DType::kFloat32;
}

bool castable(const Operand& x, DType to) {
  if (!x.is_array() || x.array->dtype == to) return false;
  return x.array->dtype == DType::kFloat16 || x.array->dtype == DType::kBFloat16 || x.array->dtype == DType::kFloat32;
}

/// Brings the operands to the types and layout the plan asks for. Returns the span to use; `keep` owns new arrays.
std::span<const Operand> prepare(const Plan& plan, std::span<const Operand> ins, std::vector<Operand>& prepared,
                                 std::vector<Array>& keep, bool layout) {
  auto wants_cast = [&](size_t i) {
    return i < plan.casts.size() && plan.casts[i] >= 0 && ins[i].is_array() &&
           ins[i].array->dtype != static_cast<DType>(plan.casts[i]);
  };
  bool any = false;
  for (size_t i = 0; i < ins.size() && !any; ++i)
    any = wants_cast(i) || (layout && plan.contiguous && ins[i].is_array() && !ins[i].array->contiguous());
  if (!any) return ins;
  keep.reserve(ins.size());
  prepared.assign(ins.begin(), ins.end());
  for (size_t i = 0; i < ins.size(); ++i) {
    if (wants_cast(i)) {
      DType t = static_cast<DType>(plan.casts[i]);
      keep.push_back(invoke1(*core_ops().cast, core_ops().cast_attrs(t).get(), {ins[i]}));
      prepared[i] = Operand(keep.back());
    } else if (layout && plan.contiguous && ins[i].is_array() && !ins[i].array->contiguous()) {
      keep.push_back(contiguous(*ins[i].array));
      prepared[i] = Operand(keep.back());
    }
  }
  return prepared;
}

}  // namespace

Mode& mode() {
  thread_local Mode m;
  return m;
}

void set_low_type(int8_t low) { g_low.store(low, std::memory_order_relaxed); }
int8_t low_type() {
  const int8_t own = mode().low;
  return own == Mode::kInherited ? g_low.load(std::memory_order_relaxed) : own;
}

void set_rules(const Rules& rules) { g_rules = rules; }
const Rules& rules() { return g_rules; }

KernelPtr make_kernel_on(Device device, const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs,
                         const Attrs& attrs) {
  return device.kind == Device::Kind::kCpu ? make_kernel(name, ins, outs, attrs)
                                           : rules().device_kernel(name, ins, outs, attrs, device);
}

CoreOps& core_ops() {
  static auto* ops = new CoreOps;
  return *ops;
}

RandomState& random_state() {
  static RandomState state;
  Deferred::before_draw();
  return state;
}

Plan& plan_for(Op& op, const AttrSet* attrs, std::span<const Operand> ins) {
  Signature s;
  bool arrays = false;
  for (const Operand& x : ins) {
    s.add(x);
    arrays = arrays || x.is_array();
  }
  if (!arrays) s.add_word(static_cast<int64_t>(mode().device.kind) << 8 | mode().device.id);
  if (!s.fits())
    throw Error(ErrorKind::kValue, op.name + ": expected fewer than 300 operands, got " + std::to_string(ins.size()) +
                                       ". Join them in steps.");
  if (Plan* found = op.find(attrs, s)) return *found;
  Ref<Plan> plan = rules().plan(op, attrs, ins);
  Plan& p = *plan;
  op.insert(attrs, s, std::move(plan));
  return p;
}

bool overlaps(const Plan& plan, const Array& into, std::span<const Operand> ins) {
  for (const Operand& x : ins) {
    if (!x.is_array() || x.array->storage.get() != into.storage.get()) continue;
    bool same = x.array->offset == into.offset && x.array->dtype == into.dtype && x.array->shape == into.shape &&
                x.array->strides == into.strides;
    if (!same || !plan.pointwise) return true;
  }
  return false;
}

void launch_plan(Plan& plan, std::span<const Operand> ins, std::vector<Array>& outs, const profile::Text& site) {
  const KernelPtr& kernel = plan.kernel();
  bool nothing = std::ranges::all_of(outs, [](const Array& o) { return o.size() == 0; });
  if (nothing || !kernel) return;
  uint64_t state[4];
  if (plan.random) {
    RandomState& r = random_state();
    state[0] = r.seed, state[1] = r.call++, state[2] = state[3] = 0;
  }
  launch(kernel, plan.op->name.c_str(), ins, plan.casts, outs, plan.random ? state : nullptr, site);
}

void invoke(Op& op, const AttrSet* attrs, std::span<const Operand> ins, std::vector<Array>& outs,
            std::span<const Array> into) {
  Mode& m = mode();
  if (op.precision != Precision::kAsIs) [[unlikely]] {
    const std::optional<DType> wanted = wanted_type(op, low_type(), ins);
    if (wanted && std::ranges::any_of(ins, [&](const Operand& x) { return castable(x, *wanted); })) {
      std::vector<Array> keep;  // casts are calls like others: recorded, traced, with gradients of their own
      keep.reserve(ins.size());
      std::vector<Operand> cast(ins.begin(), ins.end());
      for (Operand& x : cast)
        if (castable(x, *wanted))
          x = Operand(keep.emplace_back(invoke1(*core_ops().cast, core_ops().cast_attrs(*wanted).get(), {x})));
      return invoke(op, attrs, cast, outs, into);
    }
  }
  if (m.trace) return m.trace->call(op, attrs, ins, outs, into);
  if (m.recording) check_current(op, ins);
  Device device = device_of(op, ins);
  Plan* plan = &plan_for(op, attrs, ins);
  Ref<Plan> hold(plan);  // a nested call may start the table anew
  std::vector<Operand> prepared;
  std::vector<Array> keep;
  std::span<const Operand> used = prepare(*plan, ins, prepared, keep, true);
  if (used.data() != ins.data()) {
    plan = &plan_for(op, attrs, used);
    hold = Ref<Plan>(plan);
  }
  Deferred& deferred = Deferred::of(device);
  const bool expected = m.repeats && m.repeats->next(plan, device, m.recording);
  const bool may_wait = expected || deferred.considers(m, *plan, device);
  if (into.empty()) {
    if (may_wait && deferred.call(*plan, device, used, outs, into, expected)) {
      if (m.recording) record(*plan, used, outs);
      return;
    }
    outs.clear();
    allocating_operator = op.name.c_str();
    if (plan->is_view) {
      outs.push_back(view_of(*plan, *used[0].array));
    } else {
      for (const OutSpec& o : plan->outs) outs.push_back(Array::empty(o.shape, o.dtype, device));
      launch_plan(*plan, used, outs);
    }
  } else {
    if (into.size() != plan->outs.size())
      throw Error(ErrorKind::kValue, op.name + ": expected " + std::to_string(plan->outs.size()) +
                                         " output arrays, got " + std::to_string(into.size()) +
                                         ". Pass one per output.");
    for (const Array& a : into) {
      must_have_elements(op, a);
      if (!a.device().shares_memory(device))
        throw Error(ErrorKind::kDevice, op.name + ": expected an output on " + device.str() + ", got one on " +
                                            a.device().str() + ". Write to one there, and move it with copyto().");
    }
    for (const Array& a : into)
      if (m.recording && a.edge.leaf)
        throw Error(ErrorKind::kAutograd,
                    op.name +
                        ": expected no in-place write to a variable while recording, got one to an array with "
                        "attach_grad(). Write outside autograd.record(), or to a copy.");
    if (!may_wait || !deferred.call(*plan, device, used, outs, into, expected)) run_into(*plan, used, outs, into);
  }
  if (m.recording) record(*plan, used, outs);
}

Array invoke1(Op& op, const AttrSet* attrs, std::initializer_list<Operand> ins) {
  std::vector<Array> outs;
  invoke(op, attrs, {ins.begin(), ins.size()}, outs);
  return std::move(outs[0]);
}

namespace {

/// A C-contiguous array of type `t` with the elements of `a`, not recorded; `a` itself if it is one.
Array dense(const Array& a, DType t) {
  if (a.contiguous() && a.dtype == t) return a.detached();
  Array made = Array::empty(a.shape, t, a.device());
  copy_into(a, made);
  return made;
}

/// Only C-contiguous bytes travel between devices: the type changes before, the strides after.
void copy_across(const Array& from, const Array& to) {
  Array source = dense(from, to.dtype);
  if (to.contiguous()) return transfer(source, to);
  copy_into(on_device(source, to.device()), to);
}

/// The plan of a copy between arrays of these types, kept as those of operators are.
Ref<Plan> copy_plan(const Array& from, const Array& to) {
  static Op& op = *new Op("copy");
  Signature s;
  s.add(from);
  s.add(to);
  if (Plan* found = op.find(nullptr, s)) return Ref<Plan>(found);
  auto plan = make_ref<Plan>();
  plan->set_kernel([device = to.device(), in = Spec{from.dtype, from.shape, from.strides, ""},
                    out = Spec{to.dtype, to.shape, to.strides, ""}] {
    return make_kernel_on(device, "cast", {&in, 1}, {&out, 1}, {});
  });
  op.insert(nullptr, s, plan);
  return plan;
}

}  // namespace

void copy_into(const Array& from, const Array& to) {
  if (to.size() == 0) return;
  if (!from.device().shares_memory(to.device())) return copy_across(from, to);
  if (from.storage == to.storage && from.offset == to.offset && from.strides == to.strides && from.dtype == to.dtype)
    return;
  const bool plain = from.dtype == to.dtype && from.contiguous() && to.contiguous() && from.storage != to.storage;
  if (plain && to.device().kind == Device::Kind::kGpu) return transfer(from, to);  // the driver's own copy
  Operand x(from);
  launch(copy_plan(from, to)->kernel(), "copy", {&x, 1}, {}, {&to, 1});
}

Array contiguous(const Array& a) {
  if (a.contiguous()) return a;
  return invoke1(*core_ops().copy, nullptr, {Operand(a)});
}

}  // namespace minimx
