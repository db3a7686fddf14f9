// NCCL, opened on first use: its few functions are declared here, so that no header of it is needed to build.
#include "cuda/collectives.h"

#include <map>
#include <mutex>
#include <string>

#include "cuda/device.h"
#include "cuda/libraries.h"

namespace minimx::cuda {
namespace {

using Communicator = void*;  // ncclComm_t
constexpr int kSum = 0;      // ncclSum

struct Functions {
  int (*init_all)(Communicator*, int, const int*);
  int (*all_reduce)(const void*, void*, size_t, int, int, Communicator, CUstream);
  int (*group_start)();
  int (*group_end)();
  const char* (*error_string)(int);
};

const Functions& nccl_functions() {
  static const Functions functions = [] {
    const Library& library = nccl();
    Functions f{};
    f.init_all = library.function<decltype(f.init_all)>("ncclCommInitAll");
    f.all_reduce = library.function<decltype(f.all_reduce)>("ncclAllReduce");
    f.group_start = library.function<decltype(f.group_start)>("ncclGroupStart");
    f.group_end = library.function<decltype(f.group_end)>("ncclGroupEnd");
    f.error_string = library.function<decltype(f.error_string)>("ncclGetErrorString");
    return f;
  }();
  return functions;
}

void check(int status) {
  if (status)
    throw Error(ErrorKind::kDevice, std::string("a sum over GPUs: expected NCCL to run, got '") +
                                        nccl_functions().error_string(status) + "'. Set NCCL_DEBUG=WARN to see why.");
}

/// ncclDataType_t.
int type_of(DType dtype) {
  switch (dtype) {
    case DType::kInt8:
      return 0;
    case DType::kUInt8:
      return 1;
    case DType::kInt32:
      return 2;
    case DType::kInt64:
      return 4;
    case DType::kFloat16:
      return 6;
    case DType::kFloat32:
      return 7;
    case DType::kFloat64:
      return 8;
    case DType::kBFloat16:
      return 9;
    default:
      throw Error(ErrorKind::kValue,
                  std::string("a sum over GPUs: expected numbers, got ") + dtype_name(dtype) + ". Cast with astype.");
  }
}

/// One communicator a device, made when a set of devices is first asked for; that takes a second. Never destroyed.
const std::vector<Communicator>& communicators(const std::vector<int>& devices) {
  static auto* made = new std::map<std::vector<int>, std::vector<Communicator>>;
  auto found = made->find(devices);
  if (found == made->end()) {
    std::vector<Communicator> list(devices.size());
    check(nccl_functions().init_all(list.data(), static_cast<int>(devices.size()), devices.data()));
    found = made->emplace(devices, std::move(list)).first;
  }
  return found->second;
}

}  // namespace

void sum_copies(const std::vector<int>& devices, const std::vector<Copies>& arrays) {
  static auto* mutex = new std::mutex;  // every device must see the calls in one order
  const std::lock_guard lock(*mutex);
  for (int id : devices) gpu(id);  // contexts first: NCCL wants them
  const Functions& f = nccl_functions();
  const std::vector<Communicator>& all = communicators(devices);
  check(f.group_start());
  int status = 0;
  for (const Copies& a : arrays)
    for (size_t i = 0; i < devices.size() && !status; ++i)
      status = f.all_reduce(a.data[i], a.sums[i], a.count, type_of(a.dtype), kSum, all[i],
                            gpu(devices[i]).stream(StreamKind::kCommunication));
  const int ended = f.group_end();
  check(status ? status : ended);
}

}  // namespace minimx::cuda
