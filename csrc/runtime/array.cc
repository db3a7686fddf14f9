#include "runtime/array.h"

#include "runtime/kernel.h"
#include "runtime/tape.h"
#include "runtime/trace.h"

namespace minimx {

void ref_retain(const TapeNode* p) { p->retain(); }
void ref_release(const TapeNode* p) { p->release(); }
void ref_retain(const Leaf* p) { p->retain(); }
void ref_release(const Leaf* p) { p->release(); }
void ref_retain(const Trace* p) { p->retain(); }
void ref_release(const Trace* p) { p->release(); }

Device Array::traced_device() const { return trace ? trace->device : Device{}; }

bool is_contiguous(const Dims& shape, const Dims& strides) {
  int64_t expected = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

bool Array::contiguous() const { return is_contiguous(shape, strides); }

bool Spec::contiguous() const { return layout.empty() && is_contiguous(shape, strides); }

Array Array::over(Ref<Storage> storage, const Dims& shape, DType dtype) {
  Array a;
  a.dtype = dtype;
  a.shape = shape;
  a.strides = shape.contiguous_strides();
  a.storage = std::move(storage);
  return a;
}

Array Array::empty(const Dims& shape, DType dtype, Device device) {
  return over(Storage::allocate(static_cast<size_t>(shape.product()) * itemsize(dtype), device), shape, dtype);
}

void Scalar::store(DType t, void* out) const {
  dispatch(t, [&](auto zero) {
    using T = decltype(zero);
    T v;
    if constexpr (std::is_same_v<T, bool>)
      v = kind == 'f' ? f != 0 : i != 0;
    else
      v = kind == 'f' ? static_cast<T>(
                            static_cast<std::conditional_t<sizeof(T) == 2 && !std::is_integral_v<T>, float, double>>(f))
                      : static_cast<T>(static_cast<std::conditional_t<std::is_integral_v<T>, int64_t, double>>(i));
    std::memcpy(out, &v, sizeof v);
  });
}

}  // namespace minimx
