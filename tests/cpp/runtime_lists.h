// What minimx/graph/bulk.py and csrc/bind/bulk.cc are to calls that are put off (runtime/deferred.h), for a test
// without Python: a compiler of lists that answers later, and a thread that runs lists which nobody runs.
#pragma once
#include <atomic>
#include <thread>
#include <vector>

#include "runtime/known_lists.h"

namespace rows {

/// There is one at a time. While it lives lists are compiled: each becomes a Program of its calls' own kernels, so it
/// computes the same bits.
class Lists {
 public:
  Lists();
  ~Lists();  // without the lock
  /// Runs of whole sequences (repeats.h) at whose end their Program was there and old enough to be what ran.
  uint64_t replayed() const;

 private:
  static void compile(const minimx::CallList& list, std::span<const int> live,
                      std::shared_ptr<minimx::KnownList> known);

  std::vector<std::thread> answers_;                         // under the lock,
  std::vector<std::shared_ptr<minimx::KnownList>> replays_;  // as this: lists of whole sequences
  std::atomic<bool> done_{false};
  std::thread watch_;
};

}  // namespace rows
