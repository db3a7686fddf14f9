#include "runtime/tape.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
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

Saved save(const Operand& x) {
  Saved s;
  if (x.is_array()) {
    s.is_array = true;
    s.array = x.array->detached();
    s.version = x.array->storage->version();
  } else {
    s.scalar = x.scalar;
  }
  return s;
}

[[noreturn]] void freed(const TapeNode& node) {
  throw Error(ErrorKind::kAutograd,
              "backward: expected a graph that is still there, got '" + node.name +
                  "' whose saved arrays an earlier backward freed. Pass retain_graph=True to that one.");
}

Array restore(const TapeNode& node, const Saved& s, const GradEdge& edge, const char* what, int i) {
  if (s.is_array && s.array.storage->version() != s.version)
    throw Error(ErrorKind::kAutograd, "backward: expected " + std::string(what) + " " + std::to_string(i) + " of '" +
                                          node.name + "' as it was, got an array written to in place since (version " +
                                          std::to_string(s.array.storage->version()) + ", saved at " +
                                          std::to_string(s.version) + "). Write to a copy instead.");
  Array a = s.array;
  a.edge = edge;
  return a;
}

/// An array of `shape` whose every element is `value`.
Array filled(const Dims& shape, DType dtype, Device device, double value) {
  Array one = Array::empty(Dims{}, dtype, {});
  Scalar::real(value).store(dtype, one.data());
  Array wide = device.kind == Device::Kind::kCpu ? one : on_device(one, device);
  wide.shape = shape;
  wide.strides = Dims::filled(shape.size(), 0);
  Array out = Array::empty(shape, dtype, device);
  copy_into(wide, out);
  return out;
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

void place(Ref<TapeNode> node, std::span<Array> outs) {
  note_edges(*node);
  for (size_t i = 0; i < outs.size(); ++i) {
    node->out_specs.push_back({outs[i].dtype, outs[i].shape});
    if (is_float(outs[i].dtype)) outs[i].edge = {node, static_cast<int>(i), {}, outs[i].storage->version()};
  }
}

}  // namespace

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
  auto node = make_ref<TapeNode>();
  node->name = plan.op->name;
  node->sequence = ++g_sequence;
  node->backward = program;
  node->device = outs.empty() ? Device{} : outs[0].device();
  node->edges.resize(ins.size());
  node->ins.resize(ins.size());
  for (size_t i = 0; i < ins.size(); ++i) {
    if (ins[i].is_array()) node->edges[i] = ins[i].array->edge;
    if (ins[i].kind == Operand::Kind::kScalar || (program->saves_in >> std::min<size_t>(i, 63) & 1))
      node->ins[i] = save(ins[i]);
    if (!plan.is_view && overwritten(node->ins[i], outs)) --node->ins[i].version;  // what was saved is gone already
  }
  node->outs.resize(outs.size());
  for (size_t i = 0; i < outs.size(); ++i)
    if (program->saves_out >> i & 1) node->outs[i] = save(Operand(outs[i]));
  place(node, outs);
}

Ref<TapeNode> record_node(const std::string& name, Ref<const Backward> backward, std::span<const Array> ins,
                          std::span<Array> outs) {
  auto node = make_ref<TapeNode>();
  node->name = name;
  node->sequence = ++g_sequence;
  node->backward = std::move(backward);
  node->device = outs.empty() ? Device{} : outs[0].device();
  for (const Array& a : ins) node->edges.push_back(a.edge);
  place(node, outs);
  return node;
}

void attach_grad(Array& a, GradReq req, const Array& grad) {
  a.edge = {};
  if (req == GradReq::kNull) return;
  auto leaf = make_ref<Leaf>();
  leaf->grad = grad;
  leaf->req = req;
  a.edge.leaf = leaf;
}

std::vector<std::optional<Array>> GradProgram::run(const TapeNode& node,
                                                   std::span<const std::optional<Array>> gs) const {
  std::vector<std::vector<Array>> done(steps.size());
  std::vector<Array> held;  // operands made on the way, alive until the end
  held.reserve(node.ins.size() + node.outs.size() + gs.size() + steps.size() * 4);
  std::vector<std::optional<Array>> grads(gs.begin(), gs.end());
  auto operand = [&](const Arg& a) -> Operand {
    switch (a.kind) {
      case Arg::Kind::kIn:
        if (!node.ins[a.index].is_array) return Operand(node.ins[a.index].scalar);
        return Operand(held.emplace_back(node.saved_in(a.index)));
      case Arg::Kind::kOut:
        return Operand(held.emplace_back(node.saved_out(a.index)));
      case Arg::Kind::kGrad: {
        auto& g = grads[a.index];
        if (!g) g = filled(node.out_specs[a.index].shape, node.out_specs[a.index].dtype, node.device, 0);
        return Operand(*g);
      }
      case Arg::Kind::kStep:
        return Operand(done[a.index][a.output]);
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
    std::vector<Operand> ins;
    for (const Arg& a : steps[s].args) ins.push_back(operand(a));
    invoke(*steps[s].op, steps[s].attrs.get(), ins, done[s]);
  }
  std::vector<std::optional<Array>> out(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].kind == Arg::Kind::kNone) continue;
    Operand x = operand(results[i]);
    if (x.is_array()) out[i] = *x.array;
  }
  return out;
}

namespace {

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

  void add(const GradEdge& edge, const Array& g) {
    if (edge.node) {
      auto& slots = pending_[edge.node.get()];
      if (slots.empty()) {
        slots.resize(edge.node->out_specs.size());
        lane_of(edge.node->device).nodes.push({edge.node->sequence, edge.node});
      }
      accumulate(slots[edge.index], g);
    } else if (edge.leaf) {
      auto [it, fresh] = leaves_.try_emplace(edge.leaf.get(), Waiting{edge.leaf, {}});
      accumulate(it->second.grad, g);
      it->second.written = false;
      if (fresh && writes_ && edge.leaf->written && edge.leaf->first_use)
        lane_of(edge.leaf->grad.device()).leaves.push({edge.leaf->first_use, edge.leaf});
    }
  }

  void run() {
    for (size_t turn = 0, idle = 0; idle < lanes_.size();) {
      Lane& lane = lanes_[turn];
      const bool done = lane.nodes.empty();
      if (!done) step(lane);
      idle = done ? idle + 1 : 0;
      if (done || write_final(lane)) turn = (turn + 1) % lanes_.size();
    }
  }

  void write_leaves() {
    for (auto& [leaf, waiting] : leaves_)
      if (!waiting.written) write(waiting);
  }

  std::optional<Array> of(const Array& a) {
    if (a.edge.node) {
      auto it = seen_.find(a.edge.node.get());
      return it == seen_.end() ? std::nullopt : it->second[a.edge.index];
    }
    auto it = leaves_.find(a.edge.leaf.get());
    return it == leaves_.end() ? std::nullopt : it->second.grad;
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
    Queue<TapeNode> nodes;
    Queue<Leaf> leaves;  // that somebody waits for, by first use
  };

  Lane& lane_of(Device device) {
    for (Lane& lane : lanes_)
      if (!apart_ || lane.device == device) return lane;
    return lanes_.emplace_back(Lane{device, {}, {}});
  }

  void step(Lane& lane) {
    Ref<TapeNode> node = lane.nodes.top().second;
    lane.nodes.pop();
    std::vector<std::optional<Array>> gs = std::move(pending_[node.get()]);
    pending_.erase(node.get());
    if (wanted_nodes_.count(node.get())) seen_[node.get()] = gs;
    if (node->released) freed(*node);
    mode().device = node->device;
    auto grads = node->backward->run(*node, gs);
    for (size_t i = 0; i < grads.size(); ++i)
      if (grads[i] && i < node->edges.size() && node->edges[i]) add(node->edges[i], *grads[i]);
    if (!retain_) {
      node->ins.clear();
      node->outs.clear();
      node->backward.reset();
      node->released = true;
    }
  }

  /// Writes the leaves that no node left in the lane can add to: all of those are older than their first use. True if
  /// there were any. (A graph that outlived the leaf's last backward may add to it all the same: then it is written
  /// again.)
  bool write_final(Lane& lane) {
    const uint64_t next = lane.nodes.empty() ? 0 : lane.nodes.top().first;
    bool any = false;
    for (; !lane.leaves.empty() && lane.leaves.top().first > next; any = true) {
      Waiting& waiting = leaves_.at(lane.leaves.top().second.get());
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

  void accumulate(std::optional<Array>& slot, const Array& g) {
    slot = slot ? invoke1(*core_ops().add, nullptr, {Operand(*slot), Operand(g)}) : g;
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
    } else if (g.storage->holders() == 2 && to.storage->holders() == 1 && g.contiguous() && g.dtype == to.dtype &&
               g.offset == 0 && g.shape == to.shape) {
      to.storage = g.storage;  // nobody else sees either block (the walk holds one reference): no copy
    } else {
      copy_into(g, to);
    }
    to.storage->bump_version();
  }

  bool retain_, create_, writes_, apart_;
  std::unordered_map<TapeNode*, std::vector<std::optional<Array>>> pending_, seen_;
  std::unordered_map<Leaf*, Waiting> leaves_;
  std::unordered_set<TapeNode*> wanted_nodes_;
  std::deque<Lane> lanes_;
};

}  // namespace

std::vector<std::optional<Array>> backward(std::span<const Array> heads,
                                           std::span<const std::optional<Array>> head_grads, std::span<const Array> wrt,
                                           bool retain_graph, bool create_graph) {
  Walk walk(retain_graph || create_graph, create_graph, wrt, heads);
  struct Restore {
    bool recording = mode().recording, frees = mode().frees;
    Device device = mode().device;
    int8_t low = std::exchange(mode().low, Mode::kOff);  // gradients keep the types that the operators ran in
    ~Restore() { mode().recording = recording, mode().frees = frees, mode().device = device, mode().low = low; }
  } restore_mode;
  mode().recording = create_graph;
  mode().frees = !(retain_graph || create_graph);
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
      walk.add(heads[i].edge, *head_grads[i]);
    } else {
      walk.add(heads[i].edge, filled(heads[i].shape, heads[i].dtype, heads[i].device(), 1));
    }
  }
  walk.run();
  std::vector<std::optional<Array>> out;
  if (wrt.empty()) walk.write_leaves();
  for (const Array& a : wrt) out.push_back(walk.of(a));
  return out;
}

}  // namespace minimx
