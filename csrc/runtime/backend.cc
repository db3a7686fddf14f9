#include "runtime/backend.h"

#include <deque>

#include "engine/core.h"
#include "runtime/checked.h"
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
  const profile::DeviceSpan span(up ? b : a, stream, up ? "copy to the GPU" : "copy from the GPU", from.bytes());
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

constexpr const char* kWaits[kStreamKinds] = {"wait for the compute stream", "wait for the copy stream",
                                              "wait for the communication stream"};

std::shared_ptr<const std::string> site() { return engine::watched() && rules().site ? rules().site() : nullptr; }

}  // namespace

Backend* gpu_backend() { return g_backend; }
void set_gpu_backend(Backend* backend) { g_backend = backend; }

Backend& backend_of(Device device) {
  const int count = g_backend ? g_backend->device_count() : 0;
  if (device.id < count) return *g_backend;
  throw Error(ErrorKind::kDevice, "array: expected a device that is here, got " + device.str() + " of " +
                                      std::to_string(count) + " GPUs. Use mx.cpu(), or see mx.runtime for why.");
}

void order_streams(int device, StreamKind earlier, StreamKind later) {
  using Record = profile::Record;
  const Device gpu{Device::Kind::kGpu, static_cast<uint8_t>(device)};
  const profile::DeviceSpan span(gpu, later, kWaits[static_cast<int>(earlier)],
                                 Record{.kind = Record::Kind::kStall, .value = static_cast<double>(earlier)});
  backend_of(gpu).order(device, earlier, later);
}

void communicate(std::span<const int> devices, const char* name, size_t bytes, const std::function<void()>& work) {
  for (int id : devices) order_streams(id, StreamKind::kCompute, StreamKind::kCommunication);
  profile::Record about{.kind = profile::Record::Kind::kDevice, .value = static_cast<double>(devices.size())};
  about.bytes = bytes;
  about.site = site();
  std::deque<profile::DeviceSpan> spans;
  for (int id : devices)
    spans.emplace_back(Device{Device::Kind::kGpu, static_cast<uint8_t>(id)}, StreamKind::kCommunication, name, about);
  work();
}

void join_communication(std::span<const int> devices) {
  for (int id : devices) order_streams(id, StreamKind::kCommunication, StreamKind::kCompute);
}

void transfer(const Array& from, const Array& to) {
  if (to.size() == 0) return;
  checked::describe(from);
  checked::describe(to);
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
  info.site = site();
  if (from.storage->pinned()) {
    info.cost_ns = 0;
    return transfer_pinned(from, to, info);
  }
  auto c = std::make_unique<Copy>(Copy{from.detached(), to.detached()});
  engine::push([c = std::move(c)] { copy_now(c->from, c->to); }, {reads, to.covers_storage() ? size_t{1} : size_t{2}},
               writes, info);
}

/// One operator takes the place in order of the copy stream; another, on a host thread, copies and holds `from` as its
/// reader until the bytes are there. So no stream need know of the copy, and nothing on the GPU waits for it.
void transfer_beside(const Array& from, const Array& to) {
  if (to.size() == 0) return;
  auto placed = make_ref<engine::Var>();
  engine::PushInfo info;
  info.name = "copy";
  info.bytes = from.bytes();
  info.site = site();
  engine::Var* source[] = {from.var()};
  engine::Var* place[] = {placed.get()};
  engine::push([from = from.detached()] { order_streams(from.device().id, StreamKind::kCompute, StreamKind::kCopy); },
               source, place, info);
  info.name = "copy to the host";
  info.lane = engine::Lane::kHost;
  engine::Var* reads[] = {from.var(), placed.get(), to.var()};
  engine::Var* writes[] = {to.var()};
  engine::push(
      [from = from.detached(), to = to.detached(), placed] {
        const profile::DeviceSpan span(from.device(), StreamKind::kCopy, "copy from the GPU", from.bytes());
        g_backend->copy(to.data(), to.device(), from.data(), from.device(), from.bytes(), StreamKind::kCopy);
      },
      {reads, to.covers_storage() ? size_t{2} : size_t{3}}, writes, info);
}

Array on_device(const Array& a, Device device, bool beside) {
  if (a.device() == device) return a;
  Array made;
  if (a.storage->pinned() && device.kind == Device::Kind::kGpu && a.contiguous()) {
    made = Array::over(Storage::allocate(a.bytes(), device, StreamKind::kCopy), a.shape, a.dtype);
  } else {
    made = Array::empty(a.shape, a.dtype, device);
    made.storage->set_device(device);
  }
  if (beside && a.device().kind == Device::Kind::kGpu && device.kind == Device::Kind::kCpu)
    transfer_beside(contiguous(a.detached()), made);
  else
    copy_into(a, made);
  return made;
}

void wait_for(const Array& a) {
  Repeats::boundary();
  checked::describe(a);
  engine::wait_to_read(a.var());
  if (a.device().kind == Device::Kind::kCpu) return;
  a.storage->use_on(StreamKind::kCompute);
  engine::BlockingScope blocking;
  const engine::WaitTrace trace("wait for the GPU", a.var());
  g_backend->synchronize(a.device().id, StreamKind::kCompute);
}

void wait_for_all() {
  Repeats::boundary();
  Deferred::run_all();
  engine::wait_all();
  engine::BlockingScope blocking;
  for (int i = 0, n = g_backend && g_backend->usable() ? g_backend->device_count() : 0; i < n; ++i)
    g_backend->synchronize(i);
}

}  // namespace minimx
