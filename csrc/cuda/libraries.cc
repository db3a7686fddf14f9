// Finding and opening: the folders given by minimx/libraries.py first, then the loader's own path.
#include "cuda/libraries.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <optional>

#include "common/error.h"

namespace minimx::cuda {
namespace {

constexpr const char* kWayOut = " Run: pip install \"minimx[cuda13]\" (or [cuda12]).";
constexpr int kMajors[] = {13, 12};  // of CUDA, best first

std::mutex g_mutex;
bool g_has_runtime = false;

std::vector<std::string>& folders() {
  static auto* list = new std::vector<std::string>;
  return *list;
}

std::string path_of(void* symbol, const std::string& otherwise) {
  Dl_info info;
  return symbol && dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : otherwise;
}

/// The first of the files that opens, in the folders and then by the loader's rules.
std::optional<Library> open(const std::string& name, const std::vector<std::string>& files, const char* probe) {
  const auto attempt = [&](const std::string& path) -> std::optional<Library> {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) return std::nullopt;
    return Library(name, path_of(dlsym(handle, probe), path), handle);
  };
  for (const std::string& folder : folders())
    for (const std::string& file : files)
      if (auto library = attempt(folder + "/" + file)) return library;
  for (const std::string& file : files)
    if (auto library = attempt(file)) return library;
  return std::nullopt;
}

std::vector<std::string> versioned(const std::string& stem, int major = 0) {
  if (major != 0) return {stem + ".so." + std::to_string(major)};
  std::vector<std::string> files;
  for (int m : kMajors) files.push_back(stem + ".so." + std::to_string(m));
  return files;
}

/// Opens what cuDNN and cudnn_frontend will open by its bare name: the loader then finds it already there, in whatever
/// folder it lies. Without the first two some plans fail, which are then not chosen.
void open_companions(int major) {
  open("cuBLASLt", versioned("libcublasLt", major), "cublasLtGetVersion");
  open("NVRTC", versioned("libnvrtc", major), "nvrtcVersion");
  const auto runtime = open("CUDA runtime", versioned("libcudart", major), "cudaRuntimeGetVersion");
  g_has_runtime = runtime.has_value();
  if (runtime) setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", runtime->path().c_str(), 0);
}

std::optional<Library> open_cudnn() {
  auto library = open("cuDNN", {"libcudnn.so.9"}, "cudnnGetVersion");
  if (library) open_companions(static_cast<int>(library->function<size_t (*)()>("cudnnGetCudartVersion")() / 1000));
  return library;
}

/// The library, opened once there is one; null until then, so that a later installation or folder is found.
const Library* once(const Library*& place, std::optional<Library> (*find)()) {
  const std::lock_guard lock(g_mutex);
  if (!place)
    if (auto library = find()) place = new Library(*library);
  return place;
}

const Library* find_cudnn() {
  static const Library* library = nullptr;
  return once(library, open_cudnn);
}

const Library* find_cublas_lt() {
  static const Library* library = nullptr;
  return once(library, [] { return open("cuBLASLt", versioned("libcublasLt"), "cublasLtGetVersion"); });
}

const Library* find_nccl() {
  static const Library* library = nullptr;
  return once(library, [] { return open("NCCL", {"libnccl.so.2"}, "ncclGetVersion"); });
}

std::string dotted(size_t major, size_t minor, size_t patch) {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

[[noreturn]] void missing(const std::string& name, const std::string& file) {
  std::string searched;
  {
    const std::lock_guard lock(g_mutex);
    for (const std::string& folder : folders()) searched += folder + ", ";
  }
  throw Error(ErrorKind::kDevice,
              name + ": expected " + file + ", got none in " + searched + "the loader's path." + kWayOut);
}

}  // namespace

void* Library::symbol(const char* name) const {
  void* found = dlsym(handle_, name);
  if (!found)
    throw Error(ErrorKind::kDevice,
                name_ + ": expected a version that has " + name + ", got " + path_ + " without it." + kWayOut);
  return found;
}

void set_library_folders(std::vector<std::string> list) {
  const std::lock_guard lock(g_mutex);
  folders() = std::move(list);
}

const Library& cudnn() {
  const Library* library = find_cudnn();
  if (!library) missing("cuDNN", "libcudnn.so.9");
  if (!g_has_runtime) missing("cuDNN", "libcudart.so of its CUDA version");
  return *library;
}

const Library& cublas_lt() {
  const Library* library = find_cublas_lt();
  if (!library) missing("cuBLASLt", "libcublasLt.so.13 or .12");
  return *library;
}

const Library& nccl() {
  const Library* library = find_nccl();
  if (!library) missing("NCCL", "libnccl.so.2");
  return *library;
}

std::string cudnn_version() {
  const Library* library = find_cudnn();
  if (!library) return "";
  const size_t v = library->function<size_t (*)()>("cudnnGetVersion")();
  return dotted(v / 10000, v / 100 % 100, v % 100);
}

std::string cublas_version() {
  const Library* library = find_cublas_lt();
  if (!library) return "";
  const size_t v = library->function<size_t (*)()>("cublasLtGetVersion")();
  return dotted(v / 10000, v / 100 % 100, v % 100);
}

std::string nccl_version() {
  const Library* library = find_nccl();
  if (!library) return "";
  int v = 0;
  library->function<int (*)(int*)>("ncclGetVersion")(&v);
  return dotted(v / 10000, v / 100 % 100, v % 100);
}

}  // namespace minimx::cuda
