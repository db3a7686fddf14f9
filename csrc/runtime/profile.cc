#include "runtime/profile.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>
#include <unordered_map>

#include "engine/core.h"
#include "engine/spin.h"
#include "runtime/backend.h"
#include "runtime/captured.h"

namespace minimx::profile {

/// Work on a stream, between two moments of it.
struct detail::Moments {
  Record record;
  std::unique_ptr<DeviceMoment> begin, end;
};

namespace {

using engine::TraceEvent;
using Kind = Record::Kind;

constexpr size_t kPending = 4096;  // moments of a stream that may wait to be read

/// An operator whose function runs on a thread.
struct Open {
  uint64_t op;
  const char* name;
  int64_t begin_ns;
  int8_t gpu;
  bool program;
};

/// A thread's records. Its thread appends; others copy or clear.
struct Buffer {
  std::mutex mutex;  // guards what follows
  std::deque<Record> records;
  std::unordered_map<std::string, Text> names;
  uint64_t dropped = 0;
  Thread thread;
  std::vector<Open> open;          // the thread's own: no lock
  uint64_t run = 0;                // State::run when `open` was begun
  std::atomic<bool> ended{false};  // its thread has: clear() takes it away
};

/// A stream's work whose times have not been read. Times are summed from one moment to the next: each difference is
/// exact to half a microsecond, however long the whole.
struct Stream {
  std::mutex mutex;
  std::unique_ptr<DeviceMoment> last;
  double last_ns = 0;  // steady clock
  std::deque<std::shared_ptr<detail::Moments>> pending;
  std::deque<Record> records;
  uint64_t dropped = 0;
};

struct State {
  const uint64_t epoch = engine::detail::epoch();
  std::mutex mutex;  // guards the lists
  std::mutex tying;  // held while a stream gets its first moment
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::unordered_map<int, std::unique_ptr<Stream>> streams;  // by GPU and stream
  std::atomic<size_t> limit{0};
  std::atomic<bool> memory{false}, step_by_step{false}, running{false};
  std::atomic<uint64_t> run{0}, gpus{0};       // starts so far; bit i: GPU i was used
  std::array<std::atomic<size_t>, 65> used{};  // bytes of the CPU, then of each GPU, as last recorded
};

std::atomic<State*> g_state{nullptr};  // leaked: threads may report while the process ends

/// The state of this process: a forked child begins with an empty one, whatever its parent's locks were doing.
State& state() {
  State* s = g_state.load(std::memory_order_acquire);
  while (!s || s->epoch != engine::detail::epoch()) {
    State* fresh = new State;
    if (g_state.compare_exchange_strong(s, fresh, std::memory_order_acq_rel)) return *fresh;
    delete fresh;
  }
  return *s;
}

/// A thread's buffer, in the process that made it.
struct Mine {
  Buffer* buffer = nullptr;
  uint64_t epoch = 0;
  bool here() const { return buffer && epoch == engine::detail::epoch(); }
  ~Mine() {
    if (here()) buffer->ended.store(true, std::memory_order_release);
    buffer = nullptr;
  }
};

Buffer& buffer() {
  thread_local Mine mine;
  if (mine.here()) return *mine.buffer;
  State& s = state();
  auto made = std::make_unique<Buffer>();
  using engine::Role;
  made->thread = {engine::thread_number(), gettid(),
                  engine::t_role == Role::kCompute ? "worker"
                  : engine::t_role == Role::kHost  ? "host"
                                                   : "caller"};
  Buffer& b = *made;
  mine.buffer = made.get();
  mine.epoch = s.epoch;
  std::lock_guard lock(s.mutex);
  s.buffers.push_back(std::move(made));
  return b;
}

/// Room for one more.
void make_room(std::deque<Record>& records, uint64_t& dropped) {
  for (; !records.empty() && records.size() >= state().limit.load(std::memory_order_relaxed); ++dropped)
    records.pop_front();
}

/// Under the buffer's lock. One text for each name: records hold it beyond the life of who had it.
Text text(Buffer& b, std::string_view name) {
  Text& kept = b.names[std::string(name)];
  if (!kept) kept = std::make_shared<const std::string>(name);
  return kept;
}

void append(Record r, std::string_view name, std::string_view note = {}) {
  Buffer& b = buffer();
  r.thread = b.thread.number;
  std::lock_guard lock(b.mutex);
  r.name = text(b, name);
  if (!note.empty()) r.note = text(b, note);
  make_room(b.records, b.dropped);
  b.records.push_back(std::move(r));
}

std::vector<Open>& open_runs() {
  Buffer& b = buffer();
  if (const uint64_t run = state().run.load(std::memory_order_relaxed); b.run != run) {
    b.run = run;  // what was open when the profiler stopped has no end
    b.open.clear();
  }
  return b.open;
}

void sample(State& s, int gpu, int64_t time_ns) {
  const Device device{gpu < 0 ? Device::Kind::kCpu : Device::Kind::kGpu, static_cast<uint8_t>(std::max(gpu, 0))};
  const size_t used = memory_info(device).used;
  if (s.used[gpu + 1].exchange(used, std::memory_order_relaxed) == used) return;
  Record r{.kind = Kind::kCounter, .gpu = static_cast<int8_t>(gpu), .begin_ns = time_ns, .end_ns = time_ns};
  r.value = static_cast<double>(used);
  append(std::move(r), "memory");
}

void sample_memory(int64_t time_ns) {
  State& s = state();
  if (!s.memory.load(std::memory_order_relaxed)) return;
  sample(s, -1, time_ns);
  for (uint64_t gpus = s.gpus.load(std::memory_order_relaxed), i = 0; gpus >> i; ++i)
    if (gpus >> i & 1) sample(s, static_cast<int>(i), time_ns);
}

class Listener final : public engine::TraceSink {
 public:
  void on_event(const TraceEvent& e) override {
    switch (e.kind) {
      case TraceEvent::Kind::kPush: {
        Record r{.kind = Kind::kPush, .op = e.op, .begin_ns = e.time_ns, .end_ns = e.time_ns};
        r.bytes = e.info->bytes;
        r.site = e.info->site;
        std::copy_n(e.writes.begin(), std::min(e.writes.size(), r.variables.size()), r.variables.begin());
        append(std::move(r), e.name);
        return sample_memory(e.time_ns);
      }
      case TraceEvent::Kind::kStart:
      case TraceEvent::Kind::kWaitBegin:
        return open_runs().push_back({e.op, e.name, e.time_ns, -1, false});
      case TraceEvent::Kind::kEnd:
      case TraceEvent::Kind::kWaitEnd:
        return end(e);
    }
  }

 private:
  static void end(const TraceEvent& e) {
    std::vector<Open>& open = open_runs();
    if (open.empty()) return;  // it began before the profiler did
    const Open o = open.back();
    open.pop_back();
    const bool wait = e.kind == TraceEvent::Kind::kWaitEnd;
    Record r{.kind = wait ? Kind::kWait : Kind::kRun, .program = o.program, .failed = e.failed, .gpu = o.gpu};
    r.op = o.op;
    r.begin_ns = o.begin_ns;
    r.end_ns = e.time_ns;
    if (!e.reads.empty()) r.variables[0] = e.reads[0];
    append(std::move(r), e.name);
    if (!wait) sample_memory(e.time_ns);
  }
};

Stream& stream_of(int gpu, StreamKind kind) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  auto& stream = s.streams[gpu * kStreamKinds + static_cast<int>(kind)];
  if (!stream) stream = std::make_unique<Stream>();
  return *stream;
}

/// Once a stream: the time of a first moment. It is what the host's clock shows when the GPU gets there; but of two
/// streams of a GPU the second is tied to the first, since to compare them is what a profile is for.
void tie(int gpu, StreamKind stream) {
  Stream& s = stream_of(gpu, stream);
  const auto tied = [&] {
    std::lock_guard lock(s.mutex);
    return s.last != nullptr;
  };
  if (tied()) return;
  const std::lock_guard one_by_one(state().tying);
  if (tied()) return;
  std::unique_ptr<DeviceMoment> here = gpu_backend()->moment(gpu, stream);
  here->since(*here);
  double at = static_cast<double>(engine::now_ns());
  for (int k = 0; k < kStreamKinds; ++k) {
    if (k == static_cast<int>(stream)) continue;
    Stream& other = stream_of(gpu, static_cast<StreamKind>(k));
    std::lock_guard lock(other.mutex);
    if (!other.last) continue;
    at = other.last_ns + here->since(*other.last);
    break;
  }
  std::lock_guard lock(s.mutex);
  s.last = std::move(here);
  s.last_ns = at;
}

/// Under the stream's lock: reads the oldest until `most` are left.
void settle(Stream& s, size_t most) {
  while (s.pending.size() > most) {
    const std::shared_ptr<detail::Moments> m = std::move(s.pending.front());
    s.pending.pop_front();
    try {
      const double begin = s.last_ns + m->begin->since(*s.last);
      s.last_ns = begin + std::max(0.0, m->end->since(*m->begin));
      m->record.begin_ns = static_cast<int64_t>(begin);
      m->record.end_ns = static_cast<int64_t>(s.last_ns);
    } catch (const Error&) {  // a lost device: whoever reads its results is told
      ++s.dropped;
      continue;
    }
    s.last = std::move(m->end);
    make_room(s.records, s.dropped);
    s.records.push_back(std::move(m->record));
  }
}

template <class F>
void each_buffer(F f) {
  State& s = state();
  std::lock_guard list(s.mutex);
  for (auto& b : s.buffers) {
    std::lock_guard lock(b->mutex);
    f(*b);
  }
}

std::vector<Stream*> streams() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  std::vector<Stream*> all;
  for (auto& [key, stream] : s.streams) all.push_back(stream.get());
  return all;
}

}  // namespace

void start(size_t limit, bool memory, bool step_by_step) {
  static auto* listener = new Listener;  // leaked, as the state
  engine::core();                        // whose handlers end this in a forked child
  State& s = state();
  s.limit = std::max<size_t>(limit, 1);
  s.memory = memory;
  s.step_by_step = step_by_step;
  for (auto& used : s.used) used = ~size_t{0};
  ++s.run;
  s.running = true;
  engine::set_trace(listener);
  sample_memory(engine::now_ns());
}

void stop() {
  state().running = false;
  engine::set_trace(nullptr);
}

bool running() { return state().running; }

bool step_by_step() { return engine::tracing() && state().step_by_step.load(std::memory_order_relaxed); }

void clear() {
  {
    State& s = state();
    std::lock_guard lock(s.mutex);
    std::erase_if(s.buffers, [](const auto& b) { return b->ended.load(std::memory_order_acquire); });
  }
  each_buffer([](Buffer& b) {
    b.records.clear();
    b.names.clear();
    b.dropped = 0;
  });
  for (Stream* s : streams()) {
    std::lock_guard lock(s->mutex);
    settle(*s, 0);
    s->records.clear();
    s->dropped = 0;
  }
}

std::vector<Record> records() {
  std::vector<Record> all;
  each_buffer([&](Buffer& b) { all.insert(all.end(), b.records.begin(), b.records.end()); });
  for (Stream* s : streams()) {
    std::lock_guard lock(s->mutex);
    settle(*s, 0);
    all.insert(all.end(), s->records.begin(), s->records.end());
  }
  return all;
}

std::vector<Thread> threads() {
  std::vector<Thread> all;
  each_buffer([&](Buffer& b) { all.push_back(b.thread); });
  return all;
}

uint64_t dropped() {
  uint64_t sum = 0;
  each_buffer([&](Buffer& b) { sum += b.dropped; });
  for (Stream* s : streams()) {
    std::lock_guard lock(s->mutex);
    sum += s->dropped;
  }
  return sum;
}

void add(Record record, const std::string& name, const std::string& note) { append(std::move(record), name, note); }

namespace detail {

void note_program() {
  if (std::vector<Open>& open = open_runs(); !open.empty()) open.back().program = true;
}

int64_t now() { return engine::now_ns(); }

std::shared_ptr<Moments> begin_device(Record record, const char* name) {
  if (capturing) return nullptr;
  const int gpu = record.gpu;
  const auto stream = static_cast<StreamKind>(record.stream);
  std::vector<Open>& open = open_runs();
  if (!open.empty()) open.back().gpu = record.gpu;
  state().gpus.fetch_or(uint64_t{1} << (gpu & 63), std::memory_order_relaxed);
  auto m = std::make_shared<Moments>();
  m->record = std::move(record);
  m->record.op = open.empty() ? 0 : open.back().op;
  const char* known = name ? name : open.empty() ? "" : open.back().name;
  m->record.name = std::make_shared<const std::string>(known);
  tie(gpu, stream);
  m->begin = gpu_backend()->moment(gpu, stream);
  return m;
}

void end_device(std::shared_ptr<Moments> m) {
  const int gpu = m->record.gpu;
  const auto stream = static_cast<StreamKind>(m->record.stream);
  try {
    m->end = gpu_backend()->moment(gpu, stream);
  } catch (const Error&) {  // the work's own error is on its way
    return;
  }
  Stream& s = stream_of(gpu, stream);
  std::lock_guard lock(s.mutex);
  s.pending.push_back(std::move(m));
  if (s.pending.size() > kPending) settle(s, kPending / 2);
}

void end_step(const std::string& name, const Text& note, const Text& site, Device device, int64_t begin_ns) {
  if (capturing) return;
  const std::vector<Open>& open = open_runs();
  Record r{.kind = Kind::kStep, .op = open.empty() ? 0 : open.back().op, .begin_ns = begin_ns, .end_ns = now()};
  if (device.kind == Device::Kind::kGpu) r.gpu = static_cast<int8_t>(device.id);
  r.site = site;
  append(std::move(r), name, note ? std::string_view(*note) : std::string_view());
}

}  // namespace detail
}  // namespace minimx::profile
