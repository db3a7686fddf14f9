// CapturedRuns: runs of a Program on a GPU, captured as device graphs: a launch for a whole run instead of one a
// kernel. A graph holds for the addresses it was captured with; imperative code around a Program reuses a few sets of
// them, so a few graphs are kept, and the oldest is updated when a new set comes. Where no set comes again, as in a
// loop that keeps every result, small arrays that move get a place of the graphs' own, from or to which they are
// copied.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/profile.h"

namespace minimx {

/// True while CapturedRuns captures what this thread enqueues. What cannot run again later as it is throws an Error
/// then, and the run stays plain.
inline thread_local bool capturing = false;

class CapturedRuns {
 public:
  /// Memory that a run uses. bytes: of an array that may as well lie elsewhere and be copied, before a run that reads
  /// it or behind one that makes it; 0: it may not.
  struct Place {
    char* data;
    size_t bytes = 0;
    bool made = false;
  };
  /// By the number of a place: memory of the graphs' own in its stead, or null.
  using Instead = std::vector<Ref<Storage>>;
  /// What a graph is captured from, given the device address of {seed, call} of the random stream (0 if it has none)
  /// and what it must use in place of its places.
  using Work = std::function<void(uint64_t, const Instead&)>;

  explicit CapturedRuns(Device device) : device_(device) {}

  /// Tells the profiler's bars what a run consists of: its steps, each when it is added, before the first run.
  void describe(const std::string& step, const profile::Text& members, const profile::Text& site);

  /// Enqueues a run that uses memory at `places`. The first calls `plain`: warm-up. Later ones launch a graph captured
  /// from `work`. random: {seed, call} for it, or null; the same for all runs.
  void run(const std::vector<Place>& places, const std::array<uint64_t, 3>* random, const std::function<void()>& plain,
           const Work& work);

  /// Graphs that are kept now.
  size_t size();

 private:
  struct Entry {
    std::vector<const void*> places;
    std::unique_ptr<DeviceGraph> graph;
    uint64_t used = 0;
  };
  Entry* known(const std::vector<Place>& places);
  Entry* captured(const std::vector<Place>& places, const Work& work);
  void launch(DeviceGraph& graph, const std::vector<Place>& places, const std::array<uint64_t, 3>* random);
  bool holds(const Entry& e, const std::vector<Place>& places) const;
  void note_moves(const std::vector<Place>& places);
  bool settle(const std::vector<Place>& places);
  std::unique_ptr<DeviceGraph> room();

  std::mutex mutex_;
  Device device_;
  std::shared_ptr<std::string> steps_;  // a line for each: its name, members and the user's line, by tabs
  Ref<Storage> base_;                   // two words: seed and call
  std::vector<Entry> entries_;
  Instead instead_;
  std::vector<bool> moved_;  // places whose addresses have changed since a graph was last found
  uint64_t clock_ = 0;
  int misses_ = 0;    // in a row; where addresses never repeat, capturing does not pay
  bool off_ = false;  // something in the work cannot be captured
};

}  // namespace minimx
