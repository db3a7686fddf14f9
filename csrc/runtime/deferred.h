// Deferred: operator calls that are put off into one list and run later, one by one, as if they had never been put off.
// The list is what graph/bulk.py compiles; that it runs as one Program is not here yet.
//
// What is not here: which lists are worth compiling into what (minimx/graph/bulk.py), and the engine's own bulks, which
// gather operators for its worker (engine/bulk.h). Essay: docs/engine.md, "Bulk fusion and replay".
//
// invariant: all of it happens under Python's lock. There is one list for the process, of calls of one thread on one
// device. Other threads never add to it; they run it when they need what it makes.
// invariant: a Storage that the list reads or writes knows its slot there (Storage::slot_). Everybody who waits for it
// or pushes on it asks var(), and who wants memory that is not there yet data(); both run the list first. So waits,
// reads, copies, pushes, in-place writes, other threads, a fork and the end of the process need no code of their own.
// invariant: the list may read blocks that queued operators still use: their threads must not look at slot_.
// invariant: planning, checks and the tape happen at the call, as without the list; only the kernel runs later. A call
// that fails then poisons what it writes, as a queued operator does.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/invoke.h"
#include "runtime/plan.h"

namespace minimx {

/// Calls, and the values between them. A value is what an array of some type, shape and place in a storage shows: of
/// one that was there before the list (external), or that a call made. Equal places are one value, whoever made the
/// array. A call that writes in place writes to the value it is given.
struct CallList {
  struct Slot {
    Ref<Storage> storage;   // null once a run has no more need of it
    int newest = -1;        // the last value that lies in it; Value::older leads to the others
    int last_call = -1;     // that uses it
    bool promised = false;  // made by the list: its memory is not there yet
  };
  struct Value {
    int slot, older;
    DType dtype;
    int64_t offset;
    Dims shape, strides;
  };
  struct Arg {
    Operand::Kind kind = Operand::Kind::kNone;
    int value = -1;
    Scalar scalar;
  };
  struct Call {
    Ref<Plan> plan;
    int first_arg, arg_count;  // in `args`
    int first_out, out_count;
  };
  std::vector<Slot> slots;
  std::vector<Value> values;
  std::vector<Arg> args;
  std::vector<int> outs;  // values
  std::vector<Call> calls;
  Device device;

  /// The array that shows a value.
  Array array(int value) const;
};

class Deferred {
 public:
  struct Counts {
    uint64_t calls = 0;  // put off
    uint64_t lists = 0;  // run
  };
  /// Calls that may be put off together, by default, on a GPU. On the CPU none are unless the user asks.
  static constexpr int kDefaultSize = 32;
  static Deferred& get();
  /// How many calls of this thread may be put off together on a device; below 2: none.
  static int most(const Mode& m, Device device) {
    return m.bulk ? m.bulk : device.kind == Device::Kind::kGpu ? kDefaultSize : 0;
  }

  /// Puts a call off, if it is one that can be: then `outs` are arrays that it will write. Else what this thread has
  /// put off runs, for the call comes after that, and the answer is false. `into`: arrays to write to, checked.
  bool call(Plan& plan, Device device, std::span<const Operand> ins, std::vector<Array>& outs,
            std::span<const Array> into, int most);
  /// Runs what is put off, if anything is. Waits for another thread that does.
  void run();

  const Counts& counts() const { return counts_; }

 private:
  friend class Storage;

  bool joins(const Plan& plan, std::span<const Operand> ins, std::span<const Array> into) const;
  bool readable(const Array& a) const;
  bool writable(const Array& a, const OutSpec& out) const;
  int find(const Array& a) const;
  int add_value(const Array& a, int slot);
  int add_slot(const Ref<Storage>& storage, bool promised);
  int value_of(const Array& a);
  void add_args(CallList::Call& call, std::span<const Operand> ins);
  void add_outputs(CallList::Call& call, std::span<const Operand> ins, std::vector<Array>& outs,
                   std::span<const Array> into);

  /// Waits while another thread runs a list.
  void wait_for_runner();
  bool runs_here() const { return running_ && runner_ == std::this_thread::get_id(); }
  void run_call(CallList& list, size_t i);
  void launch_call(CallList& list, const CallList::Call& call);
  static void leave(CallList::Slot& slot);

  CallList list_;
  std::thread::id owner_;
  std::atomic<bool> running_{false};  // a list is being run; its storages still know their slots
  std::thread::id runner_;
  std::mutex mutex_;  // of running_ for those who wait, without Python's lock
  std::condition_variable done_;
  Counts counts_;
};

}  // namespace minimx
