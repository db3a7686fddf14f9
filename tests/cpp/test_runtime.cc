// Threads of Python, played: four at once call operators, record and go back, run one Program, write to one array and
// push callbacks, in every other round with the profiler on, under a lock that whatever waits gives up. Some put
// calls off, in bulks or because they repeat themselves. Each must get what it gets alone, calling one by one. What
// TSAN sees here is all of csrc/runtime and csrc/engine but for GPUs; not the bind layer, and not the kernels of
// csrc/cpu, which see nothing but their operands.
#include <algorithm>
#include <array>

#include "check.h"
#include "runtime/backend.h"
#include "runtime/deferred.h"
#include "runtime/profile.h"
#include "runtime/program.h"
#include "runtime/repeats.h"
#include "runtime/storage.h"
#include "runtime/tape.h"
#include "runtime_lists.h"
#include "runtime_rows.h"

using namespace minimx;

namespace {

constexpr int kThreads = 4;
constexpr int64_t kSizes[] = {16, 40, 1000, 3000};  // of which the last two go to the worker

Array call(Op& op, std::initializer_list<Operand> ins) { return invoke1(op, nullptr, ins); }

/// (x * w + x) / 2 * w of n elements, through an arena.
Ref<Program> program_of(int64_t n) {
  using Kind = Program::Slot::Kind;
  auto p = make_ref<Program>();
  const OutSpec vector{DType::kFloat32, Dims{n}};
  p->inputs = {vector, vector};
  p->written = {false, false};
  p->outputs = {vector};
  p->arena_bytes = static_cast<size_t>(n) * 4;
  const Program::Slot x{Kind::kInput, 0}, w{Kind::kInput, 1}, y{Kind::kOutput, 0}, t{Kind::kArena, 0};
  p->add_step({rows::kernel_of(rows::multiply(), n), {x, w, t}, "multiply"});
  p->add_step({rows::kernel_of(rows::add(), n), {t, x, t}, "add"});
  p->add_step({rows::kernel_of(rows::half(), n), {t, t}, "half"});
  p->add_step({rows::kernel_of(rows::multiply(), n), {t, w, y}, "multiply"});
  return p;
}

struct Shared {
  std::vector<Ref<Program>> programs;
  std::vector<Ref<Storage>> arenas;  // one for all threads: runs take turns
  Array sum = rows::vector_of(16, [](int64_t) { return 0.0f; });
  Array one = rows::vector_of(16, [](int64_t) { return 1.0f; });
  Shared() {
    for (int64_t n : kSizes) {
      programs.push_back(program_of(n));
      arenas.push_back(Storage::allocate(programs.back()->total_arena_bytes(), {}));
    }
  }
};

void add_into(const Array& to, const Array& x) {
  std::vector<Array> outs;
  invoke(rows::add(), nullptr, std::array{Operand(to), Operand(x)}, outs, {&to, 1});
}

/// Adds one to the sum of all threads from a host thread, as a callback of Python's would.
void push_callback(Shared& shared) {
  engine::Var* writes[] = {shared.sum.var()};
  engine::PushInfo info{.name = "callback", .lane = engine::Lane::kHost};
  engine::push(
      [&shared] {
        const rows::Locked lock;
        add_into(shared.sum, shared.one);
      },
      writes, writes, info);
}

/// How a thread's calls are put off: not at all, in bulks, as what repeats itself, or both.
void put_off(int how) {
  mode().bulk = how & 1 ? 5 : 0;
  Repeats::set(how & 2 ? Repeats::When::kAlways : Repeats::When::kNever);
}

/// What thread k computes: all that it has read on the way.
std::vector<float> work(int k, Shared& shared, int steps) {
  const rows::Locked lock;
  const int64_t n = kSizes[k];
  const Array x = rows::vector_of(n, [&](int64_t i) { return static_cast<float>((i * 7 + k) % 11 - 5) / 8; });
  Array w = rows::vector_of(n, [&](int64_t i) { return static_cast<float>((i * 3 + k) % 7 - 3) / 4; });
  Array grad = rows::vector_of(n, [](int64_t) { return 0.0f; });
  attach_grad(w, k % 2 ? GradReq::kAdd : GradReq::kWrite, grad);
  std::vector<float> seen;
  for (int step = 0; step < steps; ++step) {
    Repeats::boundary();
    mode().recording = true;
    Array y = call(rows::multiply(), {call(rows::half(), {call(rows::add(), {call(rows::multiply(), {x, w}), x})}), w});
    mode().recording = false;
    backward({&y, 1}, {}, {}, false, false);
    const size_t size = static_cast<size_t>(step % 2 ? k : (k + 1) % kThreads);  // mine, or with another thread's shape
    const Array a =
        size == static_cast<size_t>(k) ? x : rows::vector_of(kSizes[size], [&](int64_t i) { return i % 5; });
    const Array b = size == static_cast<size_t>(k) ? w.detached() : a;
    const Array z =
        shared.programs[size]->run({a, b}, "program", {.arena = step % 3 ? shared.arenas[size] : Ref<Storage>()})[0];
    add_into(shared.sum, shared.one);
    if (step % 5 == 0) push_callback(shared);
    if (step % 4 == 0) {
      for (const Array* read : std::array<const Array*, 2>{&y, &z}) {
        const std::vector<float> part = rows::elements(*read);
        seen.insert(seen.end(), part.begin(), part.end());
      }
    }
    Array next = call(rows::half(), {call(rows::half(), {call(rows::add(), {w.detached(), w.edge.leaf->grad})})});
    copy_into(next, w);  // a quarter of weight and gradient: it stays small
    w.storage->bump_version();
    if (step % 16 == 15) CHECK(memory_info().used > 0);
    if (step % 16 == 7 && profile::running()) CHECK(!profile::records().empty());
    rows::let_others();
  }
  const std::vector<float> last = rows::elements(w);
  seen.insert(seen.end(), last.begin(), last.end());
  return seen;
}

}  // namespace

TEST(runtime_threads_get_what_each_gets_alone) {
  rows::install();
  rows::set_lock(!std::getenv("MINIMX_NO_LOCK"));
  const int steps = 40, rounds = check::rounds(25);
  std::vector<std::vector<float>> alone(kThreads);
  {
    Shared shared;
    put_off(0);
    for (int k = 0; k < kThreads; ++k) alone[k] = work(k, shared, steps);
  }
  const rows::Lists lists;
  for (int round = 0; round < rounds; ++round) {
    Shared shared;
    if (round % 2) profile::start(1000, true, false);
    std::vector<std::vector<float>> together(kThreads);
    std::vector<std::thread> threads;
    for (int k = 0; k < kThreads; ++k)
      threads.emplace_back([&, k] {
        put_off(k + round);
        together[k] = work(k, shared, steps);
      });
    for (std::thread& t : threads) t.join();
    for (int k = 0; k < kThreads; ++k) CHECK(together[k] == alone[k]);
    {
      const rows::Locked lock;
      wait_for_all();
    }
    CHECK((round % 2 == 0) == profile::records().empty());
    profile::stop();
    profile::clear();
    for (float total : rows::elements(shared.sum)) CHECK(total == kThreads * (steps + (steps + 4) / 5));
  }
  const rows::Locked lock;
  CHECK(lists.replayed() > 0 && KnownLists::get().counts().programs > lists.replayed());  // the others were bulks
}
