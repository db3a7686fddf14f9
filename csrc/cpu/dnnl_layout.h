// Layouts: between Spec (strides, or a blocked layout's name) and oneDNN's memory descriptors, in both directions.
// A blocked layout is written as oneDNN does: letters are axes from the outermost in, a capital marks an axis that is
// split, the tail gives the inner blocks: "aBcd8b" is (N, C/8, H, W, 8c), with C padded up to a multiple of 8 by zeros.
// "acdb" (no inner block) is channels-last. What callers outside this layer may ask is in layout.h.
#pragma once
#include <dnnl.hpp>
#include <optional>
#include <span>
#include <string>

#include "cpu/layout.h"
#include "runtime/kernel.h"

namespace minimx {

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
