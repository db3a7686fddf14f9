// Writing regions of arrays. All element types by size; any input strides.
//
//   paste(v[, base]) -> y     y is base ("base" = 1) or the number "value", but for the region: index "start" + i *
//   "step"
//                             for i in the shape "region", to which v broadcasts
//   concat(xs...) -> y        along "axis"; with "flat" = 1 of all elements in C order (contiguous operands)
#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/convert.h"
#include "cpu/region.h"

namespace minimx {
namespace {

/// Strides in elements of a contiguous array.
Dims to_strides(const Spec& spec) { return in_bytes(spec.strides, itemsize(spec.dtype)); }

class Paste final : public Kernel {
 public:
  Paste(std::span<const Spec> ins, const Spec& y, const Attrs& attrs) : y_(y), item_(itemsize(y.dtype)) {
    const Dims start = attrs.dims("start"), step = attrs.dims("step"), region = attrs.dims("region");
    const bool has_base = attrs.integer("base") != 0;
    covers_ = region.product() == y.shape.product() && y.size() > 0;
    Dims into = to_strides(y);
    for (int i = 0; i < into.size(); ++i) {
      offset_ += start[i] * into[i];
      into[i] *= step[i];
    }
    region_ = RegionCopy(region, broadcast_strides(ins[0], region), into, item_);
    if (has_base) base_ = RegionCopy(y.shape, broadcast_strides(ins[1], y.shape), to_strides(y), item_);
    has_base_ = has_base;
    double value = attrs.real("value");
    find_convert(DType::kFloat64, y.dtype)(reinterpret_cast<const char*>(&value), 0, value_, item_, 1);
    zero_ = std::all_of(value_, value_ + item_, [](char c) { return c == 0; });
  }

  void run(void* const* data, void*) const override {
    char* y = static_cast<char*>(data[has_base_ ? 2 : 1]);
    if (!covers_) {
      if (has_base_)
        base_.run(static_cast<const char*>(data[1]), y);
      else if (zero_)
        std::memset(y, 0, y_.size() * item_);
      else
        find_convert(y_.dtype, y_.dtype)(value_, 0, y, item_, y_.size());
    }
    region_.run(static_cast<const char*>(data[0]), y + offset_);
  }
  double cost_ns() const override {
    return 50 + region_.cost_ns() + (covers_ ? 0 : 0.1 * static_cast<double>(y_.size() * item_));
  }

 private:
  Spec y_;
  int item_;
  bool has_base_ = false, covers_ = false, zero_ = false;
  int64_t offset_ = 0;
  RegionCopy region_, base_;
  char value_[8] = {};
};

class Concat final : public Kernel {
 public:
  Concat(std::span<const Spec> ins, const Spec& y, const Attrs& attrs) {
    const int item = itemsize(y.dtype), axis = static_cast<int>(attrs.integer("axis"));
    const bool flat = attrs.integer("flat") != 0;
    const Dims into = to_strides(y);
    int64_t at = 0;
    for (const Spec& x : ins) {
      const Dims shape = flat ? Dims{x.size()} : x.shape;
      const Dims from = flat ? Dims{item} : to_strides(x);
      parts_.push_back({RegionCopy(shape, from, into, item), at});
      at += flat ? x.size() * item : x.shape[axis] * into[axis];
      cost_ += parts_.back().copy.cost_ns();
    }
  }
  void run(void* const* data, void*) const override {
    char* y = static_cast<char*>(data[parts_.size()]);
    for (size_t i = 0; i < parts_.size(); ++i)
      parts_[i].copy.run(static_cast<const char*>(data[i]), y + parts_[i].offset);
  }
  double cost_ns() const override { return cost_; }

 private:
  struct Part {
    RegionCopy copy;
    int64_t offset;
  };
  std::vector<Part> parts_;
  double cost_ = 0;
};

}  // namespace

void register_paste_kernels() {
  register_kernel("paste", [](std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) -> KernelPtr {
    return std::make_shared<Paste>(ins, outs[0], attrs);
  });
  register_kernel("concat", [](std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) -> KernelPtr {
    return std::make_shared<Concat>(ins, outs[0], attrs);
  });
}

}  // namespace minimx
