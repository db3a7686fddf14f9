#include "runtime/captured.h"

#include <algorithm>

namespace minimx {
namespace {

constexpr size_t kGraphs = 8;         // kept for one Program
constexpr int kMissesAllowed = 32;    // in a row, before runs stay plain for good
constexpr size_t kInstead = 4 << 20;  // bytes of one Program that are copied to and from places that stay: microseconds

}  // namespace

void CapturedRuns::describe(const std::string& step, const profile::Text& members, const profile::Text& site) {
  if (!steps_) steps_ = std::make_shared<std::string>();
  const auto text = [](const profile::Text& t) { return t ? std::string_view(*t) : std::string_view(); };
  steps_->append(step).append("\t").append(text(members)).append("\t").append(text(site)).append("\n");
}

void CapturedRuns::run(const std::vector<Place>& places, const std::array<uint64_t, 3>* random,
                       const std::function<void()>& plain, const Work& work) {
  std::lock_guard lock(mutex_);
  if (off_ || clock_++ == 0) return plain();
  instead_.resize(places.size());
  if (random && !base_) {
    base_ = Storage::allocate(2 * sizeof(uint64_t), device_);
    base_->use_on(StreamKind::kCompute);
  }
  Entry* entry = known(places);
  if (!entry) entry = captured(places, work);
  if (!entry) {
    off_ = true;
    return plain();
  }
  entry->used = clock_;
  launch(*entry->graph, places, random);
}

/// The graph for these places, if one is kept.
CapturedRuns::Entry* CapturedRuns::known(const std::vector<Place>& places) {
  const auto entry = std::ranges::find_if(entries_, [&](const Entry& e) { return holds(e, places); });
  if (entry == entries_.end()) return nullptr;
  misses_ = 0;
  moved_.clear();
  return &*entry;
}

/// A new graph for these places; null where it does not pay, or something in the work cannot be captured.
CapturedRuns::Entry* CapturedRuns::captured(const std::vector<Place>& places, const Work& work) {
  ++misses_;
  note_moves(places);
  std::unique_ptr<DeviceGraph> old;
  if (misses_ > static_cast<int>(kGraphs) && settle(places)) {
    old = std::move(entries_.front().graph);
    entries_.clear();
  }
  if (misses_ > kMissesAllowed) return nullptr;
  if (!old) old = room();
  auto graph = gpu_backend()->capture(
      device_.id,
      [&] {
        capturing = true;
        struct Done {
          ~Done() { capturing = false; }
        } done;
        work(base_ ? reinterpret_cast<uint64_t>(base_->data()) : 0, instead_);
      },
      std::move(old));
  if (!graph) return nullptr;
  Entry& entry = entries_.emplace_back();
  entry.graph = std::move(graph);
  for (const Place& p : places) entry.places.push_back(p.data);
  return &entry;
}

/// Launches a graph, between the copies to and from what it uses in stead of places.
void CapturedRuns::launch(DeviceGraph& graph, const std::vector<Place>& places, const std::array<uint64_t, 3>* random) {
  const auto copy = [&](void* to, const void* from, size_t bytes) {
    gpu_backend()->copy(to, device_, from, device_, bytes, StreamKind::kCompute);
  };
  if (random)
    gpu_backend()->copy(base_->data(), device_, random->data(), {}, 2 * sizeof(uint64_t), StreamKind::kCompute);
  for (size_t i = 0; i < places.size(); ++i)
    if (instead_[i] && !places[i].made) copy(instead_[i]->data(), places[i].data, places[i].bytes);
  {
    const profile::Record about{.kind = profile::Record::Kind::kDevice, .note = steps_};
    const profile::DeviceSpan span(device_, StreamKind::kCompute, nullptr, about);
    gpu_backend()->launch(graph, device_.id, "graph");
  }
  for (size_t i = 0; i < places.size(); ++i)
    if (instead_[i] && places[i].made) copy(places[i].data, instead_[i]->data(), places[i].bytes);
}

/// True if the graph was captured with these addresses.
bool CapturedRuns::holds(const Entry& e, const std::vector<Place>& places) const {
  for (size_t i = 0; i < places.size(); ++i)
    if (!instead_[i] && e.places[i] != places[i].data) return false;
  return true;
}

/// Notes which places have moved since the run before.
void CapturedRuns::note_moves(const std::vector<Place>& places) {
  moved_.resize(places.size());
  const auto before = std::ranges::max_element(entries_, {}, &Entry::used);
  for (size_t i = 0; before != entries_.end() && i < places.size(); ++i)
    if (before->places[i] != places[i].data) moved_[i] = true;
}

/// Puts memory of the graphs' own in the stead of all places that have moved. False where one of them must lie where
/// it is, there is too much to copy, or nothing has moved that has no such memory yet.
bool CapturedRuns::settle(const std::vector<Place>& places) {
  size_t bytes = 0;
  bool more = false;
  for (size_t i = 0; i < places.size(); ++i) {
    if (!moved_[i] && !instead_[i]) continue;
    if (!places[i].bytes) return false;
    more |= !instead_[i];
    bytes += places[i].bytes;
  }
  if (!more || bytes > kInstead) return false;
  for (size_t i = 0; i < places.size(); ++i) {
    if (!moved_[i] || instead_[i]) continue;
    instead_[i] = Storage::allocate(places[i].bytes, device_);
    instead_[i]->use_on(StreamKind::kCompute);
  }
  misses_ = 0;
  return true;
}

size_t CapturedRuns::size() {
  std::lock_guard lock(mutex_);
  return entries_.size();
}

/// Makes room for one more; returns the graph that had to go, if one had to.
std::unique_ptr<DeviceGraph> CapturedRuns::room() {
  if (entries_.size() < kGraphs) return nullptr;
  auto oldest = std::ranges::min_element(entries_, {}, &Entry::used);
  auto graph = std::move(oldest->graph);
  entries_.erase(oldest);
  return graph;
}

}  // namespace minimx
