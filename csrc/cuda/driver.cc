#include "cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <memory>
#include <mutex>

namespace minimx::cuda {
namespace {

std::atomic<bool> g_forked{false};  // this process is a child, made after its parent had started CUDA

[[noreturn]] void fail(const std::string& rule, const std::string& got, const std::string& way_out) {
  throw Error(ErrorKind::kDevice, "gpu: expected " + rule + ", got " + got + ". " + way_out + ".");
}

Driver load() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    fail("NVIDIA's driver (libcuda.so.1)", std::string("none: ") + dlerror(), "Install the driver, or use mx.cpu()");
  Driver d;
#define MINIMX_LOAD(name)                                             \
  d.name = reinterpret_cast<decltype(d.name)>(dlsym(library, #name)); \
  if (!d.name) fail("a driver of CUDA 12 or newer", "one without " #name, "Update the driver, or use mx.cpu()");
  MINIMX_DRIVER_FUNCTIONS(MINIMX_LOAD)
#undef MINIMX_LOAD
  const CUresult result = d.cuInit(0);
  if (result != CUDA_SUCCESS) {
    const char* words = nullptr;
    d.cuGetErrorString(result, &words);
    fail("a driver that starts", words ? words : "error " + std::to_string(result), "See nvidia-smi, or use mx.cpu()");
  }
  pthread_atfork(nullptr, nullptr, [] { g_forked = true; });
  return d;
}

}  // namespace

bool forked() { return g_forked.load(std::memory_order_relaxed); }

const Driver& driver() {
  if (forked())
    fail("a process that started CUDA itself", "a fork of one that had",
         "Start workers with the 'spawn' method, or use the GPU only after the fork");
  static const Driver* loaded = new Driver(load());
  return *loaded;
}

std::string describe(CUresult result) {
  const char* words = nullptr;
  driver().cuGetErrorString(result, &words);
  return words ? words : "error " + std::to_string(result);
}

void check(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) [[unlikely]]
    throw Error(ErrorKind::kDevice, std::string("gpu: expected ") + what + " to succeed, got: " + describe(result) +
                                        ". See nvidia-smi for the state of the device.");
}

}  // namespace minimx::cuda
