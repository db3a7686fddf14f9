// Making and running random workloads; see workload.h.
#include "workload.h"

#include <map>
#include <thread>

namespace workload {

namespace {

using engine::Lane;

int64_t mix(int64_t h, int64_t x) {
  const uint64_t u = (static_cast<uint64_t>(h) ^ static_cast<uint64_t>(x)) * 0x9e3779b97f4a7c15u;
  return static_cast<int64_t>(u ^ (u >> 29));
}

int64_t add(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }

/// The body of a step: the same code for the model and for the engine.
void compute(const Step& step, std::vector<Cell>& cells) {
  if (step.fails) throw StepFailed(step.id);
  int64_t h = step.salt;
  for (int r : step.reads)
    for (int64_t x : cells[r].data) h = mix(h, x);
  if (step.dawdles) std::this_thread::yield();
  for (int w : step.writes)
    for (int64_t& x : cells[w].data) x = h = mix(h, w);
  if (step.total >= 0) cells[step.total].data[0] = add(cells[step.total].data[0], h);
}

int64_t look(const Cell& cell) { return mix(mix(cell.data[0], cell.data[1]), cell.data[2]); }

class Maker {
 public:
  Maker(uint64_t seed, bool failures) : random_(seed), failures_allowed_(failures) {}

  Workload make() {
    Workload w;
    w.constants = 2;
    w.totals = 2;
    w.own = 2 + below(8);
    w.programs.resize(1 + below(3));
    w.host_threads = 1 + below(3);
    if (chance(4)) w.max_ops = 1 + below(6);
    failures_ = chance(3) && failures_allowed_;
    for (size_t p = 0; p < w.programs.size(); ++p) w.programs[p] = program(w, static_cast<int>(p));
    return w;
  }

 private:
  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool chance(int one_in) { return below(one_in) == 0; }

  Program program(const Workload& w, int p) {
    Program steps(10 + below(30));
    const int first = w.constants + w.totals + p * w.own;
    for (size_t i = 0; i < steps.size(); ++i) {
      Step& s = steps[i];
      s.id = p * 1000 + static_cast<int>(i);
      s.salt = static_cast<int64_t>(random_());
      s.how = chance(8)    ? Step::How::kWaitRead
              : chance(4)  ? Step::How::kInline
              : chance(10) ? Step::How::kSync
                           : Step::How::kPush;
      for (int n = below(4); n > 0; --n) s.reads.push_back(chance(5) ? below(w.constants) : first + below(w.own));
      for (int n = chance(20) ? 8 : 1 + below(2); n > 0; --n) s.writes.push_back(first + below(w.own));
      if (!failures_ && chance(4)) s.total = w.constants + below(w.totals);
      s.fails = failures_ && chance(10);
      s.dawdles = chance(8);
      s.cost_ns = chance(2) ? 0 : 1e9;
      s.priority = below(3);
      s.lane = chance(3) ? Lane::kHost : Lane::kCompute;
    }
    return steps;
  }

  std::mt19937_64 random_;
  const bool failures_allowed_;
  bool failures_ = false;
};

/// One workload under the engine. Vars beside cells; every pusher is a thread.
class Run {
 public:
  explicit Run(const Workload& w) : w_(w) {
    result_.cells.resize(w.cells());
    result_.seen.resize(w.programs.size());
    for (int i = 0; i < w.cells(); ++i) vars_.push_back(engine::make_var());
    for (int i = 0; i < w.constants; ++i) result_.cells[i].data[0] = i + 1;
  }

  Result go() {
    std::vector<std::thread> others;
    for (size_t p = 1; p < w_.programs.size(); ++p) others.emplace_back([this, p] { push_program(p); });
    push_program(0);
    for (std::thread& t : others) t.join();
    for (int i = 0; i < w_.cells(); ++i) result_.cells[i].cause = wait_write(i);
    try {
      engine::wait_all();
    } catch (const engine::Poisoned&) {  // those that no Var kept
    }
    return std::move(result_);
  }

 private:
  void push_program(size_t p) {
    std::vector<std::unique_ptr<engine::BulkScope>> bulks;
    for (const Step& step : w_.programs[p]) {
      if (step.how == Step::How::kOpenBulk)
        bulks.push_back(std::make_unique<engine::BulkScope>(step.bulk));
      else if (step.how == Step::How::kCloseBulk)
        bulks.pop_back();
      else if (step.how == Step::How::kWaitRead)
        result_.seen[p].push_back(wait_read(step.writes[0]));
      else
        push_step(step);
    }
    while (!bulks.empty()) bulks.pop_back();
  }

  void push_step(const Step& step) {
    std::vector<engine::Var*> reads, writes;
    for (int r : step.reads) reads.push_back(vars_[r].get());
    for (int w : step.writes) writes.push_back(vars_[w].get());
    if (step.total >= 0) {
      reads.push_back(vars_[step.total].get());
      writes.push_back(vars_[step.total].get());
    }
    const engine::PushInfo info{.name = "step", .cost_ns = step.cost_ns, .priority = step.priority, .lane = step.lane};
    try {
      if (step.how == Step::How::kInline && run_inline(step, reads, writes, info)) return;
      std::unique_ptr<engine::SyncScope> sync;
      if (step.how == Step::How::kSync) sync = std::make_unique<engine::SyncScope>();
      engine::push([this, &step] { compute(step, result_.cells); }, reads, writes, info);
    } catch (const engine::Poisoned&) {  // it ran at once; the Vars know
    }
  }

  bool run_inline(const Step& step, std::vector<engine::Var*>& reads, std::vector<engine::Var*>& writes,
                  const engine::PushInfo& info) {
    engine::InlineRun run = engine::try_inline(reads, writes);
    if (!run) return false;
    try {
      compute(step, result_.cells);
    } catch (...) {
      run.fail(std::current_exception(), info);
    }
    return true;
  }

  static int cause_of(const engine::Poisoned& poisoned) {
    try {
      std::rethrow_exception(poisoned.failure->error);
    } catch (const StepFailed& e) {
      return e.id;
    }
  }

  int64_t wait_read(int cell) {
    try {
      engine::wait_to_read(vars_[cell].get());
      return look(result_.cells[cell]);
    } catch (const engine::Poisoned& e) {
      return -1 - cause_of(e);
    }
  }

  int wait_write(int cell) {
    try {
      engine::wait_to_write(vars_[cell].get());
      return -1;
    } catch (const engine::Poisoned& e) {
      return cause_of(e);
    }
  }

  const Workload& w_;
  Result result_;
  std::vector<engine::VarPtr> vars_;
};

/// The model's push: the same rules, spelled without an engine.
void run_step(const Step& step, std::vector<Cell>& cells) {
  int cause = -1;
  for (int r : step.reads)
    if (cells[r].cause >= 0 && (cause < 0 || cells[r].cause < cause)) cause = cells[r].cause;
  if (cause < 0) {
    try {
      compute(step, cells);
    } catch (const StepFailed& e) {
      cause = e.id;
    }
  }
  for (int w : step.writes) cells[w].cause = cause;
}

}  // namespace

Workload make(uint64_t seed, bool failures) { return Maker(seed, failures).make(); }

Workload with_bulks(Workload w, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (Program& program : w.programs) {
    Program with;
    int depth = 0;
    for (Step& step : program) {
      Step scope;
      if (random() % 6 == 0 && depth < 3) {
        scope.how = Step::How::kOpenBulk;
        scope.bulk = static_cast<int>(random() % 8);
        ++depth;
        with.push_back(scope);
      } else if (random() % 8 == 0 && depth > 0) {
        scope.how = Step::How::kCloseBulk;
        --depth;
        with.push_back(scope);
      }
      with.push_back(std::move(step));
    }
    program = std::move(with);
  }
  return w;
}

Result run_serial(const Workload& w) {
  Result result;
  result.cells.resize(w.cells());
  result.seen.resize(w.programs.size());
  for (int i = 0; i < w.constants; ++i) result.cells[i].data[0] = i + 1;
  for (size_t p = 0; p < w.programs.size(); ++p) {
    for (const Step& step : w.programs[p]) {
      if (step.how == Step::How::kOpenBulk || step.how == Step::How::kCloseBulk) continue;
      if (step.how != Step::How::kWaitRead) {
        run_step(step, result.cells);
        continue;
      }
      const Cell& cell = result.cells[step.writes[0]];
      result.seen[p].push_back(cell.cause >= 0 ? -1 - cell.cause : look(cell));
    }
  }
  return result;
}

Result run_engine(const Workload& w, engine::Policy policy) {
  engine::set_policy(policy);
  engine::set_host_threads(w.host_threads);
  engine::set_inflight_limit(size_t{1} << 40, w.max_ops);
  Result result = Run(w).go();
  engine::set_inflight_limit(size_t{1} << 40, 4096);
  engine::set_policy(engine::Policy::kThreaded);
  return result;
}

}  // namespace workload
