#include "runtime/call_list.h"

#include <bit>

namespace minimx {

void CallList::clear() {
  slots.clear();
  values.clear();
  args.clear();
  outs.clear();
  calls.clear();
  kernels = 0;
  whole = random = false;
}

Array CallList::array(int value) const {
  const Value& v = values[value];
  Array a;
  a.storage = slots[v.slot].storage;
  a.offset = v.offset;
  a.dtype = v.dtype;
  a.shape = v.shape;
  a.strides = v.strides;
  return a;
}

std::vector<int> CallList::externals() const {
  std::vector<int> out;
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i].external) out.push_back(static_cast<int>(i));
  return out;
}

std::vector<int> CallList::live() const {
  std::vector<int> out;
  for (const Slot& s : slots)
    if (s.promised && s.storage->use_count() > 1) out.push_back(s.first);
  return out;
}

std::vector<uint64_t> CallList::signature() const {
  std::vector<uint64_t> words;
  words.reserve(4 + 2 * calls.size() + 2 * args.size() + outs.size() + 2 * values.size());
  const auto add = [&](auto word) { words.push_back(static_cast<uint64_t>(word)); };
  add(static_cast<int>(device.kind) << 8 | device.id);
  add(Plan::kernel_epoch());
  add(calls.size() << 1 | whole);
  for (const Call& c : calls) {  // plans know types, shapes and strides
    add(reinterpret_cast<uintptr_t>(c.plan.get()));
    for (int i = 0; i < c.arg_count; ++i) {
      const Arg& a = args[c.first_arg + i];
      add(a.kind == Operand::Kind::kScalar ? -256 - a.scalar.kind : a.value);
    }
    add(c.in_place);
    for (int i = 0; i < c.out_count; ++i) add(outs[c.first_out + i]);
  }
  for (const Value& v : values) {
    add(v.slot);
    add(v.offset);
  }
  for (int v : live()) add(v);
  return words;
}

std::vector<CallList::Number> CallList::numbers() const {
  std::vector<Number> out;
  for (const Call& c : calls)
    for (int i = 0; i < c.arg_count; ++i) {
      const Arg& a = args[c.first_arg + i];
      if (a.kind != Operand::Kind::kScalar) continue;
      const int cast = static_cast<size_t>(i) < c.plan->casts.size() ? c.plan->casts[i] : -1;
      const DType own = a.scalar.kind == 'b' ? DType::kBool : a.scalar.kind == 'i' ? DType::kInt64 : DType::kFloat64;
      Number& n = out.emplace_back(cast < 0 ? own : static_cast<DType>(cast));
      a.scalar.store(n.dtype, &n.bits);
    }
  return out;
}

}  // namespace minimx
