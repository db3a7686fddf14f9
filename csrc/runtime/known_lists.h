// KnownLists: lists of calls that have run, how often, and the Programs that may run in their place.
// A list that comes again is compiled beside the user's thread and runs one by one until its Program is there. The
// Programs of pointwise calls give the same bits, so it does not matter when that is; others take over at a fixed run.
#pragma once
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "runtime/call_list.h"
#include "runtime/program.h"

namespace minimx {

/// One such list. Its fields change under Python's lock.
struct KnownList {
  std::vector<uint64_t> words;            // CallList::signature()
  std::vector<CallList::Number> numbers;  // of the last run
  std::vector<bool> varies;               // likewise: has it ever been another? Then it is an input of the Program
  std::vector<Ref<Plan>> plans;           // so that no other plans get their addresses
  uint64_t runs = 0;
  bool asked = false;     // for a Program
  bool answered = false;  // with one, or with none
  Ref<const Program> program;

  /// Gives up Python's lock until the compiler has answered, or has had more than enough time.
  void wait();
  /// Memory for the intermediates of runs, kept; all lists of a device share it.
  Ref<Storage> arena_for(const Program& p);
  /// Those of `numbers` that vary, as arrays of no axes on the device, always in the same memory there.
  std::vector<Array> inputs(Device device);

 private:
  Arena arena_;
  Array carried_;  // elements of 8 bytes
  std::vector<uint64_t> carries_;
};

class KnownLists {
 public:
  struct Counts {
    uint64_t compiled = 0;  // Programs that were made
    uint64_t programs = 0;  // runs of them
  };
  /// What the bind layer provides: starts to compile a list into a Program whose inputs are its externals and whose
  /// outputs `live`; calls answer() some time, on any thread that has Python's lock.
  using Compiler = void (*)(const CallList& list, std::span<const int> live, std::shared_ptr<KnownList> known);

  static KnownLists& get();
  void set_compiler(Compiler f) { compiler_ = f; }
  /// The list as it is known from now on; null where there is no compiler, or too little to compile.
  std::shared_ptr<KnownList> find(const CallList& list);
  /// Is the next run to be that of its Program, and that still on its way? Of lists that are not pointwise.
  bool awaited(const KnownList& known) const;
  /// Counts a run of `list`, as which it is known, and asks for its Program in time. True if that is to run now in its
  /// place; else the list runs one by one. `live`: list.live().
  bool ready(const std::shared_ptr<KnownList>& known, const CallList& list, std::span<const int> live);
  /// The Program that was asked for, or null if there can be none.
  void answer(KnownList& known, Ref<const Program> program);
  /// Forgets all lists.
  void clear();
  const Counts& counts() const { return counts_; }

 private:
  /// From which run on a list is worth a compiler. Lists that run once are those of set-up code.
  static constexpr uint64_t kAskAt = 2;
  /// From which run on the Program of a list that is not pointwise runs: its bits may be others.
  static constexpr uint64_t kChangeAt = 8;
  /// Lists kept before the table starts anew; a bound, since shapes and numbers may never repeat.
  static constexpr size_t kMaxLists = 1024;

  static std::shared_ptr<KnownList> made(const CallList& list, std::vector<uint64_t> words, std::vector<bool> varies);

  std::unordered_map<uint64_t, std::vector<std::shared_ptr<KnownList>>> known_;  // by a hash of the words
  size_t size_ = 0;
  Compiler compiler_ = nullptr;
  Counts counts_;
};

}  // namespace minimx
