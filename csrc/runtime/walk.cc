// The walk back: from the heads to the variables, each node once all that depends on it has been walked. What a node
// is, and how its gradient is computed, is tape.cc.
#include <algorithm>
#include <array>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "runtime/deferred.h"
#include "runtime/invoke.h"
#include "runtime/tape.h"

namespace minimx {
namespace {

[[noreturn]] void freed(const TapeNode& node) {
  throw Error(ErrorKind::kAutograd,
              "backward: expected a graph that is still there, got '" + node.name +
                  "' whose saved arrays an earlier backward freed. Pass retain_graph=True to that one.");
}

/// Numbers of objects by their address: a list that is searched while it is short, as it nearly always is.
class Numbers {
 public:
  /// The number of `p`, or -1.
  int find(const void* p) const {
    if (many_.empty()) {
      for (const auto& [q, number] : few_)
        if (q == p) return number;
      return -1;
    }
    const auto it = many_.find(p);
    return it == many_.end() ? -1 : it->second;
  }
  void add(const void* p, int number) {
    if (many_.empty() && few_.size() < kFew) {
      few_.emplace_back(p, number);
      return;
    }
    if (many_.empty()) many_.insert(few_.begin(), few_.end());
    many_.emplace(p, number);
  }
  void remove(const void* p) {
    if (!many_.empty()) {
      many_.erase(p);
      if (many_.empty()) few_.clear();
      return;
    }
    const auto it = std::ranges::find(few_, p, &std::pair<const void*, int>::first);
    *it = few_.back();
    few_.pop_back();
  }

 private:
  static constexpr size_t kFew = 64;
  std::vector<std::pair<const void*, int>> few_;
  std::unordered_map<const void*, int> many_;  // holds all as soon as it holds any
};

/// One walk back: gradients waiting at node outputs and at leaves. Where no head depends on two devices, each device
/// has a lane of its own: nothing in one waits for another, so they take turns, a leaf that somebody waits for each.
class Walk {
 public:
  Walk(bool retain, bool create, std::span<const Array> wrt, std::span<const Array> heads)
      : retain_(retain), create_(create), writes_(wrt.empty()) {
    apart_ = std::ranges::none_of(heads, [](const Array& a) { return a.edge.node && a.edge.node->mixed; });
    for (size_t i = 0; i < wrt.size(); ++i) {
      if (!wrt[i].edge)
        throw Error(ErrorKind::kAutograd,
                    "autograd.grad: expected variables with attach_grad() or computed while recording, got "
                    "variable " +
                        std::to_string(i) + " that is neither. Call attach_grad() on it before recording.");
      if (wrt[i].edge.node) wanted_nodes_.insert(wrt[i].edge.node.get());
    }
  }

  void add(const GradEdge& edge, Array&& g) {
    if (edge.node) {
      accumulate(gradients_of(edge.node)[edge.index], std::move(g));
    } else if (edge.leaf) {
      const int known = leaf_numbers_.find(edge.leaf.get());
      if (known < 0) {
        leaf_numbers_.add(edge.leaf.get(), static_cast<int>(leaves_.size()));
        Waiting& waiting = leaves_.emplace_back();
        waiting.leaf = edge.leaf;
        waiting.grad = std::move(g);
        if (writes_ && edge.leaf->written && edge.leaf->first_use)
          lane_of(edge.leaf->grad.device()).leaves.push({edge.leaf->first_use, edge.leaf});
      } else {
        accumulate(leaves_[known].grad, std::move(g));
        leaves_[known].written = false;
      }
    }
  }

  void run() {
    for (size_t turn = 0, idle = 0; idle < lanes_.size();) {
      const bool done = lanes_[turn].nodes.empty();
      if (!done) step(turn);
      idle = done ? idle + 1 : 0;
      if (done || write_final(turn)) turn = (turn + 1) % lanes_.size();
    }
  }

  void write_leaves() {
    for (Waiting& waiting : leaves_)
      if (!waiting.written) write(waiting);
  }

  std::optional<Array> of(const Array& a) {
    if (a.edge.node) {
      auto it = seen_.find(a.edge.node.get());
      return it == seen_.end() ? std::nullopt : it->second[a.edge.index];
    }
    const int number = leaf_numbers_.find(a.edge.leaf.get());
    return number < 0 ? std::nullopt : leaves_[number].grad;
  }

 private:
  struct Waiting {
    Ref<Leaf> leaf;
    std::optional<Array> grad;
    bool written = false;
  };
  struct Later {
    bool operator()(const auto& a, const auto& b) const { return a.first < b.first; }
  };
  /// By sequence, the largest first.
  template <class T>
  using Queue = std::priority_queue<std::pair<uint64_t, Ref<T>>, std::vector<std::pair<uint64_t, Ref<T>>>, Later>;
  struct Lane {
    Device device;
    Queue<TapeNode> nodes;  // that have gradients of outputs
    Queue<Leaf> leaves;     // that somebody waits for, by first use
  };

  Lane& lane_of(Device device) {
    for (Lane& lane : lanes_)
      if (!apart_ || lane.device == device) return lane;
    return lanes_.emplace_back(Lane{device, {}, {}});
  }

  /// The gradients of a node's outputs that are there so far, until it is walked.
  Gradients& gradients_of(const Ref<TapeNode>& node) {
    const int known = node_numbers_.find(node.get());
    if (known >= 0) return pending_[known];
    if (vacant_.empty()) {
      vacant_.push_back(static_cast<int>(pending_.size()));
      pending_.emplace_back();
    }
    const int number = vacant_.back();
    vacant_.pop_back();
    node_numbers_.add(node.get(), number);
    lane_of(node->device).nodes.push({node->sequence, node});
    pending_[number].resize(node->out_specs.size());
    return pending_[number];
  }

  void step(size_t lane) {
    Ref<TapeNode> node = lanes_[lane].nodes.top().second;
    lanes_[lane].nodes.pop();
    const int number = node_numbers_.find(node.get());
    node_numbers_.remove(node.get());
    std::swap(gs_, pending_[number]);
    vacant_.push_back(number);
    if (wanted_nodes_.count(node.get())) seen_[node.get()] = gs_;
    if (node->released) freed(*node);
    mode().device = node->device;
    run(*node);
    gs_.clear();
    if (leaves_.capacity() < leaves_.size() + grads_.size()) leaves_.reserve(2 * leaves_.size() + grads_.size());
    for (size_t i = 0; i < grads_.size(); ++i)
      if (grads_[i] && i < node->edges.size() && node->edges[i]) add(node->edges[i], std::move(*grads_[i]));
    grads_.clear();
    if (retain_) return;
    if (!node->walking) node->let_go();
    node->released = true;
  }

  void run(TapeNode& node) {
    struct Walking {
      int& count;
      explicit Walking(int& n) : count(++n) {}
      ~Walking() { --count; }
    } walking(node.walking);
    node.backward->run(node, gs_, grads_);
  }

  /// Writes the leaves that no node left in the lane can add to: all of those are older than their first use. True if
  /// there were any. (A graph that outlived the leaf's last backward may add to it all the same: then it is written
  /// again.)
  bool write_final(size_t number) {
    Lane& lane = lanes_[number];
    const uint64_t next = lane.nodes.empty() ? 0 : lane.nodes.top().first;
    bool any = false;
    for (; !lane.leaves.empty() && lane.leaves.top().first > next; any = true) {
      Waiting& waiting = leaves_[leaf_numbers_.find(lane.leaves.top().second.get())];
      lane.leaves.pop();
      write(waiting);
    }
    return any;
  }

  void write(Waiting& waiting) {
    Leaf& leaf = *waiting.leaf;
    write(leaf, *waiting.grad);
    waiting.written = true;
    leaf.first_use = 0;
    if (leaf.req == GradReq::kAdd) waiting.grad.reset();
    if (leaf.written) leaf.written();
  }

  static void accumulate(std::optional<Array>& slot, Array&& g) {
    if (slot)
      slot = invoke1(*core_ops().add, nullptr, {Operand(*slot), Operand(g)});
    else
      slot = std::move(g);
  }

  void write(Leaf& leaf, const Array& g) {
    leaf.fresh = true;
    Array& to = leaf.grad;
    if (leaf.req == GradReq::kAdd) {
      std::vector<Array> sum;
      invoke(*core_ops().add, nullptr, std::array{Operand(to), Operand(g)}, sum,
             create_ ? std::span<Array>() : std::span(&to, 1));
      if (create_) to = sum[0];
    } else if (create_) {
      to = g;
    } else if (Deferred::copy(g, to)) {  // with the rest of the sequence, the same way every time
    } else if (g.storage->holders() == 1 && to.storage->holders() == 1 && g.dtype == to.dtype && g.offset == 0 &&
               g.shape == to.shape && g.covers_storage() && g.device() == to.device() && !g.storage->shared()) {
      to.storage = g.storage;  // nobody else sees either block (the walk holds the one reference): no copy
    } else {
      copy_into(g, to);
    }
    to.storage->bump_version();
  }

  bool retain_, create_, writes_, apart_;
  Numbers node_numbers_, leaf_numbers_;  // places of nodes in pending_, and of leaves in leaves_
  std::vector<Gradients> pending_;
  std::vector<int> vacant_;  // places in pending_
  Gradients gs_, grads_;     // of the node that is walked, empty in between
  std::vector<Waiting> leaves_;
  std::unordered_map<TapeNode*, Gradients> seen_;
  std::unordered_set<TapeNode*> wanted_nodes_;
  std::vector<Lane> lanes_;
};

}  // namespace

Gradients backward(std::span<const Array> heads, std::span<const std::optional<Array>> head_grads,
                   std::span<const Array> wrt, bool retain_graph, bool create_graph) {
  Walk walk(retain_graph || create_graph, create_graph, wrt, heads);
  struct Restore {
    bool recording = mode().recording, frees = mode().frees, writes = mode().writes;
    Device device = mode().device;
    int8_t low = std::exchange(mode().low, Mode::kOff);  // gradients keep the types that the operators ran in
    ~Restore() {
      Mode& m = mode();
      m.recording = recording, m.frees = frees, m.writes = writes, m.device = device, m.low = low;
    }
  } restore_mode;
  mode().recording = create_graph;
  mode().frees = !(retain_graph || create_graph);
  mode().writes =
      wrt.empty() && !create_graph && std::ranges::none_of(head_grads, [](const auto& g) { return g.has_value(); });
  for (size_t i = 0; i < heads.size(); ++i) {
    if (!heads[i].edge)
      throw Error(ErrorKind::kAutograd,
                  "backward: expected an array computed from variables under autograd.record(), got one that is "
                  "not on the tape. Call attach_grad() on the inputs and compute it inside record().");
    if (i < head_grads.size() && head_grads[i]) {
      if (head_grads[i]->shape != heads[i].shape)
        throw Error(ErrorKind::kAutograd, "backward: expected a head gradient of shape " + heads[i].shape.str() +
                                              ", got " + head_grads[i]->shape.str() +
                                              ". Give one gradient per element of the head.");
      walk.add(heads[i].edge, Array(*head_grads[i]));
    } else {
      walk.add(heads[i].edge, filled(heads[i].shape, heads[i].dtype, heads[i].device(), 1));
    }
  }
  walk.run();
  Gradients out;
  if (wrt.empty()) walk.write_leaves();
  for (const Array& a : wrt) out.push_back(walk.of(a));
  return out;
}

}  // namespace minimx
