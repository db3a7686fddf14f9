// A bulk: operators that one thread has pushed, gathered and handed over to the compute worker as one. It is an Op that
// is linked with its first member, and grows while a hold keeps it from starting. Why that can neither deadlock nor
// change a result is written at Bulk::append. Included by csrc/engine/*.cc only.
#pragma once
#include <atomic>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "engine/op.h"

namespace minimx::engine {

class Bulk final : public Op {
 public:
  /// A bulk of one member, not yet linked.
  Bulk(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes, const PushInfo& info);

  /// Links it; the hold stays on.
  void open(Released& out) { link(out, 1); }
  /// Adds a member, counted in the backlog already. False, with `fn` untouched, when order demands another bulk.
  bool append(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes,
              const PushInfo& info);
  /// Lets go of the hold: no member is added from here on. Once.
  void hand_over();
  int size() const { return static_cast<int>(members_.size()); }

  FailurePtr run() override;
  void drop_function() override { members_.clear(); }
  void release_vars(const FailurePtr& failure, Released& out) override;
  const Use* find(const Var* var) const override;

 private:
  /// A Var of the bulk. `failure` is what poisons it, as far as members have run.
  struct Entry {
    Use* use = nullptr;  // &own, or one of the Op's
    Use own;
    FailurePtr failure;
  };
  struct Touch {
    Entry* entry;
    bool write;
  };
  struct Member {
    UniqueFunction<void()> fn;
    PushInfo info;
    uint64_t order;
    size_t first_touch, end_touch;
  };

  Entry* entry_of(Var* var);
  bool depends(std::span<Var* const> reads, std::span<Var* const> writes);
  bool acquire(Var* var, bool write);
  void add(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes, const PushInfo& info,
           uint64_t order);
  FailurePtr inherited(const Member& member) const;
  void run(Member& member);

  std::unordered_map<const Var*, Entry> entries_;
  std::vector<Member> members_;
  std::vector<Touch> touches_;
};

/// A thread's place for its open bulk. Its owner adds to the bulk, anyone may take it away and hand it over.
struct Gatherer {
  std::mutex mutex;  // also guards the bulk while it is open
  Ref<Bulk> bulk;
  const uint64_t epoch = detail::epoch();
};

/// All Gatherers of the process, so that a waiter can close what other threads keep open.
class Gatherers {
 public:
  void enter(Gatherer* g);
  void leave(Gatherer* g);
  /// Hands over every open bulk. Called with no lock held by whoever waits, after it has taken its place in the queues.
  void close_all();
  /// While it lives, nothing is gathered: somebody waits for everything.
  class Pause {
   public:
    Pause();
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Gatherers& all_;
  };
  bool paused() const { return paused_.load() > 0; }
  void count(int change) { open_.fetch_add(change); }

 private:
  std::mutex mutex_;
  std::vector<Gatherer*> all_;
  // Sequentially consistent both: who opens a bulk counts it, then looks for a Pause; who pauses does the reverse.
  std::atomic<int> open_{0};    // bulks in all_; one is counted before it is linked
  std::atomic<int> paused_{0};  // Pauses alive
};

/// Operators that this thread gathers before it hands them over; below 2: none.
inline constinit thread_local int t_bulk_size = 0;
/// Adds an operator to this thread's bulk.
void push_gathered(UniqueFunction<void()>&& fn, std::span<Var* const> reads, std::span<Var* const> writes,
                   const PushInfo& info);
/// Hands over what this thread has gathered.
void close_own_bulk();

}  // namespace minimx::engine
