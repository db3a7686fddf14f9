#include "runtime/backend.h"

#include "engine/core.h"
#include "runtime/deferred.h"
#include "runtime/profile.h"
#include "runtime/repeats.h"

namespace minimx {
namespace {

Backend* g_backend = nullptr;

/// Bytes a second that a copy from pageable host memory moves, roughly.
constexpr double kCopyBytesPerNs = 10;

/// An array that a queued copy owns.
struct Copy {
  Array from, to;
};

/// True for a copy that runs beside compute: from pinned memory into memory that is the copy stream's.
bool runs_beside(const Array& from, const Array& to) {
  return from.storage->pinned() && to.storage->home() == StreamKind::kCopy;
}

void copy_now(const Array& from, const Array& to) {
  const Device a = from.device(), b = to.device();
  const StreamKind stream = runs_beside(from, to) ? StreamKind::kCopy : StreamKind::kCompute;
  if (a.kind == Device::Kind::kGpu) from.storage->use_on(stream);
  if (b.kind == Device::Kind::kGpu) to.storage->use_on(stream);
  const bool up = b.kind == Device::Kind::kGpu;
  const profile::DeviceSpan span(up ? b : a, stream, up ? "copy to the GPU" : "copy from the GPU");
  g_backend->copy(to.data(), b, from.data(), a, from.bytes(), stream);
}

/// The copy is put on its stream by one operator; another holds the pinned array, as its reader, until the bytes are
/// on the device, so that whoever writes to it next, or gets its memory next, comes after that.
void transfer_pinned(const Array& from, const Array& to, engine::PushInfo info) {
  struct Copied : engine::Var {
    std::function<void()> wait;
  };
  auto copied = make_ref<Copied>();
  engine::Var* reads[] = {from.var(), to.var()};
  engine::Var* writes[] = {copied.get(), to.var()};
  const Array source = from.detached();
  engine::push(
      [source, target = to.detached(), copied] {
        copy_now(source, target);
        const bool beside = runs_beside(source, target);
        copied->wait = g_backend->mark(target.device().id, beside ? StreamKind::kCopy : StreamKind::kCompute);
      },
      {reads, to.covers_storage() ? size_t{1} : size_t{2}}, writes, info);
  engine::Var* held[] = {from.var(), copied.get()};
  info.name = "wait for a copy";
  info.lane = engine::Lane::kHost;
  engine::push([source, copied] { copied->wait(); }, held, {}, info);
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
    Repeats::boundary();
    engine::wait_to_read(from.var());
    engine::wait_to_write(to.var());
    engine::BlockingScope blocking;
    const engine::WaitTrace trace("copy from the GPU", from.var());
    return copy_now(from, to);
  }
  engine::Var* reads[] = {from.var(), to.var()};
  engine::Var* writes[] = {to.var()};
  engine::PushInfo info;
  info.name = "copy";
  info.cost_ns = from.device().kind == Device::Kind::kCpu ? static_cast<double>(from.bytes()) / kCopyBytesPerNs : 0;
  info.bytes = from.bytes();
  info.site = engine::tracing() && rules().site ? rules().site() : nullptr;
  if (from.storage->pinned()) {
    info.cost_ns = 0;
    return transfer_pinned(from, to, info);
  }
  auto c = std::make_unique<Copy>(Copy{from.detached(), to.detached()});
  engine::push([c = std::move(c)] { copy_now(c->from, c->to); }, {reads, to.covers_storage() ? size_t{1} : size_t{2}},
               writes, info);
}

Array on_device(const Array& a, Device device) {
  if (a.device() == device) return a;
  Array made;
  if (a.storage->pinned() && device.kind == Device::Kind::kGpu && a.contiguous()) {
    made = Array::over(Storage::allocate(a.bytes(), device, StreamKind::kCopy), a.shape, a.dtype);
  } else {
    made = Array::empty(a.shape, a.dtype, device);
    made.storage->set_device(device);
  }
  copy_into(a, made);
  return made;
}

void wait_for(const Array& a) {
  Repeats::boundary();
  engine::wait_to_read(a.var());
  if (a.device().kind == Device::Kind::kCpu) return;
  a.storage->use_on(StreamKind::kCompute);
  engine::BlockingScope blocking;
  const engine::WaitTrace trace("wait for the GPU", a.var());
  g_backend->synchronize(a.device().id, StreamKind::kCompute);
}

void wait_for_all() {
  Repeats::boundary();
  Deferred::get().run();
  engine::wait_all();
  engine::BlockingScope blocking;
  for (int i = 0, n = g_backend && g_backend->usable() ? g_backend->device_count() : 0; i < n; ++i)
    g_backend->synchronize(i);
}

}  // namespace minimx
