// Kernels of fused groups. A group works from the first run on, by the plain kernels of its members, one after the
// other; its one compiled kernel takes over when the run-time compiler has it, also while runs are in flight. Who
// decides what is compiled when: minimx/rtc/compile.py for the CPU, minimx/rtc/cuda/background.py for GPUs.
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <vector>

#include "runtime/backend.h"
#include "runtime/kernel.h"

namespace minimx {

/// The plain kernels of a group, and where each finds its operands.
class Members {
 public:
  struct Member {
    KernelPtr kernel;
    std::vector<int> operands;  // index into the group's operands and on into the constants, or ~index of a temporary
  };
  using Constant = std::array<char, 8>;  // one element of any type, in host memory on every device

  /// temporaries: bytes of each.
  Members(int operands, std::vector<Member> members, const std::vector<size_t>& temporaries,
          std::vector<Constant> constants);

  size_t workspace_bytes() const { return workspace_; }

  /// Calls run(kernel, its operands, its workspace) for each member in turn; data: the group's operands.
  template <class Run>
  void each(void* const* data, void* workspace, const Run& run) const {
    char* scratch = static_cast<char*>(workspace);
    std::vector<void*> operands;
    for (const Member& m : members_) {
      operands.clear();
      for (int i : m.operands)
        operands.push_back(i < 0           ? scratch + offsets_[~i]
                           : i < operands_ ? data[i]
                                           : const_cast<char*>(constants_[i - operands_].data()));
      run(*m.kernel, operands.data(), scratch + offsets_.back());
    }
  }

 private:
  int operands_;
  std::vector<Member> members_;
  std::vector<Constant> constants_;
  std::vector<size_t> offsets_;  // of the temporaries in the workspace, then of the members' own scratch memory
  size_t workspace_ = 0;
};

/// A fused group on the CPU: its compiled form is a function over a range of items, which are elements of its outputs,
/// rows, or what else the group's form says (minimx/rtc).
class FusedKernel : public Kernel {
 public:
  /// Compiled form: data as for Kernel::run, over items [begin, end).
  using Function = void (*)(void* const* data, int64_t begin, int64_t end);
  FusedKernel(int64_t items, double cost_ns, Members members);

  void run(void* const* data, void* workspace) const override;
  size_t workspace_bytes() const override { return members_.workspace_bytes(); }
  double cost_ns() const override { return cost_ns_; }
  /// Safe while runs are in flight: they finish with what they started with.
  void set_function(Function f) const { function_.store(f, std::memory_order_release); }
  bool compiled() const { return function_.load(std::memory_order_acquire) != nullptr; }

 private:
  mutable std::atomic<Function> function_{nullptr};
  int64_t items_;
  int64_t grain_;  // items a thread should have at least
  double cost_ns_;
  Members members_;
};

/// A fused group on a GPU: its members are DeviceKernels, and so is what takes over.
class FusedDeviceKernel : public DeviceKernel {
 public:
  /// `workspace`: bytes that the compiled kernel will need.
  FusedDeviceKernel(Members members, size_t workspace)
      : members_(std::move(members)), workspace_(std::max(workspace, members_.workspace_bytes())) {}

  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override;
  size_t workspace_bytes() const override { return workspace_; }
  /// Ends the waiting, once: `kernel`, a DeviceKernel, takes over, or with null the members stay. Safe while runs are
  /// in flight. Throws Error(kInternal) for a kernel that needs more workspace than was said.
  void settle(KernelPtr kernel) const;
  /// True when runs do the same from now on: a device graph may be captured of them.
  bool settled() const { return settled_.load(std::memory_order_acquire); }
  bool compiled() const { return settled() && kernel_; }

 private:
  Members members_;
  size_t workspace_;
  mutable std::mutex mutex_;  // of settle()
  mutable KernelPtr kernel_;  // invariant: written before settled_ becomes true, never afterwards
  mutable std::atomic<bool> settled_{false};
};

}  // namespace minimx
