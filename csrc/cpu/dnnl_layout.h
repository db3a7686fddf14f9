// Layouts: between Spec (strides, or a blocked layout's name) and oneDNN's memory descriptors, in both directions.
// A blocked layout is written as oneDNN does: letters are axes from the outermost in, a capital marks an axis that is
// split, the tail gives the inner blocks: "aBcd8b" is (N, C/8, H, W, 8c), with C padded up to a multiple of 8 by zeros.
// "acdb" (no inner block) is channels-last. What a convolution prefers is asked at the end of dnnl_conv.cc.
#pragma once
#include <dnnl.hpp>
#include <optional>
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

namespace onednn {

using Desc = dnnl::memory::desc;

/// Descriptor of `spec`, or nothing where oneDNN cannot express it (negative or overlapping strides, its dtype).
/// Throws Error(kValue) for an unknown layout name.
std::optional<Desc> try_desc(const Spec& spec);

/// Descriptor of type `type` whose layout is left to oneDNN.
Desc any_desc(const Dims& shape, dnnl::memory::data_type type);

/// C-contiguous descriptor.
Desc plain_desc(const Dims& shape, dnnl::memory::data_type type);

/// Channels-last descriptor of a (N, C, spatial...) shape.
Desc channels_last_desc(const Dims& shape, dnnl::memory::data_type type);

/// `desc` with another element type.
Desc with_type(const Desc& desc, dnnl::memory::data_type type);

/// Name of the layout of `desc`, "" for plain C order. Throws Error(kInternal) where it has none.
std::string layout_name(const Desc& desc);

/// True when `desc` is dense (no gaps) with no inner blocks and the order "a c d ... b".
bool is_channels_last(const Desc& desc);

inline dnnl::memory::dims dnnl_dims(const Dims& d) { return {d.begin(), d.end()}; }

}  // namespace onednn
}  // namespace minimx
