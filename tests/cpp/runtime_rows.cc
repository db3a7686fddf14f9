#include "runtime_rows.h"

#include <array>

#include "engine/engine.h"
#include "runtime/backend.h"
#include "runtime/tape.h"

using namespace minimx;

namespace rows {
namespace {

constexpr double kCostPerElement = 25;  // nanoseconds, which it does not take

std::mutex g_lock;
bool g_on = true;
thread_local bool t_held = false;
thread_local std::vector<bool> t_given_up;

void acquire() {
  if (g_on) g_lock.lock();
  t_held = true;
}
void release() {
  t_held = false;
  if (g_on) g_lock.unlock();
}
void before_blocking() {
  t_given_up.push_back(t_held);
  if (t_held) release();
}
void after_blocking() {
  const bool had = t_given_up.back();
  t_given_up.pop_back();
  if (had) acquire();
}

class Elementwise : public Kernel {
 public:
  using Function = float (*)(float, float);
  Elementwise(Function f, int64_t n, size_t operands) : f_(f), n_(n), operands_(operands) {}
  void run(void* const* data, void*) const override {
    const auto* x = static_cast<const float*>(data[0]);
    const auto* y = static_cast<const float*>(data[operands_ - 1]);
    auto* out = static_cast<float*>(data[operands_]);
    for (int64_t i = 0; i < n_; ++i) out[i] = f_(x[i], y[i]);
  }
  double cost_ns() const override { return kCostPerElement * static_cast<double>(n_); }

 private:
  Function f_;
  int64_t n_;
  size_t operands_;
};

/// What copies and fills ask for.
class Cast : public Kernel {
 public:
  Cast(const Spec& in, const Spec& out) : in_(in), out_(out) {}
  void run(void* const* data, void*) const override {
    const auto* x = static_cast<const float*>(data[0]);
    auto* out = static_cast<float*>(data[1]);
    for (int64_t i = 0; i < out_.size(); ++i) out[i * out_.strides[0]] = x[i * in_.strides[0]];
  }
  double cost_ns() const override { return kCostPerElement * static_cast<double>(out_.size()); }

 private:
  Spec in_, out_;
};

KernelPtr make_cast(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs&) {
  return std::make_shared<Cast>(ins[0], outs[0]);
}

Ref<Plan> plan_of(Op& op, const AttrSet*, std::span<const Operand> ins) {
  auto plan = make_ref<Plan>();
  plan->op = &op;
  plan->outs = {{DType::kFloat32, ins[0].array->shape}};
  plan->casts.assign(ins.size(), -1);
  plan->contiguous = plan->pointwise = true;
  plan->set_kernel([&op, n = ins[0].array->size()] {
    let_others();  // a rule is Python
    return kernel_of(op, n);
  });
  let_others();
  return plan;
}

Ref<GradProgram> gradient_of(Plan& plan, std::span<const Operand> ins, uint64_t mask) {
  using Arg = GradProgram::Arg;
  auto program = make_ref<GradProgram>();
  const Arg g{Arg::Kind::kGrad, 0, 0, {}};
  for (int i = 0; i < static_cast<int>(ins.size()); ++i) {
    if (!(mask >> i & 1)) {
      program->results.emplace_back();
    } else if (plan.op == &add()) {
      program->results.push_back(g);
    } else {
      const int step = static_cast<int>(program->steps.size());
      GradProgram::Step s{Ref<Op>(plan.op), {}, {g}, 1};
      if (plan.op == &multiply()) {
        s.args.push_back(Arg{Arg::Kind::kIn, 1 - i, 0, {}});
        program->saves_in |= uint64_t{1} << (1 - i);
      }
      program->steps.push_back(std::move(s));
      program->results.push_back(Arg{Arg::Kind::kStep, step, 0, {}});
    }
  }
  let_others();
  return program;
}

Op& made(const char* name) { return *new Op(name); }

}  // namespace

void set_lock(bool on) { g_on = on; }
Locked::Locked() { acquire(); }
Locked::~Locked() { release(); }
void let_others() {
  if (!t_held) return;
  release();
  std::this_thread::yield();
  acquire();
}

Op& add() {
  static Op& op = made("add");
  return op;
}
Op& multiply() {
  static Op& op = made("multiply");
  return op;
}
Op& half() {
  static Op& op = made("half");
  return op;
}

Op& copy() {
  static Op& op = made("copy");
  return op;
}

KernelPtr kernel_of(const Op& op, int64_t n) {
  if (&op == &add()) return std::make_shared<Elementwise>([](float x, float y) { return x + y; }, n, 2);
  if (&op == &copy()) return std::make_shared<Elementwise>([](float x, float) { return x; }, n, 1);
  if (&op == &multiply()) return std::make_shared<Elementwise>([](float x, float y) { return x * y; }, n, 2);
  return std::make_shared<Elementwise>([](float x, float) { return x / 2; }, n, 1);
}

void install() {
  engine::set_blocking_hooks(before_blocking, after_blocking, nullptr);
  register_kernel("cast", make_cast);
  set_rules({plan_of, gradient_of, nullptr, [] { return std::shared_ptr<const std::string>(); }});
  core_ops().add = Ref<Op>(&add());
  core_ops().copy = Ref<Op>(&copy());
}

std::vector<float> elements(const Array& a) {
  wait_for(a);
  const auto* first = reinterpret_cast<const float*>(a.data());
  return {first, first + a.size()};
}

}  // namespace rows
