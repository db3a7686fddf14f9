// A Trace notes operator calls instead of running them: the values and nodes from which minimx/graph builds its IR.
#pragma once
#include <string>
#include <vector>

#include "runtime/array.h"
#include "runtime/plan.h"

namespace minimx {

class Trace : public RefCounted {
 public:
  struct Value {
    DType dtype;
    Dims shape;
    bool weak = false;      // stands for a Python scalar whose value is not known
    bool detached = false;  // made while recording was paused: no gradient passes
    int memory = 0;         // views and what is written in place share the memory of what they were made from,
    int version = 0;        // whose in-place writes are counted: a value of an older count is not there any more
  };
  struct Arg {
    enum class Kind : uint8_t { kNone, kValue, kScalar } kind = Kind::kNone;
    int value = 0;
    Scalar scalar;
  };
  struct Node {
    Ref<Op> op;
    Ref<const AttrSet> attrs;
    std::vector<Arg> args;
    std::vector<int> outs;
    std::shared_ptr<const std::string> site;
  };
  std::vector<Value> values;
  std::vector<Node> nodes;
  /// A concrete array that traced code used: an input of the graph, read anew at every run. `value` is what the array
  /// stands for now: `input`, until the code writes to it in place; then the graph writes it back at the end of a run.
  struct Capture {
    Array array;
    int input;
    int value;
  };
  std::vector<Capture> captures;
  std::vector<int> writes;     // in-place writes so far, by memory
  Device device;               // where the graph will run
  bool follows_writes = true;  // off once the user's code has run: gradient rules use values as they were

  /// A new input of the graph.
  Array input(const Dims& shape, DType dtype, bool weak = false);
  /// The array that stands for value `id`.
  Array array(int id);
  /// The value an array stands for; a concrete one is captured.
  int value_of(const Array& a);
  /// Throws if the memory of value `id` was written to through another view since. `where` begins the message.
  void check_current(const std::string& where, int id) const;
  /// The one write since `x` was current went through `view`, which x takes as its new part (y[:1] *= 10).
  void wrote_through(const Array& x, const Array& view);
  /// The interpreter behind invoke while this trace is active.
  void call(Op& op, const AttrSet* attrs, std::span<const Operand> ins, std::vector<Array>& outs,
            std::span<const Array> into);
};

}  // namespace minimx
