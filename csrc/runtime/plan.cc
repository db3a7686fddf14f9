#include "runtime/plan.h"

#include <algorithm>
#include <mutex>

#include "common/error.h"
#include "runtime/tape.h"
#include "runtime/trace.h"

namespace minimx {

void Signature::add(const Array& a) {
  bool dense = a.contiguous();
  Device d = a.device();
  add_word(1 | static_cast<int64_t>(a.dtype) << 8 | static_cast<int64_t>(a.shape.size()) << 16 |
           static_cast<int64_t>(dense) << 24 | static_cast<int64_t>(d.kind) << 32 | static_cast<int64_t>(d.id) << 40);
  for (int64_t n : a.shape) add_word(n);
  if (!dense)
    for (int64_t s : a.strides) add_word(s);
}

void Signature::add(const Operand& x) {
  switch (x.kind) {
    case Operand::Kind::kNone:
      return add_word(0);
    case Operand::Kind::kScalar:
      return add_word(2 | static_cast<int64_t>(x.scalar.kind) << 8);
    case Operand::Kind::kArray:
      return add(*x.array);
  }
}

Plan* Op::find(const AttrSet* attrs, const Signature& s) {
  auto matches = [&](const Entry& e) { return e.attrs == attrs && std::ranges::equal(e.words, s.words()); };
  if (last_ && last_hash_ == s.hash() && matches(*last_)) return last_->plan.get();
  auto it = plans_.find(s.hash());
  if (it == plans_.end()) return nullptr;
  for (Entry& e : it->second) {
    if (!matches(e)) continue;
    last_ = &e;
    last_hash_ = s.hash();
    return e.plan.get();
  }
  return nullptr;
}

void Op::insert(const AttrSet* attrs, const Signature& s, Ref<Plan> plan) {
  last_ = nullptr;  // the table may move its entries
  if (count_ >= kMaxPlans) {
    plans_.clear();
    count_ = 0;
  }
  plans_[s.hash()].push_back({attrs, {s.words().begin(), s.words().end()}, std::move(plan)});
  ++count_;
}

namespace {
std::map<std::string, KernelFactory>& factories() {
  static auto* map = new std::map<std::string, KernelFactory>;
  return *map;
}

const Attrs::Value& at(const Attrs& attrs, const std::string& name) {
  auto it = attrs.values.find(name);
  if (it == attrs.values.end())
    throw Error(ErrorKind::kInternal, "kernel: expected attribute '" + name + "', got none.");
  return it->second;
}
}  // namespace

int64_t Attrs::integer(const std::string& name) const { return std::get<int64_t>(at(*this, name)); }

double Attrs::real(const std::string& name) const {
  const Value& v = at(*this, name);
  return std::holds_alternative<int64_t>(v) ? static_cast<double>(std::get<int64_t>(v)) : std::get<double>(v);
}

const std::string& Attrs::text(const std::string& name) const { return std::get<std::string>(at(*this, name)); }

Dims Attrs::dims(const std::string& name) const { return Dims(std::get<std::vector<int64_t>>(at(*this, name))); }

void register_kernel(const std::string& name, KernelFactory factory) { factories()[name] = factory; }

KernelPtr make_kernel(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs,
                      const Attrs& attrs) {
  auto it = factories().find(name);
  if (it == factories().end())
    throw Error(ErrorKind::kInternal, "kernel: expected a registered factory, got '" + name + "'.");
  return it->second(ins, outs, attrs);
}

}  // namespace minimx
