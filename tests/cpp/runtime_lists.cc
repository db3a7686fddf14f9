#include "runtime_lists.h"

#include <chrono>

#include "runtime/deferred.h"
#include "runtime_rows.h"

using namespace minimx;

namespace rows {
namespace {

using namespace std::chrono_literals;

Lists* g_lists = nullptr;

/// The calls one by one: externals are inputs, blocks that are left over are outputs, all others lie in the arena.
Ref<Program> program_of(const CallList& list, std::span<const int> live) {
  using Slot = Program::Slot;
  auto p = make_ref<Program>();
  std::vector<Slot> places(list.slots.size(), Slot{Slot::Kind::kArena});
  const auto add = [&](Slot::Kind kind, std::vector<OutSpec>& specs, int v) {
    places[list.values[v].slot] = {kind, static_cast<int>(specs.size())};
    specs.push_back({list.values[v].dtype, list.values[v].shape});
  };
  for (int v : list.externals()) add(Slot::Kind::kInput, p->inputs, v);
  for (int v : live) add(Slot::Kind::kOutput, p->outputs, v);
  for (size_t i = 0; i < places.size(); ++i) {
    if (places[i].kind != Slot::Kind::kArena) continue;
    places[i].offset = p->arena_bytes;
    p->arena_bytes += list.array(list.slots[i].first).bytes();
  }
  p->written.assign(p->inputs.size(), false);
  for (const CallList::Call& c : list.calls) {
    Program::Step step{c.plan->kernel(), {}, c.plan->op->name};
    const auto place = [&](int v) { return places[list.values[v].slot]; };
    for (int i = 0; i < c.arg_count; ++i) step.operands.push_back(place(list.args[c.first_arg + i].value));
    for (int i = 0; i < c.out_count; ++i) {
      step.operands.push_back(place(list.outs[c.first_out + i]));
      if (step.operands.back().kind == Slot::Kind::kInput) p->written[step.operands.back().index] = true;
    }
    p->add_step(std::move(step));
  }
  return p;
}

}  // namespace

Lists::Lists() {
  g_lists = this;
  KnownLists::get().set_compiler(compile);
  watch_ = std::thread([this] {
    Deferred& deferred = Deferred::of({});
    while (!done_) {
      std::this_thread::sleep_for(1ms);
      const uint64_t number = deferred.waiting();
      if (!number) continue;
      const Locked lock;
      deferred.run_list(number);
    }
  });
}

Lists::~Lists() {
  done_ = true;
  watch_.join();
  for (std::thread& t : answers_) t.join();
  KnownLists::get().set_compiler(nullptr);
}

uint64_t Lists::replayed() const {
  constexpr uint64_t kChangeAt = 8;  // KnownLists'
  uint64_t runs = 0;
  for (const auto& known : replays_)
    if (known->program && known->runs >= kChangeAt) runs += known->runs - kChangeAt + 1;
  return runs;
}

void Lists::compile(const CallList& list, std::span<const int> live, std::shared_ptr<KnownList> known) {
  if (list.whole) g_lists->replays_.push_back(known);
  g_lists->answers_.emplace_back([program = program_of(list, live), known]() mutable {
    std::this_thread::sleep_for(1ms);
    const Locked lock;
    KnownLists::get().answer(*known, std::move(program));
  });
}

}  // namespace rows
