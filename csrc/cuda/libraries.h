// NVIDIA's libraries, found and opened on first use: cuDNN 9, cuBLASLt of CUDA 13 or 12, NCCL 2. Nothing of them is
// linked. Read next: conv.cc, matmul.cc and collectives.cc, the users.
#pragma once
#include <string>
#include <vector>

namespace minimx::cuda {

/// An opened shared library. Never closed: kernels and their threads may outlive every owner.
class Library {
 public:
  Library(std::string name, std::string path, void* handle)
      : name_(std::move(name)), path_(std::move(path)), handle_(handle) {}
  void* handle() const { return handle_; }
  const std::string& path() const { return path_; }  // of the file, as the loader has it

  /// The function of that name, of type F. Throws Error(kDevice) where the library is too old to have it.
  template <class F>
  F function(const char* name) const {
    return reinterpret_cast<F>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  std::string name_, path_;
  void* handle_;
};

/// Folders to look in before the loader's own search path, best first. Has an effect on libraries not yet opened.
void set_library_folders(std::vector<std::string> folders);

/// cuDNN 9, with the libraries beside it that it opens by name itself (cuBLASLt, NVRTC and the runtime of the CUDA
/// version that it was built for). Throws Error(kDevice), one sentence with the extra to install, where it is missing
/// or too old. Thread-safe, as are the others.
const Library& cudnn();
const Library& cublas_lt();
const Library& nccl();

/// "9.19.0", "13.1.0"; empty where the library is missing. They open it.
std::string cudnn_version();
std::string cublas_version();
std::string nccl_version();

}  // namespace minimx::cuda
