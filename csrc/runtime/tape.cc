#include "runtime/tape.h"

#include <algorithm>
#include <array>
#include <atomic>

#include "runtime/backend.h"
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

}  // namespace minimx
