#include "runtime/known_lists.h"

#include <chrono>
#include <cstring>
#include <thread>

#include "engine/core.h"
#include "runtime/invoke.h"

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
  std::vector<CallList::Number> numbers = list.numbers();
  for (auto& known : known_[hash]) {
    if (known->words != words) continue;
    std::vector<bool> varies = known->varies;
    for (size_t i = 0; i < numbers.size(); ++i) varies[i] = varies[i] || numbers[i].bits != known->numbers[i].bits;
    if (varies != known->varies) known = made(list, std::move(words), std::move(varies));
    known->numbers = std::move(numbers);
    return known;
  }
  if (size_ >= kMaxLists) clear();
  ++size_;
  auto known = made(list, std::move(words), std::vector<bool>(numbers.size()));
  known->numbers = std::move(numbers);
  return known_[hash].emplace_back(std::move(known));
}

std::shared_ptr<KnownList> KnownLists::made(const CallList& list, std::vector<uint64_t> words,
                                            std::vector<bool> varies) {
  auto known = std::make_shared<KnownList>();
  known->words = std::move(words);
  known->varies = std::move(varies);
  for (const CallList::Call& c : list.calls) known->plans.push_back(c.plan);
  return known;
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

std::vector<Array> KnownList::inputs(Device device) {
  std::vector<uint64_t> bits;
  std::vector<DType> types;
  for (size_t i = 0; i < numbers.size(); ++i)
    if (varies[i]) bits.push_back(numbers[i].bits), types.push_back(numbers[i].dtype);
  if (bits.empty()) return {};
  if (bits != carries_) {
    const Dims shape{static_cast<int64_t>(bits.size())};
    Array host = Array::empty(shape, DType::kInt64, {});
    std::memcpy(host.data(), bits.data(), 8 * bits.size());
    if (device.kind == Device::Kind::kCpu) {
      carried_ = std::move(host);  // earlier runs may still read the one before
    } else {
      if (!carried_.storage) carried_ = Array::empty(shape, DType::kInt64, device);
      copy_into(host, carried_);
    }
    carries_ = std::move(bits);
  }
  std::vector<Array> out;
  for (size_t i = 0; i < types.size(); ++i) {
    Array a = Array::over(carried_.storage, {}, types[i]);
    a.offset = static_cast<int64_t>(8 * i / itemsize(types[i]));
    out.push_back(std::move(a));
  }
  return out;
}

void KnownLists::answer(KnownList& known, Ref<const Program> program) {
  if (known.answered) return;  // too late
  known.answered = true;
  if (program) ++counts_.compiled;
  known.program = std::move(program);
}

}  // namespace minimx
