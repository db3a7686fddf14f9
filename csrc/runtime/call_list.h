// CallList: operator calls that were put off, and the values between them: what deferred.h builds and runs, what
// known_lists.h knows again, and what minimx/graph/bulk.py compiles.
#pragma once
#include <vector>

#include "runtime/plan.h"
#include "runtime/profile.h"

namespace minimx {

/// A value is what an array of some type, shape and place in a storage shows: of one that was there before the list
/// (external), or that a call made. Equal places are one value, whoever made the array. A call that writes in place
/// writes to the value it is given. No two externals share a storage.
struct CallList {
  struct Slot {
    Ref<Storage> storage;   // null once a run has no more need of it
    int first = -1;         // the value that the slot was made for: all of it, where the list makes it
    int newest = -1;        // the last value that lies in it; Value::older leads to the others
    int last_call = -1;     // that uses it
    bool promised = false;  // made by the list: its memory is not there yet
  };
  struct Value {
    int slot, older;
    bool external;
    DType dtype;
    int64_t offset;
    Dims shape, strides;
  };
  struct Arg {
    Operand::Kind kind = Operand::Kind::kNone;
    int value = -1;
    Scalar scalar;
  };
  /// An argument that is a number: its bits as an element of `dtype`.
  struct Number {
    DType dtype;
    uint64_t bits = 0;
  };
  struct Call {
    Ref<Plan> plan;
    int first_arg, arg_count;  // in `args`
    int first_out, out_count;  // in `outs`
    bool in_place;             // the results are written to values that were there
    profile::Text site;        // the user's line
  };
  std::vector<Slot> slots;
  std::vector<Value> values;
  std::vector<Arg> args;
  std::vector<int> outs;  // values
  std::vector<Call> calls;
  Device device;
  int kernels = 0;      // calls that are more than a view
  bool whole = false;   // of a sequence that repeats itself (repeats.h): calls of all kinds; else pointwise ones
  bool random = false;  // some draw numbers

  bool empty() const { return calls.empty(); }
  void clear();
  /// The array that shows a value.
  Array array(int value) const;
  /// Values that were there before, and values that are left over: of each block that the list makes, and somebody
  /// other than the list holds now, the first.
  std::vector<int> externals() const;
  std::vector<int> live() const;
  /// Words that are equal for two lists if and only if one Program can stand for both where its numbers are inputs: the
  /// same plans on the same wiring and places, kinds of numbers, and values left over.
  std::vector<uint64_t> signature() const;
  /// The numbers that calls are given, in order, as elements of the types that their kernels take.
  std::vector<Number> numbers() const;
};

}  // namespace minimx
