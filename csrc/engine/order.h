// The order in which operators run, as something to keep: recorded, replayed exactly, or shuffled by a seed so that a
// race shows itself. An operator is known by who pushed it, and as the how many-th: "1.17" is the 17th of the first
// thread, "1.17/2" the second that its function pushed. Hooks of the engine; the rest of it knows no orders.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/op.h"
#include "engine/watch.h"

namespace minimx::engine::order {

struct Event {
  /// kStart: by a lane; kCall: by the thread that pushed it.
  enum Kind : char { kPush = 'p', kStart = 's', kCall = 'c', kEnd = 'e', kWait = 'w' };
  char kind;
  std::string key;   // of the operator, or of the wait
  std::string name;  // of the operator, or of the wait
};
using Log = std::vector<Event>;

// One of these begins, end() ends it. Nothing should be in flight. Threads are told apart by the order in which they
// first use the engine in between.
void record();
/// Each event waits until all before it have happened. Throws, at the push or wait, where the program is another.
void replay(Log log);
/// Also records. Operators of lanes run one at a time, and start only while every thread that has used the engine waits
/// in it (or has done nothing there for a second): which of the ready ones goes next, and which small ones their caller
/// runs, the seed decides. So one thread's program runs the same way each time.
void shuffle(uint64_t seed);
/// What happened; and why a replay did not get through, empty if it did.
std::pair<Log, std::string> end();
/// Lets all run free from now on: the program has failed.
void give_up();
/// In a forked child: the parent's is not ours.
void forget();

// Hooks, called where ordering().
/// Gives it its key. Throws where a replay does not know it.
void pushed(const Op& op);
/// A replay knows that what the calling thread pushes next was run by it.
bool caller_is_next();
/// op.link(out), in its turn. Returns whether its pusher runs it if it is ready; it does where it is `small`.
bool link(Op& op, Released& out, bool small);
void started(const Op& op);
/// It is over, and has released nothing yet.
void ended(const Op& op);
/// It has, and all who waited for it know.
void handed_out(const Op& op);
/// A lane has it ready.
void ready(const Op& op);
/// The one of a lane's ready operators to start next; `heap.size()` where none may yet. The first is the lane's own
/// choice.
size_t choose(const std::vector<Op*>& heap);
/// More than `most` operators have been pushed and have not ended. Never in a replay, where pushes wait for their turn.
bool crowded(size_t most);
/// A wait is over.
void waited(const char* name);
/// The thread waits for what `token` names, until unblocked(token), which may be called by whoever brings it.
void blocked(uint64_t token);
void unblocked(uint64_t token);

/// The calling thread waits while it lives.
class Blocked {
 public:
  explicit Blocked(uint64_t token) : token_(ordering() ? token : 0) {
    if (token_) blocked(token_);
  }
  ~Blocked() {
    if (token_) unblocked(token_);
  }
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;

 private:
  const uint64_t token_;
};

}  // namespace minimx::engine::order
