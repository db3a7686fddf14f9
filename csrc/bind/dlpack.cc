// DLPack: arrays that share memory with other libraries, on the CPU and on GPUs.
// https://dmlc.github.io/dlpack/latest/ : the structures below are that ABI, versions 0.8 and 1.0. What of Python's
// protocol needs no memory (versions, devices, who passes which stream) is in minimx/interop.py.
#include <pybind11/stl.h>

#include <optional>

#include "bind/borrow.h"
#include "bind/rules.h"
#include "bind/submodules.h"
#include "runtime/backend.h"
#include "runtime/checked.h"

namespace minimx::bind {
namespace {

enum DeviceType : int32_t { kDLCPU = 1, kDLCUDA = 2, kDLCUDAHost = 3, kDLCUDAManaged = 13 };
enum TypeCode : uint8_t { kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4, kDLBool = 6 };
constexpr uint64_t kReadOnly = 1;  // of DLManagedTensorVersioned::flags
constexpr const char* kPlainName = "dltensor";
constexpr const char* kVersionedName = "dltensor_versioned";

struct DLTensor {
  void* data;
  int32_t device_type, device_id, ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* manager;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  uint32_t major, minor;
  void* manager;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor tensor;
};

// ---- from us to others ----------------------------------------------------------------------------------------------

/// An array in other hands. `stream`: where they use it, if they said.
template <class Managed>
struct Lent {
  Managed managed{};
  Array array;
  Dims strides;
  std::optional<uintptr_t> stream;

  Lent(const Array& a, std::optional<uintptr_t> stream) : array(a.detached()), strides(a.strides), stream(stream) {
    array.storage->lend();
  }
  ~Lent() { array.storage->take_back(); }

  /// Called by them when they are done with it, from any thread.
  static void take_back(Managed* m) {
    auto* lent = static_cast<Lent*>(m->manager);
    if (lent->stream) try {
        gpu_backend()->wait_for_stream(lent->array.device().id, reinterpret_cast<StreamHandle>(*lent->stream));
      } catch (const Error&) {  // a lost device, or the end of the process
      }
    delete lent;
  }
};

uint8_t type_code(DType t) {
  switch (t) {
    case DType::kBool:
      return kDLBool;
    case DType::kUInt8:
      return kDLUInt;
    case DType::kBFloat16:
      return kDLBfloat;
    case DType::kFloat16:
    case DType::kFloat32:
    case DType::kFloat64:
      return kDLFloat;
    default:
      return kDLInt;
  }
}

template <class Managed>
void drop_unused(PyObject* capsule) {
  const char* name = std::is_same_v<Managed, DLManagedTensor> ? kPlainName : kVersionedName;
  if (!PyCapsule_IsValid(capsule, name)) return;  // its consumer renamed it, and calls the deleter
  auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (m->deleter) m->deleter(m);
}

template <class Managed>
py::object lend(const Array& a, std::optional<uintptr_t> stream) {
  auto* lent = new Lent<Managed>(a, stream);
  const Device d = a.device();
  const bool gpu = d.kind == Device::Kind::kGpu;
  DLTensor& t = lent->managed.tensor;
  t = {a.size() ? a.data() : nullptr,
       gpu ? kDLCUDA : kDLCPU,
       gpu ? d.id : 0,
       a.shape.size(),
       type_code(a.dtype),
       static_cast<uint8_t>(8 * itemsize(a.dtype)),
       1,
       lent->array.shape.begin(),
       lent->strides.begin(),
       0};
  lent->managed.manager = lent;
  lent->managed.deleter = Lent<Managed>::take_back;
  const char* name = kPlainName;
  if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>) {
    lent->managed.major = 1;
    lent->managed.flags = a.storage->read_only() ? kReadOnly : 0;
    name = kVersionedName;
  }
  PyObject* capsule = PyCapsule_New(&lent->managed, name, drop_unused<Managed>);
  if (!capsule) {
    delete lent;
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(capsule);
}

/// A capsule of x. On a GPU `stream` is where it will be used: that stream waits for x, and whoever gets x's memory
/// next waits for that stream. None: the caller sees to both.
py::object to_dlpack(py::handle x, std::optional<uintptr_t> stream, bool versioned) {
  Array& a = concrete(x, "dlpack");
  checked::describe(a);
  engine::wait_to_write(a.var());
  if (a.device().kind == Device::Kind::kCpu) {
    stream.reset();
  } else {
    a.storage->use_on(StreamKind::kCompute);
    if (stream) gpu_backend()->make_stream_wait(a.device().id, reinterpret_cast<StreamHandle>(*stream));
  }
  return versioned ? lend<DLManagedTensorVersioned>(a, stream) : lend<DLManagedTensor>(a, stream);
}

// ---- from others to us ----------------------------------------------------------------------------------------------

DType dtype_of(const DLTensor& t) {
  const int kind = t.code << 8 | t.bits;
  if (t.lanes == 1) switch (kind) {
      case kDLBool << 8 | 8:
        return DType::kBool;
      case kDLUInt << 8 | 8:
        return DType::kUInt8;
      case kDLInt << 8 | 8:
        return DType::kInt8;
      case kDLInt << 8 | 16:
        return DType::kInt16;
      case kDLInt << 8 | 32:
        return DType::kInt32;
      case kDLInt << 8 | 64:
        return DType::kInt64;
      case kDLFloat << 8 | 16:
        return DType::kFloat16;
      case kDLBfloat << 8 | 16:
        return DType::kBFloat16;
      case kDLFloat << 8 | 32:
        return DType::kFloat32;
      case kDLFloat << 8 | 64:
        return DType::kFloat64;
      default:
        break;
    }
  throw Error(ErrorKind::kType, "from_dlpack: expected elements of a type minimx has, got DLPack's code " +
                                    std::to_string(t.code) + " of " + std::to_string(t.bits) + " bits in " +
                                    std::to_string(t.lanes) + " lanes. Cast the array first.");
}

Device device_of(const DLTensor& t) {
  if (t.device_type == kDLCPU || t.device_type == kDLCUDAHost) return {};
  if (t.device_type == kDLCUDA || t.device_type == kDLCUDAManaged)
    return {Device::Kind::kGpu, static_cast<uint8_t>(t.device_id)};
  throw Error(ErrorKind::kDevice, "from_dlpack: expected an array on the CPU or an NVIDIA GPU, got DLPack's device " +
                                      std::to_string(t.device_type) + ". Copy it to the CPU first.");
}

template <class Managed>
py::object take_over(const py::capsule& capsule, const char* used_name) {
  auto* m = static_cast<Managed*>(capsule.get_pointer());
  const DLTensor& t = m->tensor;
  const Dims shape(std::span<const int64_t>(t.shape, static_cast<size_t>(t.ndim)));
  const Dims strides =
      t.strides ? Dims(std::span<const int64_t>(t.strides, static_cast<size_t>(t.ndim))) : shape.contiguous_strides();
  const DType dtype = dtype_of(t);
  const Device device = device_of(t);
  if (device.kind == Device::Kind::kGpu) backend_of(device);
  bool read_only = false;
  if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>) {
    if (m->major != 1)
      throw Error(ErrorKind::kNotImplemented, "from_dlpack: expected DLPack of version 1, got " +
                                                  std::to_string(m->major) + ". Pass the array through NumPy or CuPy.");
    read_only = m->flags & kReadOnly;
  }
  PyCapsule_SetName(capsule.ptr(), used_name);
  auto done = [m] {
    if (m->deleter && Py_IsInitialized()) with_gil([&] { m->deleter(m); });
  };
  char* first = static_cast<char*>(t.data) + t.byte_offset;
  return py::reinterpret_steal<py::object>(wrap(borrowed(first, dtype, shape, strides, device, done, read_only)));
}

/// An array over the memory of a capsule, which is used up. On a GPU the producer has made our compute stream wait.
py::object from_dlpack(const py::capsule& capsule) {
  const std::string name = capsule.name() ? capsule.name() : "";
  if (name == kPlainName) return take_over<DLManagedTensor>(capsule, "used_dltensor");
  if (name == kVersionedName) return take_over<DLManagedTensorVersioned>(capsule, "used_dltensor_versioned");
  throw Error(ErrorKind::kValue,
              "from_dlpack: expected a capsule that nobody has used, got '" + name + "'. Call __dlpack__ again.");
}

}  // namespace

void add_dlpack(py::module_& m) {
  m.def("to_dlpack", to_dlpack, py::arg("x"), py::arg("stream"), py::arg("versioned"));
  m.def("from_dlpack", from_dlpack);
}

}  // namespace minimx::bind
