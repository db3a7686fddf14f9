// Implementation of dnnl_kernel.h, and the registration of all library-backed kernels.
#include "cpu/dnnl_kernel.h"

#include <algorithm>
#include <cstring>
namespace minimx {
namespace onednn {
namespace {

constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

DType dtype_of(const Desc& desc) {
  switch (desc.get_data_type()) {
    case dnnl::memory::data_type::bf16:
      return DType::kBFloat16;
    case dnnl::memory::data_type::f16:
      return DType::kFloat16;
    case dnnl::memory::data_type::s32:
      return DType::kInt32;
    case dnnl::memory::data_type::u8:
      return DType::kUInt8;
    default:
      return DType::kFloat32;
  }
}

}  // namespace

StagedKernel::StagedKernel(std::span<const Spec> ins, std::span<const Spec> outs, double cost_ns, int threads)
    : specs_(ins.begin(), ins.end()), inputs_(static_cast<int>(ins.size())), cost_ns_(cost_ns), threads_(threads) {
  specs_.insert(specs_.end(), outs.begin(), outs.end());
}

StagedKernel::Slot StagedKernel::operand_slot(int operand, const Desc& desc) {
  slots_.push_back({operand, 0, desc});
  return static_cast<int>(slots_.size()) - 1;
}

StagedKernel::Slot StagedKernel::temporary(const Desc& desc) {
  const Slot slot = temporary_bytes(desc.get_size());
  slots_[slot].desc = desc;
  return slot;
}

StagedKernel::Slot StagedKernel::temporary_bytes(size_t bytes) {
  slots_.push_back({-1, temporaries_bytes_, Desc()});
  temporaries_bytes_ += aligned(bytes);
  return static_cast<int>(slots_.size()) - 1;
}

StagedKernel::Slot StagedKernel::read(int i, const Desc& want, const Desc* seen_as) {
  const auto have = seen_as ? std::optional<Desc>(*seen_as) : try_desc(specs_[i]);
  if (have && *have == want) return operand_slot(i, want);
  const Slot slot = temporary(want);
  if (have) {
    reorder(operand_slot(i, *have), slot);
  } else {
    copy(i, slot, true);
  }
  return slot;
}

StagedKernel::Slot StagedKernel::write(int i, const Desc& want, const Desc* seen_as) {
  const int operand = inputs_ + i;
  const auto have = seen_as ? std::optional<Desc>(*seen_as) : try_desc(specs_[operand]);
  if (have && *have == want) return operand_slot(operand, want);
  const Slot slot = temporary(want);
  if (!have) {
    deferred_.push_back([this, operand, slot] { copy(operand, slot, false); });
    return slot;
  }
  const Slot own = operand_slot(operand, *have);
  deferred_.push_back([this, own, slot] { reorder(slot, own); });
  return slot;
}

void StagedKernel::load(int i, Slot slot) {
  if (const auto have = try_desc(specs_[i]))
    reorder(operand_slot(i, *have), slot);
  else
    copy(i, slot, true);
}

void StagedKernel::move(int i, int o) {
  const Spec from = specs_[i], to = specs_[inputs_ + o];
  const auto have = try_desc(from), want = try_desc(to);
  if (have && want) {
    const Slot source = operand_slot(i, *have);
    reorder(source, operand_slot(inputs_ + o, *want));
  } else if (from.layout.empty() && to.layout.empty()) {
    const Slot source = operand_slot(i, Desc()), target = operand_slot(inputs_ + o, Desc());
    cast(from, source, to, target);
  } else {
    const Desc common = have ? *have : *want;
    const Slot source = read(i, common), target = write(o, common);
    reorder(source, target);
  }
}

void StagedKernel::reorder(Slot from, Slot to) {
  const dnnl::reorder::primitive_desc pd(cpu_engine(), slots_[from].desc, cpu_engine(), slots_[to].desc,
                                         default_attr());
  add(dnnl::reorder(pd), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
}

/// Between an operand oneDNN has no descriptor for and a slot, through a C-ordered temporary where need be.
void StagedKernel::copy(int operand, Slot slot, bool from_operand) {
  const Desc desc = slots_[slot].desc;
  Spec dense = specs_[operand];
  dense.dtype = dtype_of(desc);
  dense.strides = dense.shape.contiguous_strides();
  const Desc plain = plain_desc(Dims(std::span<const int64_t>(desc.get_dims())), desc.get_data_type());
  const Slot stage = plain == desc ? slot : temporary(plain);
  const Slot own = operand_slot(operand, Desc());
  const Spec spec = specs_[operand];
  if (!from_operand && stage != slot) reorder(slot, stage);
  if (from_operand) {
    cast(spec, own, dense, stage);
    if (stage != slot) reorder(stage, slot);
  } else {
    cast(dense, stage, spec, own);
  }
}

void StagedKernel::cast(const Spec& from, Slot source, const Spec& to, Slot target) {
  add([=, kernel = make_kernel("cast", {&from, 1}, {&to, 1}, {})](char* const* slots) {
    void* const data[] = {slots[source], slots[target]};
    kernel->run(data, nullptr);
  });
}

void StagedKernel::add(const dnnl::primitive& primitive, std::vector<Arg> args) {
  const_dnnl_primitive_desc_t pd;
  dnnl_primitive_get_primitive_desc(primitive.get(), &pd);
  const_dnnl_memory_desc_t scratchpad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  if (scratchpad) scratchpad_bytes_ = std::max(scratchpad_bytes_, aligned(dnnl_memory_desc_get_size(scratchpad)));
  steps_.push_back({primitive, std::move(args), nullptr});
}

void StagedKernel::add(Function function) { steps_.push_back({dnnl::primitive(), {}, std::move(function)}); }

void StagedKernel::finish() {
  for (auto& write_back : deferred_) write_back();
  deferred_.clear();
  idle_.push_back(bind());
}

std::unique_ptr<StagedKernel::Bindings> StagedKernel::bind() const {
  auto b = std::make_unique<Bindings>();
  for (const SlotInfo& s : slots_)
    b->memories.push_back(s.desc.is_zero() ? dnnl::memory() : dnnl::memory(s.desc, cpu_engine(), nullptr));
  b->pointers.resize(slots_.size());
  // The scratchpad of every step lies behind the temporaries; a u8 memory of the largest size serves them all.
  const dnnl::memory scratchpad(
      {{static_cast<int64_t>(scratchpad_bytes_)}, dnnl::memory::data_type::u8, dnnl::memory::dims{1}}, cpu_engine(),
      nullptr);
  b->memories.push_back(scratchpad);
  for (const Step& step : steps_) {
    auto& args = b->args.emplace_back();
    for (const Arg& a : step.args) args.push_back({a.name, b->memories[a.slot].get()});
    args.push_back({DNNL_ARG_SCRATCHPAD, scratchpad.get()});
  }
  return b;
}

std::unique_ptr<StagedKernel::Bindings> StagedKernel::take() const {
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto b = std::move(idle_.back());
      idle_.pop_back();
      return b;
    }
  }
  return bind();
}

void StagedKernel::run_steps(const Bindings& b) const {
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (steps_[i].function) {
      steps_[i].function(b.pointers.data());
      continue;
    }
    const auto status = dnnl_primitive_execute(steps_[i].primitive.get(), stream(), static_cast<int>(b.args[i].size()),
                                               b.args[i].data());
    if (status != dnnl_success)
      throw Error(ErrorKind::kInternal, "oneDNN: expected a primitive to run, got status " + std::to_string(status) +
                                            ". Please report the operator and its shapes.");
  }
}

void StagedKernel::run(void* const* data, void* workspace) const {
  const ThreadScope scope(threads_);
  auto b = take();
  char* base = static_cast<char*>(workspace);
  for (size_t i = 0; i < slots_.size(); ++i) {
    char* p = slots_[i].operand >= 0 ? static_cast<char*>(data[slots_[i].operand]) : base + slots_[i].offset;
    b->pointers[i] = p;
    if (b->memories[i]) dnnl_memory_set_data_handle(b->memories[i].get(), p);
  }
  dnnl_memory_set_data_handle(b->memories.back().get(), base + temporaries_bytes_);
  run_steps(*b);
  std::lock_guard lock(mutex_);
  idle_.push_back(std::move(b));
}

namespace {

class ZeroKernel : public Kernel {
 public:
  ZeroKernel(std::span<const Spec> ins, std::span<const Spec> outs)
      : inputs_(ins.size()), outs_(outs.begin(), outs.end()) {
    const Spec scalar{DType::kFloat32, {}, {}, ""};
    for (const Spec& out : outs)
      fills_.push_back(out.layout.empty() ? make_kernel("cast", {&scalar, 1}, {&out, 1}, {}) : nullptr);
  }
  void run(void* const* data, void*) const override {
    for (size_t i = 0; i < outs_.size(); ++i) {
      void* p = data[inputs_ + i];
      if (fills_[i]) {
        const float zero = 0;
        void* const operands[] = {const_cast<float*>(&zero), p};
        fills_[i]->run(operands, nullptr);
      } else {
        std::memset(p, 0, layout_bytes(outs_[i]));
      }
    }
  }
  double cost_ns() const override {
    double bytes = 0;
    for (const Spec& s : outs_) bytes += static_cast<double>(s.size()) * itemsize(s.dtype);
    return 50 + bytes / 8;
  }

 private:
  size_t inputs_;
  std::vector<Spec> outs_;
  std::vector<KernelPtr> fills_;  // null for blocked outputs
};

}  // namespace

KernelPtr zero_kernel(std::span<const Spec> ins, std::span<const Spec> outs) {
  return std::make_shared<ZeroKernel>(ins, outs);
}

bool any_empty(std::span<const Spec> specs) {
  return std::any_of(specs.begin(), specs.end(), [](const Spec& s) { return s.size() == 0; });
}

}  // namespace onednn

void register_conv_kernels();
void register_matmul_kernels();
void register_pool_kernels();
void register_batch_norm_kernels();
void register_reorder_kernel();

void register_dnnl_kernels() {
  register_conv_kernels();
  register_matmul_kernels();
  register_pool_kernels();
  register_batch_norm_kernels();
  register_reorder_kernel();
}

}  // namespace minimx
