#include "runtime/backend.h"

#include "engine/core.h"
#include "runtime/invoke.h"

namespace minimx {
namespace {

Backend* g_backend = nullptr;

/// Bytes a second that a copy from pageable host memory moves, roughly.
constexpr double kCopyBytesPerNs = 10;

/// An array that a queued copy owns.
struct Copy {
  Array from, to;
};

void copy_now(const Array& from, const Array& to) {
  const Device a = from.device(), b = to.device();
  if (a.kind == Device::Kind::kGpu) from.storage->use_on(StreamKind::kCompute);
  if (b.kind == Device::Kind::kGpu) to.storage->use_on(StreamKind::kCompute);
  g_backend->copy(to.data(), b, from.data(), a, from.bytes(), StreamKind::kCompute);
}

}  // namespace

Backend* gpu_backend() { return g_backend; }
void set_gpu_backend(Backend* backend) { g_backend = backend; }

Backend& backend_of(Device device) {
  const int count = g_backend ? g_backend->device_count() : 0;
  if (device.id < count) return *g_backend;
  throw Error(ErrorKind::kDevice, "array: expected a device that is here, got " + device.str() + " of " +
                                      std::to_string(count) + " GPUs. Use mx.cpu(), or see mx.runtime for why.");
}

void transfer(const Array& from, const Array& to) {
  if (to.size() == 0) return;
  if (to.device().kind == Device::Kind::kCpu) {
    engine::wait_to_read(from.var());
    engine::wait_to_write(to.var());
    engine::BlockingScope blocking;
    return copy_now(from, to);
  }
  engine::Var* reads[] = {from.var(), to.var()};
  engine::Var* writes[] = {to.var()};
  engine::PushInfo info;
  info.name = "copy";
  info.cost_ns = from.device().kind == Device::Kind::kCpu ? static_cast<double>(from.bytes()) / kCopyBytesPerNs : 0;
  info.bytes = from.bytes();
  info.lane = engine::Lane::kCompute;
  auto c = std::make_unique<Copy>(Copy{from.detached(), to.detached()});
  engine::push([c = std::move(c)] { copy_now(c->from, c->to); }, {reads, to.covers_storage() ? size_t{1} : size_t{2}},
               writes, info);
}

Array on_device(const Array& a, Device device) {
  if (a.device() == device) return a;
  Array made = Array::empty(a.shape, a.dtype, device);
  made.storage->set_device(device);
  copy_into(a, made);
  return made;
}

void wait_for(const Array& a) {
  engine::wait_to_read(a.var());
  if (a.device().kind == Device::Kind::kCpu) return;
  engine::BlockingScope blocking;
  g_backend->synchronize(a.device().id, StreamKind::kCompute);
}

void wait_for_all() {
  engine::wait_all();
  engine::BlockingScope blocking;
  for (int i = 0, n = g_backend ? g_backend->device_count() : 0; i < n; ++i) g_backend->synchronize(i);
}

}  // namespace minimx
