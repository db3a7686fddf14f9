// The module minimx._cuda: hands the Backend to minimx._core, and kernels as capsules that _core adopts.
#include <pybind11/numpy.h>

#include "cuda/backend.h"
#include "cuda/collectives.h"
#include "cuda/device.h"
#include "cuda/foreign.h"
#include "cuda/launcher.h"
#include "cuda/libraries.h"
#include "cuda/library_kernels.h"
#include "cuda/pinned.h"
#include "python/convert.h"
#include "python/gil.h"

namespace minimx::cuda {
namespace {

using namespace python;

/// The kernel as a minimx._core.Kernel.
py::object handed_over(KernelPtr kernel) {
  auto* held = new KernelPtr(std::move(kernel));
  py::capsule capsule(held, [](void* p) { delete static_cast<KernelPtr*>(p); });
  return py::module_::import("minimx._core").attr("adopt_kernel")(capsule);
}

template <class T>
uint64_t bytes_of(T value) {
  uint64_t out = 0;
  std::memcpy(&out, &value, sizeof value);
  return out;
}

/// The bytes of a number as an element of type `dtype`.
uint64_t number(const py::handle& value, const std::string& dtype) {
  if (dtype == "float32") return bytes_of(value.cast<float>());
  if (dtype == "float64") return bytes_of(value.cast<double>());
  if (dtype == "bool") return bytes_of(value.cast<bool>());
  if (dtype.starts_with("int") || dtype.starts_with("uint")) {  // little endian: the low bytes come first
    if (dtype == "uint64") return value.cast<uint64_t>();
    return bytes_of(value.cast<int64_t>());
  }
  throw Error(ErrorKind::kInternal, "launch: expected a number of a type with a C equivalent, got '" + dtype + "'.");
}

/// ("p", index, offset), ("s", index, dtype), ("w", offset), ("v", number, dtype), ("r",), or ("t", n) before the n
/// members of a table.
Argument argument(const py::tuple& t) {
  const char kind = t[0].cast<std::string>().at(0);
  switch (kind) {
    case 'p':
      return {Argument::Kind::kPointer, t[1].cast<int>(), t[2].cast<int64_t>(), 0};
    case 's':
      return {Argument::Kind::kScalar, t[1].cast<int>(), 0, 0};
    case 'w':
      return {Argument::Kind::kScratch, 0, t[1].cast<int64_t>(), 0};
    case 'v':
      return {Argument::Kind::kValue, 0, 0, number(t[1], t[2].cast<std::string>())};
    case 't':
      return {Argument::Kind::kTable, t[1].cast<int>(), 0, 0};
    case 'r':
      return {Argument::Kind::kState, 0, 0, 0};
    default:
      throw Error(ErrorKind::kInternal,
                  std::string("launch: expected an argument of a known kind, got '") + kind + "'.");
  }
}

py::object make_kernel(const py::sequence& launches, size_t workspace_bytes) {
  std::vector<LaunchSpec> specs;
  for (py::handle h : launches) {
    auto [cubin, name, grid, block, shared, args] = h.cast<
        std::tuple<std::string, std::string, std::array<unsigned, 3>, std::array<unsigned, 3>, unsigned, py::list>>();
    LaunchSpec s{std::move(cubin), std::move(name), {}, {}, shared, {}};
    std::copy_n(grid.begin(), 3, s.grid);
    std::copy_n(block.begin(), 3, s.block);
    for (py::handle a : args) s.arguments.push_back(argument(a.cast<py::tuple>()));
    specs.push_back(std::move(s));
  }
  return handed_over(make_recipe_kernel(specs, workspace_bytes));
}

// ---- kernels of the libraries --------------------------------------------------------------------------------------

/// The way back to Python, for what the libraries leave to generated kernels.
KernelPtr ask_kernel(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs,
                     int device) {
  KernelPtr made;
  with_gil([&] {
    py::object kernel = py::module_::import("minimx.rtc.cuda")
                            .attr("kernel_for")(name, specs_to(ins), specs_to(outs), attrs_to(attrs), device);
    made = *kernel.attr("capsule")().cast<py::capsule>().get_pointer<KernelPtr>();
  });
  return made;
}

/// Without the interpreter's lock, for cuDNN takes its time: several threads may make kernels at once.
py::object make_library_kernel(const std::string& name, const py::sequence& ins, const py::sequence& outs,
                               const py::dict& attrs, int device) {
  const auto i = specs_from(ins), o = specs_from(outs);
  const Attrs a = attrs_from(attrs);
  KernelPtr kernel;
  {
    const WithoutGil unlocked;
    kernel = name == "matmul" ? make_matmul(i, o, a, device) : make_conv(name, i, o, a, device);
  }
  return handed_over(std::move(kernel));
}

/// A question of the passes to a library, as a function of Python.
template <auto question>
auto asked(const py::sequence& ins, const py::sequence& outs, const py::dict& attrs, int device) {
  const auto i = specs_from(ins), o = specs_from(outs);
  const Attrs a = attrs_from(attrs);
  const WithoutGil unlocked;
  return question(i, o, a, device);
}

/// arrays: of each its (dtype, number of elements, an address on every device, that of the sum on every device).
void sum_over_devices(const std::vector<int>& devices, const py::sequence& arrays) {
  std::vector<Copies> copies;
  for (py::handle h : arrays) {
    using Places = std::vector<uintptr_t>;
    auto [dtype, count, from, to] = h.cast<std::tuple<py::str, size_t, Places, Places>>();
    Copies c{dtype_code(dtype), count, {}, {}};
    for (uintptr_t a : from) c.data.push_back(reinterpret_cast<void*>(a));
    for (uintptr_t a : to) c.sums.push_back(reinterpret_cast<void*>(a));
    copies.push_back(std::move(c));
  }
  const WithoutGil unlocked;
  sum_copies(devices, copies);
}

/// "sm_90" for a device of compute capability 9.0.
std::string arch(int id) {
  const Gpu& g = gpu(id);
  return "sm_" + std::to_string(g.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)) +
         std::to_string(g.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
}

std::pair<size_t, size_t> memory(int id) {
  gpu(id).use();
  size_t free = 0, total = 0;
  check(driver().cuMemGetInfo_v2(&free, &total), "cuMemGetInfo");
  return {free, total};
}

/// Bytes of pinned memory as a NumPy array.
py::array pinned(size_t bytes) {
  void* p = allocate_pinned(bytes);
  return py::array_t<uint8_t>(static_cast<py::ssize_t>(bytes), static_cast<uint8_t*>(p),
                              py::capsule(p, release_pinned));
}

uintptr_t stream(int id, const std::string& kind) {
  const StreamKind k = kind == "compute"         ? StreamKind::kCompute
                       : kind == "copy"          ? StreamKind::kCopy
                       : kind == "communication" ? StreamKind::kCommunication
                                                 : throw Error(ErrorKind::kValue,
                                                               "stream: expected 'compute', 'copy' or "
                                                               "'communication', got '" +
                                                                   kind + "'. Use one of them.");
  return reinterpret_cast<uintptr_t>(gpu(id).stream(k));
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "The CUDA part of minimx: driver, memory, streams, launches, cuDNN and cuBLASLt.";
  static py::object errors = py::module_::import("minimx.errors");
  py::register_local_exception_translator([](std::exception_ptr p) {  // local: _core has one of its own
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error& e) {
      PyErr_SetString(py::object(errors.attr(error_class(e.kind()))).ptr(), e.what());
    }
  });
  m.def("backend", [] { return py::capsule(backend(), [](void*) {}); });
  m.def("device_count", device_count);
  m.def("arch", arch);
  m.def("memory", memory, "(free, total) bytes of a device.");
  m.def("stream", stream, "The CUstream of a device: 'compute', 'copy' or 'communication'.");
  m.def(
      "wait_for_stream",
      [](int id, uintptr_t earlier) { wait_for_stream(gpu(id), reinterpret_cast<CUstream>(earlier)); },
      "The compute stream waits for what is on another library's stream now.");
  m.def(
      "make_stream_wait", [](int id, uintptr_t later) { make_stream_wait(gpu(id), reinterpret_cast<CUstream>(later)); },
      "Another library's stream waits for what is on the compute stream now.");
  m.def("pinned", pinned, "An array of that many bytes in pinned main memory.");
  m.def("driver_version", [] {
    int version = 0;
    check(driver().cuDriverGetVersion(&version), "cuDriverGetVersion");
    return version;
  });
  m.def("make_kernel", make_kernel, py::arg("launches"), py::arg("workspace_bytes"));
  m.def("make_library_kernel", make_library_kernel);
  m.def("conv_fuses", asked<conv_fuses>,
        "Whether an engine of cuDNN takes in the bias, residual and ReLU of a conv_fwd.");
  m.def("matmul_gain", asked<matmul_gain>,
        "Nanoseconds that one call of cuBLASLt gains over a matmul and passes; minus infinity where it has none.");
  m.def("conv_statistics_pay", asked<conv_statistics_pay>,
        "Whether cuDNN had better add up what a convolution writes: specs and attributes of a conv_fwd_stats.");
  m.def("set_library_folders", set_library_folders);
  m.def(
      "set_library_settings",
      [](bool allow_tf32, bool deterministic, bool autotune, const std::string& cache_folder) {
        set_library_settings({allow_tf32, deterministic, autotune, cache_folder});
      },
      py::arg("allow_tf32"), py::arg("deterministic"), py::arg("autotune"), py::arg("cache_folder"));
  m.def("cudnn_version", cudnn_version);
  m.def("cublas_version", cublas_version);
  m.def("nccl_version", nccl_version);
  m.def("sum_copies", sum_over_devices, "Begins sums over copies of arrays on several devices, by NCCL.");
  set_kernel_maker(ask_kernel);
}

}  // namespace minimx::cuda
