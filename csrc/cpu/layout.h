// What the layers above may ask about layouts, without seeing oneDNN: which ones a convolution prefers, and their
// sizes.
#pragma once
#include <span>
#include <string>

#include "runtime/kernel.h"

namespace minimx {

/// Layouts that oneDNN prefers for a convolution. An empty string means: leave it strided, in C order.
struct ConvLayouts {
  std::string src, weights, dst;
};

/// Asks oneDNN for its preferred layouts of x or dx ("src"), w or dw ("weights") and y or dy ("dst").
/// `direction` is "fwd", "bwd_data" or "bwd_weights"; operands and attributes are those of the kernel conv_<direction>.
/// Of the Specs only shape and dtype are read. Grouped weights stay strided (the kernel reorders them inside).
ConvLayouts conv_layouts(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs,
                         const std::string& direction);

/// Bytes an array of this Spec takes: padding of blocked layouts included; for strided ones, up to the last element.
size_t layout_bytes(const Spec& spec);

/// Elements of a blocked or strided Spec in memory, padding included.
int64_t layout_elements(const Spec& spec);

}  // namespace minimx
