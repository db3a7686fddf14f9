// Implementation of convert.h: one loop per pair of types, with branches for runs that are contiguous or one value.
#include "cpu/convert.h"

#include "common/error.h"
#include "cpu/convert_scalar.h"

namespace minimx {
namespace {

template <class From, class To>
void run(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t n) {
  if (from_step == sizeof(From) && to_step == sizeof(To)) {
    const auto* a = reinterpret_cast<const From*>(from);
    auto* b = reinterpret_cast<To*>(to);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) b[i] = convert<To>(a[i]);
  } else if (from_step == 0 && to_step == sizeof(To)) {
    const To value = convert<To>(*reinterpret_cast<const From*>(from));
    auto* b = reinterpret_cast<To*>(to);
    for (int64_t i = 0; i < n; ++i) b[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i)
      *reinterpret_cast<To*>(to + i * to_step) = convert<To>(*reinterpret_cast<const From*>(from + i * from_step));
  }
}

}  // namespace

Convert find_convert(DType from, DType to) {
  return dispatch(
      from, [&](auto a) { return dispatch(to, [](auto b) -> Convert { return run<decltype(a), decltype(b)>; }); });
}

DType dtype_named(const std::string& name) {
#define MINIMX_DTYPE(id, text, type, size) \
  if (name == text) return DType::id;
#include "generated/dtypes.inc"
#undef MINIMX_DTYPE
  throw Error(ErrorKind::kInternal,
              "kernel: expected the name of an element type, got " + name + ". Fix the row's rule.");
}

}  // namespace minimx
