// Array: a typed, strided view of a Storage, plus what autograd and tracing know of it. A value type; copying it copies
// no data. Python's ndarray holds one (csrc/bind/ndarray.cc).
#pragma once
#include <vector>

#include "common/dims.h"
#include "common/dtype.h"
#include "runtime/storage.h"

namespace minimx {

class TapeNode;
class Trace;
struct Leaf;
void ref_retain(const TapeNode*);
void ref_release(const TapeNode*);
void ref_retain(const Leaf*);
void ref_release(const Leaf*);
void ref_retain(const Trace*);
void ref_release(const Trace*);

/// Where an array's gradient goes: to output `index` of the operator that made it, or to a leaf made by attach_grad.
/// Both empty: the array takes no part in differentiation.
struct GradEdge {
  Ref<TapeNode> node;
  int index = 0;
  Ref<Leaf> leaf;
  uint32_t version = 0;  // of the storage when the node made the array: later writes by another view void the edge
  explicit operator bool() const { return node || leaf; }
};

struct Array {
  Ref<Storage> storage;  // null while traced
  int64_t offset = 0;    // elements from the start of the storage
  DType dtype = DType::kFloat32;
  Dims shape;
  Dims strides;  // elements; may be zero or negative
  GradEdge edge;
  Ref<Trace> trace;  // set while the array is a value of a graph being traced
  int trace_value = -1;

  static Array empty(const Dims& shape, DType dtype, Device device);
  /// A C-contiguous array that begins where `storage` does.
  static Array over(Ref<Storage> storage, const Dims& shape, DType dtype);

  int64_t size() const { return shape.product(); }
  size_t bytes() const { return static_cast<size_t>(size()) * itemsize(dtype); }
  bool contiguous() const;
  Device device() const { return storage ? storage->device() : traced_device(); }
  /// The device that a graph is traced for.
  Device traced_device() const;
  char* data() const { return static_cast<char*>(storage->data()) + offset * itemsize(dtype); }
  engine::Var* var() const { return storage->var(); }
  /// True if writing this array writes all that its storage holds.
  bool covers_storage() const { return bytes() >= storage->bytes() && contiguous(); }
  bool traced() const { return trace_value >= 0; }
  /// The same elements without their place on the tape.
  Array detached() const {
    Array a = *this;
    a.edge = {};
    return a;
  }
};

/// True if strides are those of a C-contiguous array; dimensions of size 1 do not matter, nor does anything when empty.
bool is_contiguous(const Dims& shape, const Dims& strides);

/// A Python number as an operand: weakly typed ('b'ool, 'i'nteger, 'f'loat) and never part of a plan's key.
struct Scalar {
  char kind = 'f';
  union {
    int64_t i;
    double f;
  };
  Scalar() : f(0) {}
  static Scalar boolean(bool v) { return integer(v, 'b'); }
  static Scalar integer(int64_t v, char kind = 'i') {
    Scalar s;
    s.kind = kind;
    s.i = v;
    return s;
  }
  static Scalar real(double v) {
    Scalar s;
    s.f = v;
    return s;
  }
  /// Writes the value as an element of type t; out of range integers wrap as NumPy's astype does.
  void store(DType t, void* out) const;
  double value() const { return kind == 'f' ? f : static_cast<double>(i); }
};

/// What an operator is called with: an array, a scalar, or nothing (an optional operand left out).
struct Operand {
  enum class Kind : uint8_t { kNone, kArray, kScalar } kind = Kind::kNone;
  const Array* array = nullptr;  // borrowed for the call
  Scalar scalar;
  Operand() = default;
  Operand(const Array& a) : kind(Kind::kArray), array(&a) {}
  Operand(Scalar s) : kind(Kind::kScalar), scalar(s) {}
  bool is_array() const { return kind == Kind::kArray; }
};

}  // namespace minimx
