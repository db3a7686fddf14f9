// Profile: what happened while the profiler ran, as records in a buffer of each thread. The engine's trace hooks report
// operators and waits; Program and launch add what only they know: steps, and on a GPU when it did the work. Off, each
// place costs the branch of engine::tracing(). Records become a timeline and tables in minimx/profiler.
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/trace.h"
#include "runtime/storage.h"

namespace minimx::profile {

using Text = std::shared_ptr<const std::string>;

struct Record {
  enum class Kind : uint8_t { kPush, kRun, kStep, kWait, kDevice, kSpan, kCounter, kMark, kStall };
  Kind kind{};
  bool program = false;  // run: of hybridized code
  bool failed = false;   // run: it failed, or was skipped because an input had
  int8_t gpu = -1;       // whose work or memory it is; -1: the CPU
  uint8_t stream = 0;    // kDevice, kStall: StreamKind
  int thread = 0;        // engine::thread_number()
  uint64_t op = 0;       // push number: joins an operator's push, run, steps and device times
  int64_t begin_ns = 0;  // steady clock; end_ns is the same for what takes no time
  int64_t end_ns = 0;
  double value = 0;  // counter; kDevice: GPUs that communicate, or 0; kStall: the stream that is waited for
  size_t bytes = 0;  // push: what the operator keeps alive; kDevice: what is copied or summed, or 0
  Text name{};
  Text note{};                          // step: members of a fused group; kDevice: the same, or a captured run's steps
                                        // as CapturedRuns lists them; span, counter, mark: the domain
  Text site{};                          // the user's line
  std::array<uint64_t, 4> variables{};  // push: the first that it writes; wait: what is waited for
};

struct Thread {
  int number = 0;
  int64_t native_id = 0;  // as the system counts
  const char* role = "";  // "caller", "worker" or "host"
};

/// Listens from now on. Each thread keeps its last `limit` records. `memory`: used bytes are recorded where they
/// change. `step_by_step`: Programs are not run as captured graphs meanwhile, so that each step has its own times.
void start(size_t limit, bool memory, bool step_by_step);
/// Ends listening; what was recorded stays.
void stop();
bool running();
/// Is it a time in which Programs are to run step by step?
bool step_by_step();
/// Forgets all records.
void clear();
/// All records kept, thread by thread. Waits for the GPUs' part.
std::vector<Record> records();
std::vector<Thread> threads();
/// Records that had to make room.
uint64_t dropped();
/// Records what the user reports: a span, counter or mark of the calling thread.
void add(Record record, const std::string& name, const std::string& note);

namespace detail {
struct Moments;
std::shared_ptr<Moments> begin_device(Record record, const char* name);
void end_device(std::shared_ptr<Moments> moments);
void end_step(const std::string& name, const Text& note, const Text& site, Device device, int64_t begin_ns);
int64_t now();
void note_program();
}  // namespace detail

/// The operator that runs on this thread is a Program.
inline void note_program() {
  if (engine::tracing()) [[unlikely]]
    detail::note_program();
}

/// While it lives, what the calling thread puts on a stream of a GPU is timed there, as one piece of work. A null name:
/// that of the operator that runs. Nothing on the CPU, and while a device graph is captured.
class DeviceSpan {
 public:
  DeviceSpan(Device device, StreamKind stream, const char* name, size_t bytes = 0)
      : DeviceSpan(device, stream, name, Record{.kind = Record::Kind::kDevice, .bytes = bytes}) {}
  /// The same with what else there is to say of it: `about` has its kind, bytes, value and site.
  DeviceSpan(Device device, StreamKind stream, const char* name, Record about) {
    if (engine::tracing() && device.kind == Device::Kind::kGpu) [[unlikely]] {
      about.gpu = static_cast<int8_t>(device.id);
      about.stream = static_cast<uint8_t>(stream);
      moments_ = detail::begin_device(std::move(about), name);
    }
  }
  ~DeviceSpan() {
    if (moments_) [[unlikely]]
      detail::end_device(std::move(moments_));
  }
  DeviceSpan(const DeviceSpan&) = delete;
  DeviceSpan& operator=(const DeviceSpan&) = delete;

 private:
  std::shared_ptr<detail::Moments> moments_;
};

/// While it lives, a step of a Program runs on the CPU, or is put on a GPU's compute stream.
class StepSpan {
 public:
  StepSpan(Device device, const std::string& name, const Text& note, const Text& site)
      : device_span_(device, StreamKind::kCompute, name.c_str(), about(note, site)),
        device_(device),
        name_(name),
        note_(note),
        site_(site) {
    if (engine::tracing()) [[unlikely]]
      begin_ns_ = detail::now();
  }
  ~StepSpan() {
    if (begin_ns_) [[unlikely]]
      detail::end_step(name_, note_, site_, device_, begin_ns_);
  }
  StepSpan(const StepSpan&) = delete;
  StepSpan& operator=(const StepSpan&) = delete;

 private:
  static Record about(const Text& note, const Text& site) {
    Record r{.kind = Record::Kind::kDevice};
    if (engine::tracing()) [[unlikely]] {
      r.note = note;
      r.site = site;
    }
    return r;
  }

  DeviceSpan device_span_;
  Device device_;
  const std::string& name_;
  const Text& note_;
  const Text& site_;
  int64_t begin_ns_ = 0;
};

}  // namespace minimx::profile
