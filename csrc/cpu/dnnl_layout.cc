// Implementation of dnnl_layout.h. oneDNN builds blocked descriptors from format tags only, so names are looked up in
// a table of all its tags; the name of a descriptor is written from its strides and blocks and checked by a round trip.
#include "cpu/dnnl_layout.h"

#include <dnnl_debug.h>

#include <algorithm>
#include <cctype>
#include <numeric>
#include <unordered_map>

#include "cpu/dnnl_engine.h"

namespace minimx {
namespace onednn {
namespace {

using dnnl::memory;

/// Every blocked tag of oneDNN by name.
const std::unordered_map<std::string, memory::format_tag>& tags() {
  static const auto* table = [] {
    auto* t = new std::unordered_map<std::string, memory::format_tag>;
    for (int i = dnnl_format_tag_any + 1; i < dnnl_format_tag_last; ++i)
      t->emplace(dnnl_fmt_tag2str(static_cast<dnnl_format_tag_t>(i)), static_cast<memory::format_tag>(i));
    return t;
  }();
  return *table;
}

Dims strides_in_order(const Dims& shape, const std::string& order) {
  Dims strides = Dims::filled(shape.size(), 1);
  int64_t stride = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    const int axis = order[i] - 'a';
    strides[axis] = stride;
    stride *= std::max<int64_t>(shape[axis], 1);
  }
  return strides;
}

bool is_permutation(const std::string& layout, int n) {
  if (static_cast<int>(layout.size()) != n) return false;
  std::string sorted = layout;
  std::sort(sorted.begin(), sorted.end());
  for (int i = 0; i < n; ++i)
    if (sorted[i] != 'a' + i) return false;
  return true;
}

std::optional<Desc> named_desc(const Dims& shape, memory::data_type type, const std::string& layout) {
  if (is_permutation(layout, shape.size()))
    return Desc(dnnl_dims(shape), type, dnnl_dims(strides_in_order(shape, layout)));
  const auto tag = tags().find(layout);
  if (tag == tags().end()) return std::nullopt;
  Desc desc(dnnl_dims(shape), type, tag->second, true);
  if (!desc) return std::nullopt;
  return desc;
}

/// The name as strides and blocks spell it. Axes of equal stride (of extent 1) keep their order.
std::string spell(const Desc& desc) {
  const auto strides = desc.get_strides(), blocks = desc.get_inner_blks(), axes = desc.get_inner_idxs();
  std::vector<int> order(strides.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return strides[a] > strides[b]; });
  std::string name;
  for (int axis : order) {
    const bool split = std::find(axes.begin(), axes.end(), axis) != axes.end();
    name += static_cast<char>((split ? 'A' : 'a') + axis);
  }
  for (size_t i = 0; i < blocks.size(); ++i) name += std::to_string(blocks[i]) + static_cast<char>('a' + axes[i]);
  return name;
}

Dims dims_of(const Desc& desc) { return Dims(std::span<const int64_t>(desc.get_dims())); }

bool names(const std::string& name, const Desc& desc) {
  const auto back = named_desc(dims_of(desc), desc.get_data_type(), name);
  return back && *back == desc;
}

}  // namespace

std::optional<Desc> try_desc(const Spec& spec) {
  const auto type = data_type(spec.dtype);
  if (type == memory::data_type::undef) return std::nullopt;
  if (!spec.layout.empty()) {
    auto desc = named_desc(spec.shape, type, spec.layout);
    if (!desc)
      throw Error(ErrorKind::kValue, "layout: expected a layout of " + std::to_string(spec.shape.size()) +
                                         " axes that oneDNN knows, got '" + spec.layout +
                                         "'. Use a name from conv_layouts.");
    return desc;
  }
  for (int64_t s : spec.strides)
    if (s < 0) return std::nullopt;
  if (spec.shape.empty()) return Desc({1}, type, memory::dims{1});
  Desc desc(dnnl_dims(spec.shape), type, dnnl_dims(spec.strides), true);
  if (!desc) return std::nullopt;
  return desc;
}

Desc any_desc(const Dims& shape, memory::data_type type) {
  return Desc(dnnl_dims(shape), type, memory::format_tag::any);
}

Desc plain_desc(const Dims& shape, memory::data_type type) {
  return Desc(dnnl_dims(shape), type, dnnl_dims(shape.contiguous_strides()));
}

Desc channels_last_desc(const Dims& shape, memory::data_type type) {
  std::string order = "a";
  for (int i = 2; i < shape.size(); ++i) order += static_cast<char>('a' + i);
  order += 'b';
  return Desc(dnnl_dims(shape), type, dnnl_dims(strides_in_order(shape, order)));
}

Desc with_type(const Desc& desc, memory::data_type type) {
  if (desc.get_data_type() == type) return desc;
  if (desc.get_inner_nblks() == 0) return Desc(desc.get_dims(), type, desc.get_strides());
  return *named_desc(dims_of(desc), type, layout_name(desc));
}

std::string layout_name(const Desc& desc) {
  if (desc == plain_desc(dims_of(desc), desc.get_data_type())) return "";
  if (is_channels_last(desc)) return spell(channels_last_desc(Dims::filled(desc.get_ndims(), 2), desc.get_data_type()));
  const std::string name = spell(desc);
  if (names(name, desc)) return name;
  for (const auto& [other, tag] : tags())
    if (names(other, desc)) return other;
  throw Error(ErrorKind::kInternal, "layout: expected a descriptor with a name, got one like '" + name +
                                        "' with gaps. Reorder it to a dense layout.");
}

bool is_channels_last(const Desc& desc) {
  return desc.get_ndims() >= 3 && desc.get_inner_nblks() == 0 &&
         desc == channels_last_desc(dims_of(desc), desc.get_data_type());
}

}  // namespace onednn

size_t layout_bytes(const Spec& spec) { return static_cast<size_t>(layout_elements(spec)) * itemsize(spec.dtype); }

int64_t layout_elements(const Spec& spec) {
  if (spec.size() == 0) return 0;
  if (!spec.layout.empty()) {
    Spec as_bytes = spec;
    as_bytes.dtype = DType::kUInt8;
    return static_cast<int64_t>(onednn::try_desc(as_bytes)->get_size());
  }
  int64_t last = 0;
  for (int i = 0; i < spec.shape.size(); ++i) last += std::max<int64_t>(spec.strides[i], 0) * (spec.shape[i] - 1);
  return last + 1;
}

}  // namespace minimx
