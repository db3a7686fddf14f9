// Settings, the way to other kernels of the device, and the small ones that conv.cc and matmul.cc put around their own.
#include "cuda/library_kernels.h"

#include <algorithm>
#include <mutex>

#include "cuda/steps.h"

namespace minimx::cuda {
namespace {

KernelMaker& maker() {
  static auto* m = new KernelMaker;
  return *m;
}

std::mutex g_settings_mutex;
LibrarySettings& settings() {
  static auto* s = new LibrarySettings;
  return *s;
}

}  // namespace

void set_library_settings(const LibrarySettings& to) {
  const std::lock_guard lock(g_settings_mutex);
  settings() = to;
}

LibrarySettings library_settings() {
  const std::lock_guard lock(g_settings_mutex);
  return settings();
}

void set_kernel_maker(KernelMaker make) { maker() = std::move(make); }

KernelPtr device_kernel(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs,
                        const Attrs& attrs, int device) {
  return maker()(name, ins, outs, attrs, device);
}

KernelPtr zeros(const Spec& out, int device) {
  return device_kernel("fill", {}, {&out, 1}, {{{"value", int64_t{0}}}}, device);
}

KernelPtr copy(const Spec& from, const Spec& to, int device) {
  return device_kernel("cast", {&from, 1}, {&to, 1}, {}, device);
}

KernelPtr sum_of(const Spec& x, const Spec& b, const Spec& y, int device) {
  const Spec ins[] = {x, b};
  return device_kernel("elemwise", ins, {&y, 1}, {{{"loop", "add"}, {"dtype", dtype_name(y.dtype)}}}, device);
}

Spec packed(DType dtype, const Dims& shape) { return {dtype, shape, shape.contiguous_strides(), ""}; }

bool any_empty(std::span<const Spec> specs) {
  return std::any_of(specs.begin(), specs.end(), [](const Spec& s) { return s.size() == 0; });
}

}  // namespace minimx::cuda
