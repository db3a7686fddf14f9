// The "reduce" kernel: a row's loops (reduce_loop.h) over any axes of an operand of any strides and element type.
//
// The work is cut into tasks: one kept position (a result, or a tile of neighbouring ones) and one segment of the
// reduced positions. How it is cut depends on shapes alone and partial results are combined in a fixed order, so the
// bits are the same for any number of threads. Within a task blocks are summed and combined pairwise, so errors grow
// with log n.
#include <cstring>
#include <memory>
#include <unordered_map>

#include "cpu/convert.h"
#include "cpu/reduce_loop.h"
#include "cpu/strided.h"
#include "engine/parallel.h"

namespace minimx {
namespace {

constexpr int64_t kBlock = 1024;     // elements folded at a time; also the widest tile of results
constexpr int kLevels = 16;          // of pairwise combination; the last one goes on sequentially
constexpr int64_t kShortRun = 16;    // a contiguous run to fold that is shorter is read across instead
constexpr int64_t kSegment = 65536;  // elements of a segment, at least, where the reduced positions are split
constexpr int64_t kTasks = 64;       // into at most so many tasks
constexpr double kTaskNs = 20000;    // work worth a thread's attention
constexpr double kElementNs = 0.15;

/// Combines partial results like a binary counter: two of 2^k leaves make one of 2^(k+1). Each holds `width`
/// accumulators.
class PairwiseTree {
 public:
  PairwiseTree(const ReduceEntry& entry, int64_t width) : entry_(entry), width_(width), size_(itemsize(entry.dtype)) {}

  void push(const char* leaf) {
    int level = 0;
    const char* carry = leaf;
    for (; level < kLevels - 1 && (count_ >> level & 1) != 0; ++level) {
      entry_.merge(carry, width_, at(level));
      carry = at(level);
    }
    const bool top_is_full = level == kLevels - 1 && (count_ >> level) != 0;
    if (top_is_full)
      entry_.merge(carry, width_, at(level));
    else
      std::memcpy(at(level), carry, width_ * size_);
    ++count_;
  }

  /// Combines all that was pushed into `acc`.
  void collect(char* acc) {
    for (int level = 0; level < kLevels; ++level)
      if (level == kLevels - 1 ? (count_ >> level) != 0 : (count_ >> level & 1) != 0)
        entry_.merge(at(level), width_, acc);
  }

 private:
  char* at(int level) { return levels_[level]; }

  const ReduceEntry& entry_;
  int64_t width_, size_, count_ = 0;
  alignas(64) char levels_[kLevels][kBlock * 8];
};

/// Some axes of an operand: extents and strides in bytes.
struct Axes {
  Dims shape, in, out;

  void add(int64_t extent, int64_t in_stride, int64_t out_stride) {
    shape.push_back(extent);
    in.push_back(in_stride);
    out.push_back(out_stride);
  }
  int64_t size() const { return shape.product(); }
  int64_t offset(const Dims& strides, int64_t linear) const {
    int64_t at = 0;
    for (int d = shape.size() - 1; d >= 0; --d) {
      at += linear % shape[d] * strides[d];
      linear /= shape[d];
    }
    return at;
  }
};

class ReduceKernel final : public Kernel {
 public:
  ReduceKernel(const ReduceEntry& entry, const Spec& in, const Spec& out, const Dims& axes)
      : entry_(entry),
        load_(find_convert(in.dtype, entry.dtype)),
        store_(find_convert(entry.dtype, out.dtype)),
        in_size_(itemsize(in.dtype)),
        size_(itemsize(entry.dtype)),
        same_type_(in.dtype == entry.dtype),
        outputs_(out.size()) {
    if (outputs_ == 0) return;
    elements_ = in.size() / outputs_;
    split_axes(in, out, axes);
    if (folds_) {
      chunks_ = (run_ + kBlock - 1) / kBlock;
      units_ = reduced_.size() * chunks_;
    } else {
      widen();
      tiles_ = (run_ + kBlock - 1) / kBlock;
      units_ = reduced_.size();
    }
    places_ = kept_.size() * tiles_;
    if (places_ < kTasks / 2)
      segments_ =
          std::clamp<int64_t>(std::min(in.size() / kSegment, kTasks / places_), 1, std::max<int64_t>(units_, 1));
    grain_ =
        std::max<int64_t>(1, static_cast<int64_t>(kTaskNs / (10 + in.size() * kElementNs / (places_ * segments_))));
  }

  void run(void* const* data, void* workspace) const override {
    if (outputs_ == 0) return;
    const char* in = static_cast<const char*>(data[0]);
    char *out = static_cast<char*>(data[1]), *partial = static_cast<char*>(workspace);
    parallel_for(places_ * segments_, grain_, [&](int64_t begin, int64_t end) {
      alignas(64) char acc[kBlock * 8];
      for (int64_t task = begin; task < end; ++task) {
        const int64_t place = task / segments_, width = tile_width(place);
        reduce_units(in + in_offset(place), width, task % segments_, acc);
        if (segments_ == 1)
          write(acc, width, out + out_offset(place));
        else
          std::memcpy(partial + task * slot_bytes(), acc, width * size_);
      }
    });
    if (segments_ > 1) combine_segments(partial, out);
  }

  size_t workspace_bytes() const override { return segments_ > 1 ? places_ * segments_ * slot_bytes() : 0; }
  double cost_ns() const override {
    return 30 + static_cast<double>(outputs_ * elements_) * (same_type_ ? 1 : 4) * kElementNs;
  }

 private:
  /// Sorts the axes by the operand's memory into kept and reduced ones and takes one out to run along.
  void split_axes(const Spec& in, const Spec& out, const Dims& axes) {
    AxisSpace<2> space;
    space.operands = 2;
    space.shape = in.shape;
    space.strides[0] = broadcast_strides(in, in.shape);
    space.strides[1] = Dims::filled(in.shape.size(), 0);
    const bool keeps = out.shape.size() == in.shape.size();
    Dims reduced = Dims::filled(in.shape.size(), 0);
    for (int64_t a : axes) reduced[static_cast<int>(a)] = 1;
    for (int i = 0, o = 0; i < in.shape.size(); ++i) {
      if (!reduced[i]) space.strides[1][i] = out.strides[o] * itemsize(out.dtype);
      o += keeps || !reduced[i];
    }
    space.normalise(0);
    Dims is_kept;
    int last_kept = -1;
    for (int d = 0; d < space.shape.size(); ++d) {
      is_kept.push_back(space.strides[1][d] != 0);
      if (is_kept[d]) last_kept = d;
    }
    const int inner = space.inner();
    folds_ =
        !is_kept[inner] && !(space.inner_size() < kShortRun && last_kept >= 0 && space.shape[last_kept] >= kShortRun);
    const int along = folds_ ? inner : last_kept;
    for (int d = 0; d < space.shape.size(); ++d) {
      if (d == along) continue;
      (is_kept[d] ? kept_ : reduced_).add(space.shape[d], space.strides[0][d], space.strides[1][d]);
    }
    run_ = space.shape[along];
    in_step_ = space.strides[0][along];
    out_step_ = space.strides[1][along];
  }

  /// Short rows of results that follow each other in memory are taken as one long row of several.
  void widen() {
    const int last = reduced_.shape.size() - 1;
    if (last < 0 || elements_ == 0 || run_ > kBlock / 2 || reduced_.in[last] != run_ * in_step_) return;
    wide_ = std::min(kBlock / run_, reduced_.shape[last]);
    wide_rows_ = reduced_.shape[last];
    reduced_.shape[last] = (wide_rows_ + wide_ - 1) / wide_;
    reduced_.in[last] *= wide_;
  }

  int64_t slot_bytes() const { return (std::min(run_width(), kBlock) * size_ + 63) / 64 * 64; }
  int64_t run_width() const { return folds_ ? 1 : run_; }
  int64_t tile_width(int64_t place) const { return folds_ ? 1 : std::min(kBlock, run_ - place % tiles_ * kBlock); }
  int64_t in_offset(int64_t place) const {
    return kept_.offset(kept_.in, place / tiles_) + place % tiles_ * kBlock * in_step_;
  }
  int64_t out_offset(int64_t place) const {
    return kept_.offset(kept_.out, place / tiles_) + place % tiles_ * kBlock * out_step_;
  }

  /// n elements from p on as the loops want them: in place, or converted and gathered in `block`.
  const char* load(const char* p, int64_t n, char* block) const {
    if (same_type_ && in_step_ == size_) return p;
    load_(p, in_step_, block, size_, n);
    return block;
  }

  /// The partial result of one segment of one place into acc.
  void reduce_units(const char* in, int64_t width, int64_t segment, char* acc) const {
    const int64_t begin = units_ * segment / segments_, end = units_ * (segment + 1) / segments_;
    const int64_t leaf = folds_ ? 8 : 64, lanes = width * wide_;
    entry_.start(lanes, acc);
    if (end - begin <= leaf) {
      take_units(in, lanes, begin, end, acc);
    } else {
      PairwiseTree tree(entry_, lanes);
      for (int64_t u = begin; u < end; u += leaf) {
        entry_.start(lanes, acc);
        take_units(in, lanes, u, std::min(u + leaf, end), acc);
        tree.push(acc);
      }
      entry_.start(lanes, acc);
      tree.collect(acc);
    }
    for (int64_t k = 1; k < wide_; ++k) entry_.merge(acc + k * width * size_, width, acc);
  }

  void take_units(const char* in, int64_t lanes, int64_t begin, int64_t end, char* acc) const {
    alignas(64) char block[kBlock * 8];
    if (folds_) {
      for (int64_t u = begin; u < end; ++u) {
        const int64_t chunk = u % chunks_ * kBlock, n = std::min(kBlock, run_ - chunk);
        entry_.fold(load(in + reduced_.offset(reduced_.in, u / chunks_) + chunk * in_step_, n, block), n, acc);
      }
    } else {
      const int64_t last_extent = reduced_.shape.empty() ? 1 : reduced_.shape.back();
      for (int64_t u = begin; u < end; ++u) {
        const bool cut = wide_ > 1 && u % last_extent == last_extent - 1;
        const int64_t n = cut ? (wide_rows_ - (last_extent - 1) * wide_) * run_ : lanes;
        entry_.accumulate(load(in + reduced_.offset(reduced_.in, u), n, block), n, acc);
      }
    }
  }

  void combine_segments(const char* partial, char* out) const {
    alignas(64) char acc[kBlock * 8];
    for (int64_t place = 0; place < places_; ++place) {
      const int64_t width = tile_width(place);
      entry_.start(width, acc);
      for (int64_t s = 0; s < segments_; ++s)
        entry_.merge(partial + (place * segments_ + s) * slot_bytes(), width, acc);
      write(acc, width, out + out_offset(place));
    }
  }

  void write(char* acc, int64_t width, char* out) const {
    entry_.finish(width, elements_, acc);
    store_(acc, size_, out, out_step_, width);
  }

  const ReduceEntry& entry_;
  Convert load_, store_;
  int64_t in_size_, size_;
  bool same_type_;
  int64_t outputs_, elements_ = 0;
  Axes kept_, reduced_;  // without the axis that a run goes along
  bool folds_ = true;    // that axis is reduced: a run is folded into one result. Else it is kept
  int64_t run_ = 1, in_step_ = 0, out_step_ = 0;
  int64_t chunks_ = 1;                // blocks of a folded run
  int64_t tiles_ = 1;                 // blocks of a kept run
  int64_t wide_ = 1, wide_rows_ = 1;  // rows of results taken as one, and how many there are along that axis
  int64_t units_ = 0;                 // reduced positions, counted in blocks or rows
  int64_t places_ = 0, segments_ = 1, grain_ = 1;
};

KernelPtr make_reduce(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const ReduceEntry* entry = find_reduce(attrs.text("loop"), dtype_named(attrs.text("dtype")));
  if (!entry)
    throw Error(ErrorKind::kInternal, attrs.text("loop") + ": expected compiled loops for " + attrs.text("dtype") +
                                          ", got none. Rebuild the extension after changing the table.");
  return std::make_shared<ReduceKernel>(*entry, ins[0], outs[0], attrs.dims("axes"));
}

}  // namespace

const ReduceEntry* find_reduce(const std::string& name, DType dtype) {
  for (const ReduceEntry& entry : reduce_loops())
    if (entry.dtype == dtype && name == entry.name) return &entry;
  return nullptr;
}

void register_reduce_kernels() { register_kernel("reduce", make_reduce); }

}  // namespace minimx
