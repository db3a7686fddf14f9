#include "runtime/tape.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "runtime/backend.h"
#include "runtime/deferred.h"
#include "runtime/invoke.h"

namespace minimx {
namespace {

std::atomic<uint64_t> g_sequence{0};

bool is_float(DType t) {
  return t == DType::kFloat16 || t == DType::kBFloat16 || t == DType::kFloat32 || t == DType::kFloat64;
}

void save(const Operand& x, Saved& s) {
  s.is_array = x.is_array();
  if (s.is_array) {
    s.array = x.array->detached();
    s.version = x.array->storage->version();
  } else {
    s.scalar = x.scalar;
  }
}

[[noreturn]] void freed(const TapeNode& node) {
  throw Error(ErrorKind::kAutograd,
              "backward: expected a graph that is still there, got '" + node.name +
                  "' whose saved arrays an earlier backward freed. Pass retain_graph=True to that one.");
}

void check_version(const TapeNode& node, const Saved& s, const char* what, int i) {
  if (s.is_array && s.array.storage->version() != s.version)
    throw Error(ErrorKind::kAutograd, "backward: expected " + std::string(what) + " " + std::to_string(i) + " of '" +
                                          node.name + "' as it was, got an array written to in place since (version " +
                                          std::to_string(s.array.storage->version()) + ", saved at " +
                                          std::to_string(s.version) + "). Write to a copy instead.");
}

Array restore(const TapeNode& node, const Saved& s, const GradEdge& edge, const char* what, int i) {
  check_version(node, s, what, i);
  Array a = s.array;
  a.edge = edge;
  return a;
}
/// True if a saved operand lies in memory that the operator wrote its outputs to (in place).
bool overwritten(const Saved& s, std::span<const Array> outs) {
  return s.is_array && std::ranges::any_of(outs, [&](const Array& o) { return o.storage == s.array.storage; });
}

/// Tells leaves and node of each other, once the node's edges are there.
void note_edges(TapeNode& node) {
  for (const GradEdge& e : node.edges) {
    if (e.node) {
      node.mixed |= e.node->mixed || e.node->device != node.device;
    } else if (e.leaf) {
      if (!e.leaf->first_use) e.leaf->first_use = node.sequence;
      node.mixed |= e.leaf->grad.storage && e.leaf->grad.device() != node.device;
    }
  }
}

void place(const Ref<TapeNode>& node, std::span<Array> outs) {
  note_edges(*node);
  for (size_t i = 0; i < outs.size(); ++i) {
    node->out_specs.push_back({outs[i].dtype, outs[i].shape});
    if (is_float(outs[i].dtype)) outs[i].edge = {node, static_cast<int>(i), {}, outs[i].storage->version()};
  }
}

/// Nodes that this thread may use again, and those that it is about to destroy: one after the other, for each holds
/// those it depends on, and a chain of them may be longer than the stack is deep.
struct UsedNodes {
  static constexpr size_t kMost = 256;           // kept
  static constexpr size_t kLongest = 8;          // list of a node that is kept
  static inline thread_local bool gone = false;  // the thread ends
  std::vector<TapeNode*> spare, dying;
  bool busy = false;
  ~UsedNodes() {
    gone = true;
    for (TapeNode* n : spare) delete n;
  }
};
thread_local UsedNodes t_used;

}  // namespace

Ref<TapeNode> TapeNode::make() {
  if (UsedNodes::gone || t_used.spare.empty()) return make_ref<TapeNode>();
  TapeNode* node = t_used.spare.back();
  t_used.spare.pop_back();
  return Ref<TapeNode>(node);
}

void TapeNode::let_go() {
  ins.clear();
  outs.clear();
  backward.reset();
}

void TapeNode::destroy() {
  if (UsedNodes::gone) {
    delete this;
    return;
  }
  UsedNodes& used = t_used;
  used.dying.push_back(this);
  if (std::exchange(used.busy, true)) return;
  while (!used.dying.empty()) {
    TapeNode* node = used.dying.back();
    used.dying.pop_back();
    node->let_go();
    node->edges.clear();
    node->out_specs.clear();
    node->released = node->mixed = false;
    if (used.spare.size() < UsedNodes::kMost && node->edges.capacity() <= UsedNodes::kLongest &&
        node->out_specs.capacity() <= UsedNodes::kLongest)
      used.spare.push_back(node);
    else
      delete node;
  }
  used.busy = false;
}

Array TapeNode::saved_in(int i) const {
  return restore(*this, ins[i], i < static_cast<int>(edges.size()) ? edges[i] : GradEdge{}, "operand", i);
}

Array TapeNode::saved_out(int i) const {
  return restore(*this, outs[i], {Ref<TapeNode>(const_cast<TapeNode*>(this)), i, {}, outs[i].version}, "output", i);
}

void record(Plan& plan, std::span<const Operand> ins, std::span<Array> outs) {
  uint64_t mask = 0;
  for (size_t i = 0; i < ins.size(); ++i)
    if (ins[i].is_array() && ins[i].array->edge && is_float(ins[i].array->dtype))
      mask |= uint64_t{1} << std::min<size_t>(i, 63);
  if (!mask) return;
  Ref<GradProgram>& program = plan.gradients[mask];
  if (!program) program = rules().gradient(plan, ins, mask);
  bool any =
      std::ranges::any_of(program->results, [](const auto& r) { return r.kind != GradProgram::Arg::Kind::kNone; });
  if (!any) return;
  auto node = TapeNode::make();
  node->name = plan.op->name;
  node->sequence = ++g_sequence;
  node->backward = program;
  node->device = outs.empty() ? Device{} : outs[0].device();
  node->edges.resize(ins.size());
  node->ins.resize(ins.size());
  for (size_t i = 0; i < ins.size(); ++i) {
    if (ins[i].is_array()) node->edges[i] = ins[i].array->edge;
    if (ins[i].kind == Operand::Kind::kScalar || (program->saves_in >> std::min<size_t>(i, 63) & 1))
      save(ins[i], node->ins[i]);
    if (!plan.is_view && overwritten(node->ins[i], outs)) --node->ins[i].version;  // what was saved is gone already
  }
  node->outs.resize(outs.size());
  for (size_t i = 0; i < outs.size(); ++i)
    if (program->saves_out >> i & 1) save(Operand(outs[i]), node->outs[i]);
  place(node, outs);
}

void record_node(const std::string& name, Ref<const Backward> backward, std::vector<GradEdge> edges,
                 std::span<Array> outs) {
  auto node = TapeNode::make();
  node->name = name;
  node->sequence = ++g_sequence;
  node->backward = std::move(backward);
  node->device = outs.empty() ? Device{} : outs[0].device();
  node->edges = std::move(edges);
  place(node, outs);
}

Array filled(const Dims& shape, DType dtype, Device device, double value) {
  const bool lone = device.kind == Device::Kind::kCpu && shape.product() == 1;
  Array one = Array::empty(lone ? shape : Dims{}, dtype, lone ? device : Device{});
  Scalar::real(value).store(dtype, one.data());
  if (lone) return one;
  Array wide = device.kind == Device::Kind::kCpu ? one : on_device(one, device);
  wide.shape = shape;
  wide.strides = Dims::filled(shape.size(), 0);
  Array out = Array::empty(shape, dtype, device);
  copy_into(wide, out);
  return out;
}

void attach_grad(Array& a, GradReq req, const Array& grad) {
  a.edge = {};
  if (req == GradReq::kNull) return;
  auto leaf = make_ref<Leaf>();
  leaf->grad = grad;
  leaf->req = req;
  a.edge.leaf = leaf;
}

namespace {

/// What the steps of a gradient program make, with the room that the last one of this thread left.
class Made {
 public:
  explicit Made(size_t steps) : by_step_(std::move(t_room)) {
    if (by_step_.size() < steps) by_step_.resize(steps);
  }
  ~Made() {
    for (std::vector<Array>& outs : by_step_) outs.clear();
    t_room = std::move(by_step_);
  }
  std::vector<Array>& operator[](size_t step) { return by_step_[step]; }

 private:
  static thread_local std::vector<std::vector<Array>> t_room;
  std::vector<std::vector<Array>> by_step_;
};
thread_local std::vector<std::vector<Array>> Made::t_room;

}  // namespace

void GradProgram::run(const TapeNode& node, Gradients& gs, Gradients& out) const {
  Made made(steps.size());
  std::vector<Array> held;  // saved arrays with their place on the tape, for a gradient that is recorded
  const bool recorded = mode().recording;
  if (recorded) {
    size_t operands = results.size();
    for (const Step& s : steps) operands += s.args.size();
    held.reserve(operands);
  }
  auto operand = [&](const Arg& a) -> Operand {
    switch (a.kind) {
      case Arg::Kind::kIn:
        if (!node.ins[a.index].is_array) return Operand(node.ins[a.index].scalar);
        if (recorded) return Operand(held.emplace_back(node.saved_in(a.index)));
        check_version(node, node.ins[a.index], "operand", a.index);
        return Operand(node.ins[a.index].array);
      case Arg::Kind::kOut:
        if (recorded) return Operand(held.emplace_back(node.saved_out(a.index)));
        check_version(node, node.outs[a.index], "output", a.index);
        return Operand(node.outs[a.index].array);
      case Arg::Kind::kGrad: {
        auto& g = gs[a.index];
        if (!g) g = filled(node.out_specs[a.index].shape, node.out_specs[a.index].dtype, node.device, 0);
        return Operand(*g);
      }
      case Arg::Kind::kStep:
        return Operand(made[a.index][a.output]);
      case Arg::Kind::kConstant:
        return Operand(constants[a.index]);
      case Arg::Kind::kScalar:
        return Operand(a.scalar);
      case Arg::Kind::kNone:
        break;
    }
    return Operand();
  };
  for (size_t s = 0; s < steps.size(); ++s) {
    const std::vector<Arg>& args = steps[s].args;
    std::array<Operand, 8> few;
    std::vector<Operand> many(args.size() > few.size() ? args.size() : 0);
    Operand* ins = many.empty() ? few.data() : many.data();
    for (size_t i = 0; i < args.size(); ++i) ins[i] = operand(args[i]);
    invoke(*steps[s].op, steps[s].attrs.get(), {ins, args.size()}, made[s]);
  }
  out.resize(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].kind == Arg::Kind::kNone) continue;
    Operand x = operand(results[i]);
    if (x.is_array()) out[i] = *x.array;
  }
}

namespace {

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
    } else if (Deferred::get().copy(g, to)) {  // with the rest of the sequence, the same way every time
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
