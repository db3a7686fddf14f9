// How batch normalisation sees data in memory, and how its work is cut for threads and caches.
// The arithmetic on a row is in batch_norm_rows.h, the kernels in batch_norm.cc.
#pragma once
#include <algorithm>
#include <type_traits>

#include "cpu/batch_norm_rows.h"
#include "cpu/dnnl_layout.h"
#include "engine/parallel.h"
#include "runtime/kernel.h"

namespace minimx::batch_norm {

/// Data in memory: [outer][blocks][rows][length]; a block is one channel (kRun) or `length` channels (kLanes).
struct View {
  Form form;
  int64_t outer, blocks, rows, length;
  int64_t channels;  // without padding
  onednn::Desc desc;

  int64_t block_channels() const { return form == Form::kRun ? 1 : length; }
  int64_t padded_channels() const { return blocks * block_channels(); }
  int64_t mask_row() const { return (length + 7) / 8; }
  int64_t mask_bytes() const { return outer * blocks * rows * mask_row(); }
  double count() const { return static_cast<double>(outer * rows * (form == Form::kRun ? length : 1)); }
};

/// The view in which data of Spec `x` is worked on: its own memory order where that is C order, channels-last or
/// blocked by channels, else C order (the kernel then reorders). Throws Error(kValue) for less than two axes.
View view_of(const Spec& x);

/// How the work is cut: `parts` ranges of the (outer, row) pairs of each block; 1 where blocks suffice.
struct Split {
  int64_t parts, rows_per_part;
};

inline Split split_of(const View& v, int threads) {
  const int64_t rows = v.outer * v.rows;
  const int64_t parts = v.blocks >= threads ? 1 : std::min<int64_t>(threads, rows);
  return {parts, (rows + parts - 1) / parts};
}

/// Rows worked on at a time: few enough to stay in the L1 cache from one group of 8 columns to the next.
inline int64_t tile_rows(const View& v) { return std::clamp<int64_t>(2048 / std::max<int64_t>(v.length, 1), 4, 64); }

/// Calls f(rows, element offset, mask offset) for the tiles of `part` of `block`.
template <class F>
void each_tile(const View& v, const Split& split, int64_t block, int64_t part, F&& f) {
  const int64_t end = std::min(v.outer * v.rows, (part + 1) * split.rows_per_part), most = tile_rows(v);
  int64_t at = part * split.rows_per_part, outer = at / v.rows, row = at % v.rows;
  while (at < end) {
    const int64_t rows = std::min({most, v.rows - row, end - at});
    const int64_t index = (outer * v.blocks + block) * v.rows + row;
    f(rows, index * v.length, index * v.mask_row());
    at += rows;
    row += rows;
    if (row == v.rows) row = 0, ++outer;
  }
}

/// Runs `sum`, `finish` and `apply` over all blocks; back to back a block where one part holds all of its rows.
template <class Sum, class Finish, class Apply>
void three_phases(const View& v, const Split& split, Sum&& sum, Finish&& finish, Apply&& apply) {
  using engine::parallel_for;
  if (split.parts == 1) {
    parallel_for(v.blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) sum(block, 0), finish(block), apply(block, 0);
    });
    return;
  }
  const auto tasks = [&](auto&& f) {
    parallel_for(v.blocks * split.parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) f(i / split.parts, i % split.parts);
    });
  };
  tasks(sum);
  for (int64_t block = 0; block < v.blocks; ++block) finish(block);
  tasks(apply);
}

/// Calls f with `flags` as std::bool_constants, in order.
template <class F>
void with_flags(F&& f) {
  f();
}
template <class F, class... Rest>
void with_flags(F&& f, bool flag, Rest... rest) {
  if (flag) {
    with_flags([&](auto... more) { f(std::true_type{}, more...); }, rest...);
  } else {
    with_flags([&](auto... more) { f(std::false_type{}, more...); }, rest...);
  }
}

}  // namespace minimx::batch_norm
