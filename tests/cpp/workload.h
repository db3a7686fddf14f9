// Random programs for the engine, and three ways to run one: a plain loop (the model), and the engine under either
// policy. Their results must be equal to the last bit, whatever the threads do. Cells are plain integers on purpose: an
// ordering mistake is then a wrong sum here and a report under TSAN.
#pragma once
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace workload {

namespace engine = minimx::engine;

/// One operator: mixes the cells it reads into those it writes.
struct Step {
  enum class How { kPush, kInline, kSync, kWaitRead, kOpenBulk, kCloseBulk };
  How how = How::kPush;
  std::vector<int> reads, writes;  // may repeat, may overlap (then it works in place)
  int bulk = 0;                    // kOpenBulk: how many to gather
  int total = -1;                  // a cell shared by all pushers, to which it adds: order must not matter there
  int64_t salt = 0;
  int id = 0;
  bool fails = false;
  bool dawdles = false;
  double cost_ns = 0;
  int priority = 0;
  engine::Lane lane = engine::Lane::kCompute;
};

/// What one thread pushes. Its cells are its own, but for the totals and the constants.
using Program = std::vector<Step>;

struct Workload {
  int constants = 0, totals = 0, own = 0;  // cells: constants, totals, then `own` for each program
  std::vector<Program> programs;
  int host_threads = 2;
  size_t max_ops = 4096;

  int cells() const { return constants + totals + own * static_cast<int>(programs.size()); }
};

struct Cell {
  int64_t data[3] = {};
  int cause = -1;  // result: id of the step whose failure poisons it, or -1
  bool operator==(const Cell& o) const {
    if (cause != o.cause) return false;
    return cause >= 0 || (data[0] == o.data[0] && data[1] == o.data[1] && data[2] == o.data[2]);
  }
};

struct Result {
  std::vector<Cell> cells;
  std::vector<std::vector<int64_t>> seen;  // for each program, what its waits saw
  bool operator==(const Result&) const = default;
};

struct StepFailed : std::exception {
  explicit StepFailed(int step) : id(step) {}
  int id;
};

/// With failures some programs contain steps that throw; without, only the order of steps can make a difference.
Workload make(uint64_t seed, bool failures = true);
/// The same programs with bulk scopes, nested ones too, strewn in.
Workload with_bulks(Workload w, uint64_t seed);
Result run_serial(const Workload& w);
Result run_engine(const Workload& w, engine::Policy policy);

}  // namespace workload
