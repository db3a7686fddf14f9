// Kernels that make arrays from numbers.
//
//   fill([like]) -> y     every element is "value"
//   nothing() -> y        leaves memory as it is
//   fill_with(v) -> y     v broadcast to y; v has y's type
//   iota() -> y           "start" + i * "step", in integers if both are
//   band() -> y           1 where "low" <= column - row <= "high", else 0; over the last two axes
//   one_hot(i) -> y       "on" at index i (int64) of the last axis, which has length "depth", else "off"
#include "cpu/convert.h"
#include "cpu/map_kernel.h"
#include "cpu/region.h"

namespace minimx {
namespace {

/// An element of type t holding `value`.
struct Element {
  char bytes[8] = {};
  Element(DType t, double value) {
    find_convert(DType::kFloat64, t)(reinterpret_cast<const char*>(&value), 0, bytes, itemsize(t), 1);
  }
};

KernelPtr fill(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const Spec& y = outs[0];
  const int item = itemsize(y.dtype);
  const double value = attrs.real("value");
  const size_t at = ins.size();
  if (value == 0)
    return map_kernel(y.size() * item, 0.05, [=](void* const* data, int64_t begin, int64_t end) {
      std::memset(static_cast<char*>(data[at]) + begin, 0, end - begin);
    });
  return map_kernel(y.size(), 0.05 * item,
                    [=, convert = find_convert(y.dtype, y.dtype), e = Element(y.dtype, value)](
                        void* const* data, int64_t begin, int64_t end) {
                      convert(e.bytes, 0, static_cast<char*>(data[at]) + begin * item, item, end - begin);
                    });
}

KernelPtr nothing(std::span<const Spec>, std::span<const Spec>, const Attrs&) {
  return map_kernel(0, 0, [](void* const*, int64_t, int64_t) {});
}

KernelPtr fill_with(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs&) {
  const Spec& y = outs[0];
  const int item = itemsize(y.dtype);
  RegionCopy copy(y.shape, broadcast_strides(ins[0], y.shape), in_bytes(y.strides, item), item);
  return map_kernel(1, copy.cost_ns(), [copy](void* const* data, int64_t, int64_t) {
    copy.run(static_cast<const char*>(data[0]), static_cast<char*>(data[1]));
  });
}

KernelPtr iota(std::span<const Spec>, std::span<const Spec> outs, const Attrs& attrs) {
  const bool exact = std::holds_alternative<int64_t>(attrs.values.at("start")) &&
                     std::holds_alternative<int64_t>(attrs.values.at("step"));
  return dispatch(outs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    auto make = [&](auto start, auto step) {
      using C = decltype(start);
      return map_kernel(outs[0].size(), 0.5, [=](void* const* data, int64_t begin, int64_t end) {
        T* y = static_cast<T*>(data[0]);
        for (int64_t i = begin; i < end; ++i) y[i] = static_cast<T>(start + static_cast<C>(i) * step);
      });
    };
    return exact ? make(attrs.integer("start"), attrs.integer("step")) : make(attrs.real("start"), attrs.real("step"));
  });
}

KernelPtr band(std::span<const Spec>, std::span<const Spec> outs, const Attrs& attrs) {
  const int64_t rows = outs[0].shape[0], columns = outs[0].shape[1], low = attrs.integer("low"),
                high = attrs.integer("high");
  return dispatch(outs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    return map_kernel(rows, 0.5 * static_cast<double>(columns), [=](void* const* data, int64_t begin, int64_t end) {
      T* y = static_cast<T*>(data[0]);
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < columns; ++j)
          y[i * columns + j] = static_cast<T>(low <= j - i && j - i <= high ? 1 : 0);
    });
  });
}

KernelPtr one_hot(std::span<const Spec>, std::span<const Spec> outs, const Attrs& attrs) {
  const int64_t depth = attrs.integer("depth"), rows = depth ? outs[0].size() / depth : 0;
  const DType t = outs[0].dtype;
  return dispatch(t, [&](auto zero) {
    using T = decltype(zero);
    const T on =
        std::bit_cast<T>(*reinterpret_cast<const std::array<char, sizeof(T)>*>(Element(t, attrs.real("on")).bytes));
    const T off =
        std::bit_cast<T>(*reinterpret_cast<const std::array<char, sizeof(T)>*>(Element(t, attrs.real("off")).bytes));
    return map_kernel(rows, 2 + 0.2 * static_cast<double>(depth), [=](void* const* data, int64_t begin, int64_t end) {
      const int64_t* index = static_cast<const int64_t*>(data[0]);
      T* y = static_cast<T*>(data[1]);
      std::fill(y + begin * depth, y + end * depth, off);
      for (int64_t i = begin; i < end; ++i)
        if (index[i] >= 0 && index[i] < depth) y[i * depth + index[i]] = on;
    });
  });
}

}  // namespace

void register_fill_kernels() {
  register_kernel("fill", fill);
  register_kernel("nothing", nothing);
  register_kernel("fill_with", fill_with);
  register_kernel("iota", iota);
  register_kernel("band", band);
  register_kernel("one_hot", one_hot);
}

}  // namespace minimx
