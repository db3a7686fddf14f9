// The autograd tape: nodes made by recorded operators, leaves made by attach_grad, and the walk back.
// A node keeps what its gradient needs (the saved set) and nothing else, without Python objects. The gradient itself is
// a short program of operator calls, traced once per signature from the row's rule and run through the same invoke;
// so a gradient of a gradient is that program being recorded. Read next: tape.cc, walk.cc, minimx/autograd.py.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/array.h"
#include "runtime/plan.h"

namespace minimx {

enum class GradReq : uint8_t { kNull, kWrite, kAdd };

/// A variable made by attach_grad: where its gradient is to be put.
struct Leaf : RefCounted {
  Array grad;
  GradReq req = GradReq::kWrite;
  bool fresh = false;             // a backward pass wrote `grad` since Trainer used it
  uint64_t first_use = 0;         // sequence of the first node since `grad` was written that reads the variable, or 0
  std::function<void()> written;  // may be empty; else `grad` is written as soon as it is final, and this called
};

/// An operand or output as a node keeps it: the elements and the version they had, without their place on the tape.
struct Saved {
  Array array;
  Scalar scalar;
  bool is_array = false;
  uint32_t version = 0;
};

class TapeNode;

/// Gradients of some arrays; an absent one is zero.
using Gradients = std::vector<std::optional<Array>>;

/// How a node's gradients are computed from those of its outputs.
class Backward : public RefCounted {
 public:
  /// Puts the gradients of the node's operands that have an edge into `out`, which is empty. May make absent `gs`.
  virtual void run(const TapeNode& node, Gradients& gs, Gradients& out) const = 0;
};

class TapeNode : public RefCounted {
 public:
  /// An empty node: one that was used before, if there is, with the room of its lists.
  static Ref<TapeNode> make();

  std::string name;       // of the operator, for messages
  uint64_t sequence = 0;  // invariant: larger than that of every node it depends on
  Ref<const Backward> backward;
  std::vector<GradEdge> edges;   // one per operand; empty for operands that need no gradient
  std::vector<Saved> ins, outs;  // the saved set: indexed by operand, by output; not saved ones are empty
  std::vector<OutSpec> out_specs;
  Device device;
  bool released = false;  // after a backward without retain_graph
  bool mixed = false;     // it, or something that it depends on, has operands on another device
  int walking = 0;        // walks that compute its gradients now and read the saved set

  /// Lets go of what its gradient needed.
  void let_go();

  /// Operand or output as an array that is on the tape again. Throws if it was written to since it was saved.
  Array saved_in(int i) const;
  Array saved_out(int i) const;

 protected:
  void destroy() override;
};

/// A gradient rule, traced: operator calls over the saved set and the output gradients.
class GradProgram : public Backward {
 public:
  struct Arg {
    enum class Kind : uint8_t { kIn, kOut, kGrad, kStep, kScalar, kConstant, kNone } kind = Kind::kNone;
    int index = 0, output = 0;  // operand, output, or step and its output; or constant
    Scalar scalar;
  };
  struct Step {
    Ref<Op> op;
    Ref<const AttrSet> attrs;
    std::vector<Arg> args;
    int outputs = 1;
  };
  std::vector<Step> steps;
  std::vector<Arg> results;  // per operand of the forward operator; kNone: zero
  std::vector<Array> constants;
  uint64_t saves_in = 0, saves_out = 0;  // the saved set, as masks

  void run(const TapeNode& node, Gradients& gs, Gradients& out) const override;
};

/// Puts a call on the tape: `outs` get edges to a new node. `needs` has a bit per operand with an edge.
void record(Plan& plan, std::span<const Operand> ins, std::span<Array> outs);
/// Same for a node with a Backward of its own (custom Function, hybridized block). edges: of its operands.
void record_node(const std::string& name, Ref<const Backward> backward, std::vector<GradEdge> edges,
                 std::span<Array> outs);

/// Makes `a` a leaf. The gradient array is zero-filled by the caller.
void attach_grad(Array& a, GradReq req, const Array& grad);

/// An array of `shape` whose every element is `value`.
Array filled(const Dims& shape, DType dtype, Device device, double value);

/// Walks back from `heads`. With `wrt` empty, gradients go to the leaves; else they are returned for `wrt`, absent
/// where a head does not depend on it. Head gradients default to ones.
Gradients backward(std::span<const Array> heads, std::span<const std::optional<Array>> head_grads,
                   std::span<const Array> wrt, bool retain_graph, bool create_graph);

}  // namespace minimx
