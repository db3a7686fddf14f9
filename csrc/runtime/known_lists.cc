#include "runtime/known_lists.h"

#include <chrono>
#include <thread>

#include "engine/core.h"

namespace minimx {

KnownLists& KnownLists::get() {
  static auto* made = new KnownLists;  // leaked: lists may run after static destructors ran
  return *made;
}

std::shared_ptr<KnownList> KnownLists::find(const CallList& list) {
  if (!compiler_ || list.kernels < 2) return nullptr;
  std::vector<uint64_t> words = list.signature();
  uint64_t hash = words.size();
  for (uint64_t w : words) hash = mixed(hash, w);
  for (const auto& known : known_[hash])
    if (known->words == words) return known;
  if (size_ >= kMaxLists) clear();
  auto made = std::make_shared<KnownList>();
  made->words = std::move(words);
  for (const CallList::Call& c : list.calls) made->plans.push_back(c.plan);
  ++size_;
  return known_[hash].emplace_back(std::move(made));
}

void KnownLists::clear() {
  known_.clear();
  size_ = 0;
}

bool KnownLists::ready(const std::shared_ptr<KnownList>& known, const CallList& list, std::span<const int> live) {
  if (++known->runs >= kAskAt && !known->asked) {
    known->asked = true;
    compiler_(list, live, known);
  }
  if (!known->program || (list.whole && known->runs < kChangeAt)) return false;
  ++counts_.programs;
  return true;
}

bool KnownLists::awaited(const KnownList& known) const {
  return known.asked && !known.answered && known.runs + 1 >= kChangeAt;
}

void KnownList::wait() {
  for (int i = 0; !answered && i < 60'000; ++i) {
    engine::BlockingScope blocking;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  answered = true;
}

Ref<Storage> KnownList::arena_for(const Program& p) {
  const size_t bytes = p.total_arena_bytes();
  if (!bytes) return nullptr;
  static auto* newest = new std::weak_ptr<const Ref<Storage>>;  // of the CPU's: one for all lists, as they run in turn
  const bool cpu = p.device.kind == Device::Kind::kCpu;
  arena_ = minimx::arena_for(p.device, bytes, cpu ? newest->lock() : arena_);
  if (cpu) *newest = arena_;
  return *arena_;
}

void KnownLists::answer(KnownList& known, Ref<const Program> program) {
  if (known.answered) return;  // too late
  known.answered = true;
  if (program) ++counts_.compiled;
  known.program = std::move(program);
}

}  // namespace minimx
