// Orders of operators; see order.h. One lock guards all of it: who records or replays does not look for speed.
#include "engine/order.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>
#include <unordered_map>

#include "common/error.h"
#include "engine/core.h"
#include "engine/spin.h"

namespace minimx::engine::order {
namespace {

enum class Mode { kRecord, kReplay, kShuffle };
constexpr int64_t kStalledNs = 3'000'000'000;  // a replay in which all have waited for so long will not move
// Of a shuffle with the only thread that pushes, and with one of several: those may wait for each other elsewhere.
constexpr int64_t kPatienceNs = 1'000'000'000, kPatienceOfManyNs = 20'000'000;

constexpr const char* kWayOut = "Replay with the same code, data and seeds, or record anew.";

/// What is known between begin and end.
struct Session {
  Mode mode{};
  uint64_t seed = 0;
  Log log;                                         // what happened; in a replay, what must
  size_t next = 0;                                 // replay: of log
  std::unordered_map<std::string, size_t> places;  // replay: of kind + key in log
  std::string broken;                              // replay: why it was given up; from then on all run free
  std::unordered_map<uint64_t, std::string> keys;  // by push number, of operators in flight
  std::unordered_map<uint64_t, int> children;      // what those have pushed
  int pushers = 0;
  int64_t moved_ns = now_ns();                      // when something last happened
  std::set<std::pair<uint64_t, uint64_t>> waiting;  // shuffle: (hash, push number) of lanes' ready operators
  std::set<uint64_t> claimed;                       // shuffle: run by a lane
  std::unordered_map<uint64_t, bool> blocked;       // tokens of waits; whether it is inside an operator
  std::set<uint64_t> by_caller;                     // run by their pusher
  int busy = 0;                                     // operators that run and do not wait
  int active = 0;                                   // shuffle: threads and operators of lanes that do not wait
};

/// Leaked: threads may ask while the process ends.
struct State {
  std::mutex mutex;  // guards session
  std::condition_variable moved;
  Session session;
  uint64_t sessions = 0;
};
State* g_state = new State;

/// A thread that pushes, in one session.
struct Pusher {
  uint64_t session = 0;
  int number = 0, count = 0;
};
thread_local Pusher t_pusher;

std::string text(const Event& e) {
  const char* what = e.kind == Event::kPush                              ? "push"
                     : e.kind == Event::kStart || e.kind == Event::kCall ? "start"
                     : e.kind == Event::kEnd                             ? "end"
                                                                         : "wait";
  return std::string(what) + " of '" + e.name + "' (" + e.key + ")";
}

uint64_t mixed(uint64_t seed, const std::string& key) {
  uint64_t h = seed * 0x9E3779B97F4A7C15u + 0xD1B54A32D192ED03u;
  for (const char c : key) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
  h = (h ^ h >> 27) * 0x94D049BB133111EBu;
  return h ^ h >> 31;
}

/// Under the lock. The calling thread, as it is known between begin and end.
Pusher& pusher(State& state) {
  if (t_pusher.session != state.sessions) {
    t_pusher = {state.sessions, ++state.session.pushers, 0};
    ++state.session.active;
  }
  return t_pusher;
}

/// Under the lock. The key of what the calling thread does next; to `take` it is to do it.
std::string next_key(State& state, bool take) {
  Session& s = state.session;
  if (t_running)
    if (const auto found = s.keys.find(t_running->order); found != s.keys.end()) {
      int& children = s.children[t_running->order];
      return found->second + "/" + std::to_string(take ? ++children : children + 1);
    }
  Pusher& p = pusher(state);
  return std::to_string(p.number) + "." + std::to_string(take ? ++p.count : p.count + 1);
}

/// Under the lock.
void give_up(State& state, std::string why) {
  state.session.broken = std::move(why);
  state.moved.notify_all();
}

[[noreturn]] void refuse(const Session& s) { throw Error(ErrorKind::kInternal, s.broken); }

/// Under the lock. A replay whose next event cannot come any more, as somebody waits and nobody does anything, is given
/// up.
void notice_stall(State& state) {
  const Session& s = state.session;
  if (!s.broken.empty() || s.next == s.log.size() || s.busy > 0 || now_ns() - s.moved_ns < kStalledNs) return;
  give_up(state,
          "replay_order: expected the " + text(s.log[s.next]) + " next, got none, while all others wait. " + kWayOut);
}

/// Under the lock. Throws where a replay has no such event.
void must_know(State& state, const Event& e) {
  Session& s = state.session;
  if (s.mode != Mode::kReplay) return;
  if (!s.broken.empty()) refuse(s);
  const auto found = s.places.find(e.kind + e.key);
  if (found != s.places.end() && s.log[found->second].name == e.name) return;
  give_up(state, "replay_order: expected the program that was recorded" +
                     (found == s.places.end() ? std::string() : ", with the " + text(s.log[found->second])) +
                     ", got the " + text(e) + ". " + kWayOut);
  refuse(s);
}

/// Waits for the event's turn (or until a replay is given up), does `then`, and counts it as happened.
template <class F>
void happens(State& state, std::unique_lock<std::mutex>& lock, Event e, F&& then) {
  Session& s = state.session;
  if (s.mode == Mode::kReplay) {
    const auto found = s.places.find(e.kind + e.key);
    const size_t place = found == s.places.end() ? s.next : found->second;
    const auto its_turn = [&] { return s.next >= place || !s.broken.empty(); };
    if (!its_turn()) {
      s.busy -= t_running != nullptr;
      lock.unlock();
      {
        BlockingScope blocking;
        lock.lock();
        while (!state.moved.wait_for(lock, BlockingScope::kPatience, its_turn)) notice_stall(state);
        lock.unlock();
      }
      lock.lock();
      s.busy += t_running != nullptr;
    }
    then();
    if (s.broken.empty() && s.next == place) ++s.next;
  } else {
    then();
    s.log.push_back(std::move(e));
  }
  s.moved_ns = now_ns();
  state.moved.notify_all();
}

void begin(Mode mode, uint64_t seed, Log log) {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  if (ordering())
    throw Error(ErrorKind::kInternal,
                "order: expected one recording, replay or shuffle at a time, got a second. End the first.");
  ++state.sessions;
  state.session = {};
  state.session.mode = mode;
  state.session.seed = seed;
  for (size_t i = 0; mode == Mode::kReplay && i < log.size(); ++i) state.session.places[log[i].kind + log[i].key] = i;
  state.session.log = std::move(log);
  pusher(state);
  detail::set_watch(kOrdered, true);
}

}  // namespace

void record() { begin(Mode::kRecord, 0, {}); }
void replay(Log log) { begin(Mode::kReplay, 0, std::move(log)); }
void shuffle(uint64_t seed) { begin(Mode::kShuffle, seed, {}); }

std::pair<Log, std::string> end() {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  detail::set_watch(kOrdered, false);
  Session& s = state.session;
  if (s.mode == Mode::kReplay && s.broken.empty() && s.next < s.log.size())
    s.broken = "replay_order: expected the program that was recorded, with the " + text(s.log[s.next]) +
               ", got its end. " + kWayOut;
  return {std::move(s.log), std::move(s.broken)};
}

void give_up() {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  give_up(state, "order: expected a program that runs to the end, got one that was interrupted.");
}

void forget() { g_state = new State; }

void pushed(const Op& op) {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  Event e{Event::kPush, next_key(state, true), op.info.name};
  must_know(state, e);
  state.session.keys[op.order] = std::move(e.key);
}

bool link(Op& op, Released& out, bool small) {
  State& state = *g_state;
  std::unique_lock lock(state.mutex);
  Session& s = state.session;
  const auto found = s.keys.find(op.order);
  if (found == s.keys.end()) {  // a wait: what it may begin is seen when it is over
    op.link(out);
    return small;
  }
  const std::string key = found->second;
  happens(state, lock, {Event::kPush, key, op.info.name}, [&] { op.link(out); });
  if (s.mode == Mode::kShuffle) small = small && mixed(s.seed, key + "?") & 1;
  if (s.mode == Mode::kReplay && s.broken.empty()) small = false;  // else caller_is_next() was true
  if (op.home == Op::Home::kCaller || (small && out.ready)) s.by_caller.insert(op.order);
  return small;
}

bool caller_is_next() {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  const Session& s = state.session;
  return s.mode == Mode::kReplay && s.broken.empty() &&
         s.places.contains(std::string(1, Event::kCall) + next_key(state, false));
}

void started(const Op& op) {
  State& state = *g_state;
  std::unique_lock lock(state.mutex);
  Session& s = state.session;
  const auto found = s.keys.find(op.order);
  if (found == s.keys.end()) return;
  const char kind = s.by_caller.erase(op.order) ? Event::kCall : Event::kStart;
  happens(state, lock, {kind, found->second, op.info.name}, [&] { ++s.busy; });
}

void ended(const Op& op) {
  State& state = *g_state;
  std::unique_lock lock(state.mutex);
  Session& s = state.session;
  const auto found = s.keys.find(op.order);
  if (found == s.keys.end()) return;
  --s.busy;
  happens(state, lock, {Event::kEnd, found->second, op.info.name}, [] {});
  s.keys.erase(op.order);
  s.children.erase(op.order);
}

void handed_out(const Op& op) {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  Session& s = state.session;
  if (s.claimed.erase(op.order)) s.active = std::max(s.active - 1, 0);
}

void ready(const Op& op) {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  Session& s = state.session;
  const auto found = s.keys.find(op.order);
  if (s.mode == Mode::kShuffle && found != s.keys.end()) s.waiting.emplace(mixed(s.seed, found->second), op.order);
}

size_t choose(const std::vector<Op*>& heap) {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  Session& s = state.session;
  const auto at = [&](auto wanted) { return std::ranges::find_if(heap, wanted) - heap.begin(); };
  if (s.mode == Mode::kRecord || !s.broken.empty()) return 0;
  if (s.mode == Mode::kReplay) {
    if (!s.blocked.empty()) notice_stall(state);
    return at([&](const Op* op) {
      const auto found = s.keys.find(op->order);
      if (found == s.keys.end()) return true;
      return s.next < s.log.size() && s.log[s.next].kind == Event::kStart && s.log[s.next].key == found->second;
    });
  }
  if (s.waiting.empty()) return 0;
  if (s.active > 0 && now_ns() - s.moved_ns < (s.pushers > 1 ? kPatienceOfManyNs : kPatienceNs)) return heap.size();
  const auto first = *s.waiting.begin();
  const size_t i = at([&](const Op* op) { return op->order == first.second; });
  if (i == heap.size()) return i;  // the other lane's
  s.waiting.erase(first);
  s.claimed.insert(first.second);
  s.active = 1;
  s.moved_ns = now_ns();
  return i;
}

bool crowded(size_t most) {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  return state.session.mode != Mode::kReplay && state.session.keys.size() > most;
}

void waited(const char* name) {
  State& state = *g_state;
  std::unique_lock lock(state.mutex);
  Event e{Event::kWait, next_key(state, true), name};
  must_know(state, e);
  happens(state, lock, std::move(e), [] {});
}

void blocked(uint64_t token) {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  Session& s = state.session;
  if (t_running == nullptr) pusher(state);
  if (!s.blocked.emplace(token, t_running != nullptr).second) return;
  s.active = std::max(s.active - 1, 0);
  s.busy -= t_running != nullptr;
}

void unblocked(uint64_t token) {
  State& state = *g_state;
  std::lock_guard lock(state.mutex);
  Session& s = state.session;
  const auto found = s.blocked.find(token);
  if (found == s.blocked.end()) return;
  ++s.active;
  s.busy += found->second;
  s.blocked.erase(found);
}

}  // namespace minimx::engine::order
