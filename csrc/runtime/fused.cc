#include "runtime/fused.h"

#include <algorithm>

#include "engine/parallel.h"

namespace minimx {
namespace {

constexpr size_t kAlign = 256;  // what kernels of a GPU may ask of their scratch memory

/// Work that a thread should have at least, for a fused kernel to be split.
constexpr double kGrainNs = 5000;

}  // namespace

Members::Members(int operands, std::vector<Member> members, const std::vector<size_t>& temporaries,
                 std::vector<Constant> constants)
    : operands_(operands), members_(std::move(members)), constants_(std::move(constants)) {
  for (size_t bytes : temporaries) {
    offsets_.push_back(workspace_);
    workspace_ += (bytes + kAlign - 1) / kAlign * kAlign;
  }
  size_t inner = 0;
  for (const Member& m : members_) inner = std::max(inner, m.kernel->workspace_bytes());
  offsets_.push_back(workspace_);  // the members' own scratch lies behind the temporaries
  workspace_ += inner;
}

FusedKernel::FusedKernel(int64_t items, double cost_ns, Members members)
    : items_(items),
      grain_(static_cast<int64_t>(1 + kGrainNs / cost_ns * static_cast<double>(items))),
      cost_ns_(cost_ns),
      members_(std::move(members)) {}

void FusedKernel::run(void* const* data, void* workspace) const {
  if (Function f = function_.load(std::memory_order_acquire))
    return parallel_for(items_, grain_, [&](int64_t begin, int64_t end) { f(data, begin, end); });
  members_.each(data, workspace,
                [](const Kernel& k, void* const* operands, void* scratch) { k.run(operands, scratch); });
}

void FusedDeviceKernel::enqueue(void* const* data, void* workspace, StreamHandle stream) const {
  if (compiled()) return static_cast<const DeviceKernel&>(*kernel_).enqueue(data, workspace, stream);
  members_.each(data, workspace, [&](const Kernel& k, void* const* operands, void* scratch) {
    static_cast<const DeviceKernel&>(k).enqueue(operands, scratch, stream);
  });
}

void FusedDeviceKernel::settle(KernelPtr kernel) const {
  if (kernel && kernel->workspace_bytes() > workspace_)
    throw Error(ErrorKind::kInternal, "kernel: expected a fused one that needs at most " + std::to_string(workspace_) +
                                          " bytes of workspace, got " + std::to_string(kernel->workspace_bytes()) +
                                          ".");
  std::lock_guard lock(mutex_);
  if (settled()) return;
  kernel_ = std::move(kernel);
  settled_.store(true, std::memory_order_release);
}

}  // namespace minimx
