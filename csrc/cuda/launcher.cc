#include "cuda/launcher.h"

#include <mutex>
#include <unordered_map>

#include "cuda/device.h"

namespace minimx::cuda {
namespace {

constexpr unsigned kPlainShared = 48 << 10;  // bytes of shared memory that need no permission

/// The kernel of that name, loaded once for all devices: a name is a digest of the text. Cubins hold several kernels.
CUkernel load(const std::string& cubin, const std::string& name) {
  static std::mutex mutex;
  static auto* loaded = new std::unordered_map<std::string, CUkernel>;
  static auto* libraries = new std::unordered_map<std::string, CUlibrary>;
  std::lock_guard lock(mutex);
  CUkernel& kernel = (*loaded)[name];
  if (kernel) return kernel;
  CUlibrary& library = (*libraries)[cubin];
  if (!library)
    check(driver().cuLibraryLoadData(&library, cubin.data(), nullptr, nullptr, 0, nullptr, nullptr, 0),
          ("cuLibraryLoadData of " + name).c_str());
  CUkernel found = nullptr;
  check(driver().cuLibraryGetKernel(&found, library, name.c_str()), ("cuLibraryGetKernel of " + name).c_str());
  return kernel = found;
}

/// Whether kernels of captured graphs may start before the one in front of them has ended, and wait for it themselves
/// (in_order in minimx/rtc/cuda/prelude.h): since Hopper, where the driver (12.3) captures that. One by one they come
/// no faster than the host launches them.
bool start_early() {
  static const bool all = [] {
    int version = 0, major = 0;
    CUdevice device = 0;
    if (driver().cuDriverGetVersion(&version) != CUDA_SUCCESS || version < 12030) return false;
    for (int i = 0, n = 0; driver().cuDeviceGetCount(&n) == CUDA_SUCCESS && i < n; ++i)
      if (driver().cuDeviceGet(&device, i) != CUDA_SUCCESS ||
          driver().cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device) != CUDA_SUCCESS ||
          major < 9)
        return false;
    return true;
  }();
  return all;
}

class RecipeKernel : public DeviceKernel {
 public:
  RecipeKernel(const std::vector<LaunchSpec>& specs, size_t workspace_bytes) : workspace_bytes_(workspace_bytes) {
    for (const LaunchSpec& s : specs) {
      Launch l{load(s.cubin, s.name), {}, {}, s.shared, s.arguments, 0};
      std::copy_n(s.grid, 3, l.grid);
      std::copy_n(s.block, 3, l.block);
      for (const Argument& a : s.arguments) {
        const bool state = a.kind == Argument::Kind::kState;
        l.words += state ? 3 : 1;
        random_ = random_ || state;
      }
      most_ = std::max(most_, l.words);
      launches_.push_back(std::move(l));
    }
  }

  size_t workspace_bytes() const override { return workspace_bytes_; }

  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override {
    constexpr size_t kSmall = 64;
    uint64_t few[kSmall];
    void* few_places[kSmall];
    std::vector<uint64_t> many(most_ > kSmall ? most_ : 0);
    std::vector<void*> many_places(many.size());
    uint64_t* values = many.empty() ? few : many.data();
    void** places = many.empty() ? few_places : many_places.data();
    CUlaunchAttribute early{};
    early.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    early.value.programmaticStreamSerializationAllowed = 1;
    const unsigned attributes = t_capturing && start_early();
    const auto* state = static_cast<const uint64_t*>(random_ ? data[0] : nullptr);
    void* const* operands = data + random_;
    for (const Launch& l : launches_) {
      size_t words = 0, parameters = 0;
      int members = 0;  // of a table, still to come: they share its parameter
      auto add = [&](uint64_t value) {
        if (members)
          --members;
        else
          places[parameters++] = &values[words];
        values[words++] = value;
      };
      for (const Argument& a : l.arguments) {
        switch (a.kind) {
          case Argument::Kind::kPointer:
            add(reinterpret_cast<uint64_t>(operands[a.index]) + a.offset);
            break;
          case Argument::Kind::kScalar:
            places[parameters++] = operands[a.index];
            break;
          case Argument::Kind::kScratch:
            add(reinterpret_cast<uint64_t>(workspace) + a.offset);
            break;
          case Argument::Kind::kValue:
            add(a.value);
            break;
          case Argument::Kind::kState:
            for (int k = 0; k < 3; ++k) add(state[k]);
            break;
          case Argument::Kind::kTable:
            places[parameters++] = &values[words];
            members = a.index;
            break;
        }
      }
      const CUlaunchConfig config{l.grid[0],  l.grid[1],  l.grid[2], l.block[0],
                                  l.block[1], l.block[2], l.shared,  static_cast<CUstream>(stream),
                                  &early,     attributes};
      check(driver().cuLaunchKernelEx(&config, reinterpret_cast<CUfunction>(l.kernel), places, nullptr),
            "cuLaunchKernelEx");
    }
  }

 private:
  struct Launch {
    CUkernel kernel;
    unsigned grid[3], block[3], shared;
    std::vector<Argument> arguments;
    size_t words;  // of 8 bytes, for all arguments
  };
  std::vector<Launch> launches_;
  size_t workspace_bytes_, most_ = 0;
  bool random_ = false;
};

}  // namespace

KernelPtr make_recipe_kernel(const std::vector<LaunchSpec>& launches, size_t workspace_bytes) {
  for (const LaunchSpec& s : launches) {
    if (s.shared <= kPlainShared) continue;
    CUdevice device = 0;
    for (int i = 0, n = 0; driver().cuDeviceGetCount(&n) == CUDA_SUCCESS && i < n; ++i)
      if (driver().cuDeviceGet(&device, i) == CUDA_SUCCESS)
        check(driver().cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(s.shared),
                                            load(s.cubin, s.name), device),
              ("shared memory of " + s.name).c_str());
  }
  return std::make_shared<RecipeKernel>(launches, workspace_bytes);
}

}  // namespace minimx::cuda
