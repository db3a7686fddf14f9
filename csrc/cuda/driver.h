// The CUDA driver, found when it is first needed: a table of its functions, and what their answers mean.
// Nothing of CUDA is linked: libcuda comes with the driver, and a machine may have none.
#pragma once
#include <cuda.h>

#include <string>

#include "common/error.h"

namespace minimx::cuda {

// A suffix names the version of a function; cuda.h maps the plain name to it.
// clang-format off
#define MINIMX_DRIVER_FUNCTIONS(X)                                                                                   \
  X(cuInit) X(cuDriverGetVersion) X(cuGetErrorString) X(cuDeviceGetCount) X(cuDeviceGet) X(cuDeviceGetAttribute)     \
  X(cuDeviceGetName) X(cuDevicePrimaryCtxRetain) X(cuCtxSetCurrent) X(cuMemGetInfo_v2)                               \
  X(cuStreamCreateWithPriority) X(cuStreamQuery) X(cuStreamSynchronize) X(cuStreamWaitEvent)                         \
  X(cuStreamBeginCapture_v2) X(cuStreamEndCapture)                                                                   \
  X(cuEventCreate) X(cuEventRecord) X(cuEventSynchronize) X(cuEventQuery) X(cuEventElapsedTime) X(cuEventDestroy_v2) \
  X(cuMemAlloc_v2) X(cuMemFree_v2) X(cuMemAllocAsync) X(cuMemFreeAsync)                                              \
  X(cuDeviceGetDefaultMemPool) X(cuMemPoolSetAttribute) X(cuMemPoolTrimTo)                                           \
  X(cuMemcpyHtoDAsync_v2) X(cuMemcpyDtoHAsync_v2) X(cuMemcpyDtoDAsync_v2) X(cuMemcpyPeerAsync)                       \
  X(cuMemHostAlloc) X(cuMemFreeHost)                                                                                 \
  X(cuLibraryLoadData) X(cuLibraryGetKernel) X(cuKernelSetAttribute) X(cuLaunchKernelEx)                             \
  X(cuGraphInstantiateWithFlags) X(cuGraphExecUpdate_v2) X(cuGraphLaunch) X(cuGraphDestroy) X(cuGraphExecDestroy)
// clang-format on

/// The functions by name.
struct Driver {
#define MINIMX_MEMBER(name) decltype(&::name) name = nullptr;
  MINIMX_DRIVER_FUNCTIONS(MINIMX_MEMBER)
#undef MINIMX_MEMBER
};

/// Loads libcuda and initialises it. Throws Error(kDevice) where there is no driver, it is too old or it sees no GPU,
/// and in a child of a process that had used it before the fork.
const Driver& driver();
/// True in such a child: what the parent holds on a device is then not this process's to free.
bool forked();

/// Throws Error(kDevice) for anything but success: "<what>: expected ..., got <the driver's words>".
void check(CUresult result, const char* what);
/// What an error code means, in the driver's words.
std::string describe(CUresult result);

}  // namespace minimx::cuda
