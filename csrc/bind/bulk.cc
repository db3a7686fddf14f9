// Deferred calls for Python: how many, what compiles their lists (minimx/graph/bulk.py), and the thread that runs a
// list that nobody runs.
#include <pthread.h>
#include <pybind11/stl.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "bind/program.h"
#include "bind/rules.h"
#include "bind/submodules.h"
#include "python/gil.h"
#include "runtime/deferred.h"
#include "runtime/known_lists.h"
#include "runtime/repeats.h"

namespace minimx::bind {
namespace {

using namespace std::chrono_literals;

/// What a list is to Python: externals and calls, with ids of values as bulk.py counts them.
class ListText {
 public:
  ListText(const CallList& list, const KnownList& known) : list_(list), ids_(list.values.size(), -1) {
    for (int v : list.externals()) {
      externals.append(py::make_tuple(shape_of(list.values[v].shape), dtype_name(list.values[v].dtype)));
      ids_[v] = next_++;
    }
    for (size_t i = 0; i < known.numbers.size(); ++i) {
      numbers_.push_back(known.varies[i] ? next_++ : -1);
      if (known.varies[i]) externals.append(py::make_tuple(py::tuple(), dtype_name(known.numbers[i].dtype)));
    }
    for (const CallList::Call& c : list.calls) calls.append(call(c));
  }
  py::list ids(std::span<const int> values) const {
    py::list out;
    for (int v : values) out.append(ids_[v]);
    return out;
  }
  py::list externals, calls;

 private:
  static py::tuple shape_of(const Dims& shape) {
    py::tuple out(shape.size());
    for (int i = 0; i < shape.size(); ++i) out[i] = shape[i];
    return out;
  }
  py::object argument(const CallList::Arg& a) {
    if (a.kind == Operand::Kind::kArray) return py::int_(ids_[a.value]);
    if (a.kind == Operand::Kind::kNone) return py::none();
    const Scalar& s = a.scalar;
    const py::object number = s.kind == 'b'   ? py::object(py::bool_(s.i != 0))
                              : s.kind == 'i' ? py::object(py::int_(s.i))
                                              : py::object(py::float_(s.f));
    const int id = numbers_[number_++];
    if (id < 0) return py::make_tuple("number", number);
    return py::make_tuple("number", number, id);
  }
  py::tuple call(const CallList::Call& c) {
    py::list args, outs, into;
    for (int i = 0; i < c.arg_count; ++i) args.append(argument(list_.args[c.first_arg + i]));
    for (int i = 0; i < c.out_count; ++i) {
      const int v = list_.outs[c.first_out + i];
      if (c.in_place) into.append(ids_[v]);
      outs.append(ids_[v] = next_++);
    }
    return py::make_tuple(c.plan->op->name, attributes_dict(c.plan->attrs.get()), args, outs,
                          c.in_place ? py::object(into) : py::object(py::none()), c.site ? *c.site : std::string());
  }

  const CallList& list_;
  std::vector<int> ids_;      // of values
  std::vector<int> numbers_;  // of numbers that vary; of others -1
  size_t number_ = 0;         // the next one
  int next_ = 0;
};

py::object& compiler() {
  static auto* f = new py::object;
  return *f;
}

void compile(const CallList& list, std::span<const int> live, std::shared_ptr<KnownList> known) {
  try {
    const ListText text(list, *known);
    const py::cpp_function answer([known](const py::object& program) {
      KnownLists::get().answer(*known,
                               program.is_none() ? nullptr : Ref<const Program>(program.cast<PyProgram&>().program));
    });
    const int gpu = list.device.kind == Device::Kind::kGpu ? list.device.id : -1;
    compiler()(text.externals, text.calls, text.ids(live), gpu, answer);
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("minimx: while a list of calls was handed to its compiler");
  }
}

/// Runs lists that wait for longer than a few milliseconds, as their thread does something else. While lists come it
/// looks now and then; else it sleeps.
class Watch {
 public:
  static Watch& get() {
    static auto* made = [] {
      pthread_atfork(nullptr, nullptr, [] { new (&get()) Watch; });  // a forked child has no such thread
      return new Watch;
    }();
    return *made;
  }
  /// A list begins.
  void begun() {
    if (!asleep_.load(std::memory_order_relaxed)) return;
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    asleep_.store(false, std::memory_order_relaxed);
    if (!thread_.joinable()) thread_ = std::thread([this] { watch(); });
    wake_.notify_one();
  }
  /// At the end of the process.
  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
      asleep_.store(false, std::memory_order_relaxed);
    }
    wake_.notify_one();
    const WithoutGil release;
    if (thread_.joinable()) thread_.join();
  }

 private:
  static constexpr auto kLook = 2ms;
  static constexpr int kLooks = 25;  // without a list, before it sleeps

  void watch() {
    std::unique_lock lock(mutex_);
    std::vector<uint64_t> before;
    for (int idle = 0; !stopped_;) {
      if (idle < kLooks) {
        wake_.wait_for(lock, kLook, [&] { return stopped_; });
      } else {
        asleep_.store(true, std::memory_order_relaxed);
        wake_.wait(lock, [&] { return stopped_ || !asleep_.load(std::memory_order_relaxed); });
        idle = 0;
      }
      const std::span<Deferred> lists = Deferred::all();
      before.resize(lists.size());
      ++idle;
      for (size_t i = 0; i < lists.size(); ++i) {
        const uint64_t now = lists[i].waiting();
        if (now) idle = 0;
        if (now && now == before[i]) {
          lock.unlock();
          with_gil([&] { lists[i].run_list(now); });
          lock.lock();
        }
        before[i] = now;
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<bool> asleep_{true};
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace

void add_bulk(py::module_& m) {
  Deferred::set_begun([] { Watch::get().begun(); });
  m.def(
      "set_bulk_size",
      [](int size) {
        Deferred::run_own();
        engine::set_bulk_size(std::max(size, 0));
        return std::exchange(mode().bulk, std::max(size, -1));
      },
      "The most calls of this thread that are put off together; -1: what is best by default.");
  m.def(
      "set_default_bulk_size", [](int size) { Deferred::set_default_size(size); },
      "The same for threads that have no number of their own.");
  m.def(
      "set_bulk_compiler",
      [](py::object f) {
        compiler() = std::move(f);
        KnownLists::get().set_compiler(compiler().is_none() ? nullptr : compile);
      },
      "f(externals, calls, live, gpu, answer) compiles lists of calls, or None: they run one by one.");
  m.def(
      "set_replay",
      [](int when) {
        Deferred::run_own();
        const Repeats::When before = Repeats::when();
        Repeats::set(static_cast<Repeats::When>(when));
        return static_cast<int>(before);
      },
      "When this thread puts off whole sequences of calls that it repeats: 0 never, 1 always, 2 where it pays. Returns "
      "what was.");
  m.def(
      "set_default_replay", [](int when) { Repeats::set_default(static_cast<Repeats::When>(when)); },
      "The same for threads that were not asked.");
  m.def("run_deferred", [] { Deferred::run_all(); });
  m.def("forget_lists", [] { KnownLists::get().clear(); });
  m.def(
      "bulk_counts",
      [] {
        const Deferred::Counts& c = Deferred::counts();
        const KnownLists::Counts& k = KnownLists::get().counts();
        return std::map<std::string, uint64_t>{
            {"calls", c.calls}, {"lists", c.lists}, {"compiled", k.compiled}, {"programs", k.programs}};
      },
      "Calls that were put off, lists of them that ran, programs made of lists, and runs of these.");
  m.def("stop_watching_lists", [] { Watch::get().stop(); });
}

}  // namespace minimx::bind
