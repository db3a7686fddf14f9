// Repeats: what a thread does again and again. Between boundaries (entering autograd.record(), waiting for a result, a
// Program's run) it calls plans; a loop calls the same ones in the same order each time. What is put off runs there.
// What has come twice after the same forerunner is expected to come again, and as long as it does, all calls are put
// off (deferred.h), to be compiled together: forward and backward of an imperative training loop become one Program. At
// the first difference what was put off runs, and the rest of the sequence is called as ever.
//
// This decides only what is put off, never what is computed. Essay: docs/engine.md, "Replay".
#pragma once
#include <unordered_map>
#include <vector>

#include "runtime/plan.h"
#include "runtime/profile.h"

namespace minimx {

class Repeats {
 public:
  /// Sequences longer than this are not looked at.
  static constexpr size_t kMost = 8192;

  enum class When : int8_t { kNever, kAlways, kPays };

  /// When this thread puts off what it repeats: mode().repeats is null where never. What was seen is not forgotten.
  static void set(When when);
  /// The same for threads that were not asked, from their next boundary on; kPays for the one that calls this alone: of
  /// two threads that repeat, luck says whose calls are put off.
  static void set_default(When when);
  static When when();
  /// Something that ends a sequence happens on this thread.
  static void boundary();

  /// The thread calls a plan, on the tape or not. True if that was expected, and is to be put off.
  bool next(const Plan* plan, Device device, bool taped) {
    if (calls_ >= kLong && !taped_ && !taped && !now_.empty() && plan == now_.front()) boundary();
    ++calls_;
    taped_ |= taped;
    cost_ns_ += device.kind == Device::Kind::kCpu ? plan->cost_ns() : kPays;
    return follow_ && follows(plan);
  }
  /// The user's line of the expected call; it is asked for once.
  const profile::Text& site();

 private:
  struct Sequence {
    uint64_t hash = 0;
    std::vector<const Plan*> plans;  // to compare with: they may be gone
    std::vector<profile::Text> sites;
    bool pays = false;  // as one program
    int seen = 0, missed = 0;
    /// It came often, and mostly to its end.
    bool likely() const { return seen >= 2 && (missed < 4 || missed * 4 < seen); }
  };

  /// Nanoseconds that a call's kernel takes on the CPU from which on putting it off costs little beside it.
  static constexpr double kPays = 5'000;
  /// A sequence off the tape this long ends where it begins anew: a loop over inputs whose results are read later. It
  /// would hold the inputs of all its rounds, and its GPU would stand still.
  static constexpr size_t kLong = 64;
  /// How many sequences are looked at after one that paid. Small programs then pay for no more than the question.
  static constexpr int kFollow = 32;

  void end();
  bool follows(const Plan* plan);
  Sequence* candidate();

  std::unordered_map<uint64_t, std::vector<Sequence>> after_;  // by the hash of the sequence before
  std::vector<const Plan*> now_;
  uint64_t hash_ = 0, before_ = 0;
  double cost_ns_ = 0;  // of the sequence that runs,
  size_t calls_ = 0;    // and how many it has
  bool taped_ = false;  // some of them on the tape
  bool always_ = false;
  int follow_ = kFollow;          // sequences more to look at, now_ among them
  Sequence* expected_ = nullptr;  // one that begins with now_
};

}  // namespace minimx
