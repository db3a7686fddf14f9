// Arrays over memory of other libraries.
#pragma once
#include <algorithm>

#include "python/gil.h"
#include "runtime/array.h"

namespace minimx::bind {

/// The array of that shape and those strides (in elements) whose first element is at `first`. `done` is called when no
/// array looks at the memory any more.
inline Array borrowed(void* first, DType dtype, const Dims& shape, const Dims& strides, Device device,
                      std::function<void()> done, bool read_only, bool pinned = false) {
  Array a;
  a.dtype = dtype;
  a.shape = shape;
  a.strides = strides;
  int64_t low = 0, high = 1;  // of the elements' places, relative to the first
  for (int i = 0; i < shape.size(); ++i) {
    const int64_t reach = std::max<int64_t>(shape[i] - 1, 0) * strides[i];
    (reach < 0 ? low : high) += reach;
  }
  a.offset = -low;
  const int64_t size = itemsize(dtype);
  a.storage = Storage::borrow(static_cast<char*>(first) + low * size, static_cast<size_t>((high - low) * size), device,
                              std::move(done), read_only, pinned);
  return a;
}

/// What lets a Python object go that owns borrowed memory; takes over the reference.
inline std::function<void()> dropping(PyObject* owner) {
  return [owner] {
    if (Py_IsInitialized()) python::with_gil([&] { Py_DECREF(owner); });
  };
}

}  // namespace minimx::bind
