#include "runtime/trace.h"

#include <algorithm>

#include "runtime/invoke.h"

namespace minimx {

Array Trace::array(int id) {
  Array a;
  a.dtype = values[id].dtype;
  a.shape = values[id].shape;
  a.strides = a.shape.contiguous_strides();
  a.trace = Ref<Trace>(this);
  a.trace_value = id;
  return a;
}

Array Trace::input(const Dims& shape, DType dtype, bool weak) {
  values.push_back({dtype, shape, weak, false, static_cast<int>(writes.size()), 0});
  writes.push_back(0);
  return array(static_cast<int>(values.size()) - 1);
}

int Trace::value_of(const Array& a) {
  if (a.traced()) {
    if (a.trace.get() != this)
      throw Error(ErrorKind::kGraph,
                  "trace: expected arrays of the graph being traced, got one of another graph. Do not keep "
                  "arrays from inside hybridized code beyond the call; return them.");
    return a.trace_value;
  }
  for (const Capture& c : captures)
    if (c.array.storage == a.storage && c.array.offset == a.offset && c.array.shape == a.shape &&
        c.array.strides == a.strides && c.array.dtype == a.dtype)
      return c.value;
  int id = input(a.shape, a.dtype).trace_value;
  for (const Capture& c : captures)
    if (c.array.storage == a.storage) values[id].memory = values[c.input].memory;
  captures.push_back({a, id, id});
  return id;
}

void Trace::check_current(const std::string& where, int id) const {
  if (!follows_writes || values[id].version == writes[values[id].memory]) return;
  throw Error(ErrorKind::kGraph,
              where +
                  ": expected arrays as the traced code left them, got one whose memory was written to through "
                  "another view since. Write to the array itself, as in y[0] = v, or to a copy.");
}

void Trace::wrote_through(const Array& x, const Array& view) {
  Value &a = values[value_of(x)], &v = values[value_of(view)];
  int now = writes[a.memory];
  if (a.memory == v.memory && v.version == now && a.version + 1 == now) a.version = now;
}

void Trace::call(Op& op, const AttrSet* attrs, std::span<const Operand> ins, std::vector<Array>& outs,
                 std::span<const Array> into) {
  Mode& m = mode();
  std::vector<Array> stand_ins;  // what the rule sees: shapes and types, contiguous
  std::vector<Operand> seen(ins.begin(), ins.end());
  stand_ins.reserve(ins.size());
  for (Operand& x : seen) {
    if (!x.is_array()) continue;
    int id = value_of(*x.array);
    check_current(op.name, id);
    if (values[id].weak)
      x = Operand(values[id].dtype == DType::kFloat64
                      ? Scalar::real(0)
                      : Scalar::integer(0, values[id].dtype == DType::kBool ? 'b' : 'i'));
    else
      x = Operand(stand_ins.emplace_back(array(id)));
  }
  Ref<Plan> plan(&plan_for(op, attrs, seen));
  Node node;
  node.op = Ref<Op>(&op);
  node.attrs = Ref<const AttrSet>(attrs);
  node.site = rules().site ? rules().site() : nullptr;
  for (size_t i = 0; i < ins.size(); ++i) {
    Arg arg;
    if (ins[i].kind == Operand::Kind::kScalar) {
      arg.kind = Arg::Kind::kScalar;
      arg.scalar = ins[i].scalar;
    } else if (ins[i].is_array()) {
      arg.kind = Arg::Kind::kValue;
      arg.value = value_of(*ins[i].array);
      bool cast = i < plan->casts.size() && plan->casts[i] >= 0 && !values[arg.value].weak &&
                  values[arg.value].dtype != static_cast<DType>(plan->casts[i]);
      if (cast) {
        DType t = static_cast<DType>(plan->casts[i]);
        arg.value = invoke1(*core_ops().cast, core_ops().cast_attrs(t).get(), {ins[i]}).trace_value;
      }
    }
    node.args.push_back(arg);
  }
  outs.clear();
  for (size_t i = 0; i < plan->outs.size(); ++i) {
    Array o = input(plan->outs[i].shape, plan->outs[i].dtype);
    values[o.trace_value].detached = !m.recording;
    if (plan->is_view) {
      values[o.trace_value].memory = values[node.args[0].value].memory;
      values[o.trace_value].version = values[node.args[0].value].version;
    }
    node.outs.push_back(o.trace_value);
    outs.push_back(o);
  }
  nodes.push_back(std::move(node));
  for (size_t i = 0; i < into.size(); ++i) {
    if (into[i].shape != outs[i].shape)
      throw Error(ErrorKind::kValue, op.name + ": expected an output of shape " + outs[i].shape.str() + ", got " +
                                         into[i].shape.str() + ". Pass an array of that shape, or none.");
    if (into[i].dtype != outs[i].dtype)
      outs[i] = invoke1(*core_ops().cast, core_ops().cast_attrs(into[i].dtype).get(), {Operand(outs[i])});
    int before = value_of(into[i]), memory = values[before].memory;
    values[outs[i].trace_value].memory = memory;
    values[outs[i].trace_value].version = ++writes[memory];
    if (into[i].traced()) continue;  // the caller's array becomes the new value
    for (Capture& c : captures)
      if (c.value == before) c.value = outs[i].trace_value;
    outs[i] = into[i];
  }
}

}  // namespace minimx
