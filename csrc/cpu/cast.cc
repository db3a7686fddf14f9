// The "cast" kernel: a copy between arrays of any strides and types, also the copy that makes an array contiguous.
// Where the two sides are transposed to each other it goes tile by tile, so that both sides use whole cache lines.
#include <cstring>
#include <memory>

#include "cpu/convert.h"
#include "cpu/strided.h"
#include "engine/parallel.h"

namespace minimx {
namespace {

constexpr int64_t kTile = 32;    // elements along either axis of a tile
constexpr int64_t kRun = 16384;  // elements of a row that one task copies
constexpr double kTaskElements = 20000;

class CastKernel final : public Kernel {
 public:
  CastKernel(const Spec& from, const Spec& to) : convert_(find_convert(from.dtype, to.dtype)), size_(to.size()) {
    space_.operands = 2;
    space_.shape = to.shape;
    space_.strides[kFrom] = broadcast_strides(from, to.shape);
    space_.strides[kTo] = broadcast_strides(to, to.shape);
    space_.normalise(kTo);
    if (size_ == 0) return;
    choose_tiles(itemsize(from.dtype));
    columns_ = (space_.inner_size() + run_ - 1) / run_;
    tasks_ = size_ / space_.inner_size() / rows_extent_ * row_tiles_ * columns_;
    bytes_ = from.dtype == to.dtype && space_.shape.size() == 1 && contiguous(kFrom, to) && contiguous(kTo, to)
                 ? size_ * itemsize(to.dtype)
                 : 0;
    grain_ = std::max<int64_t>(1, static_cast<int64_t>(kTaskElements * tasks_ / size_));
  }

  void run(void* const* data, void*) const override {
    if (size_ == 0) return;
    if (bytes_ != 0 && bytes_ < 65536) {
      std::memmove(data[1], data[0], bytes_);
      return;
    }
    parallel_for(tasks_, grain_, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) run_task(static_cast<const char*>(data[0]), static_cast<char*>(data[1]), t);
    });
  }

  double cost_ns() const override { return 5 + size_ * (row_axis_ >= 0 ? 1.0 : 0.3); }

 private:
  static constexpr int kFrom = 0, kTo = 1;

  bool contiguous(int k, const Spec& to) const { return space_.strides[k][0] == itemsize(to.dtype); }

  /// Picks a second axis to tile over when `from` runs along another axis than `to` does.
  void choose_tiles(int from_size) {
    const Dims& from = space_.strides[kFrom];
    const int inner = space_.inner();
    if (std::abs(from[inner]) > 4 * from_size && space_.inner_size() >= 8)
      for (int d = 0; d < inner; ++d)
        if (std::abs(from[d]) == from_size && space_.shape[d] >= 8) row_axis_ = d;
    run_ = row_axis_ >= 0 ? kTile : kRun;
    if (row_axis_ >= 0) rows_extent_ = space_.shape[row_axis_];
    row_tiles_ = (rows_extent_ + kTile - 1) / kTile;
  }

  /// Task t covers a run of the innermost axis, of up to kTile rows along row_axis_ if there is one.
  void run_task(const char* from, char* to, int64_t t) const {
    const int inner = space_.inner();
    const int64_t column = t % columns_ * run_;
    int64_t rest = t / columns_;
    const int64_t first_row = rest % row_tiles_ * kTile;
    rest /= row_tiles_;
    for (int d = inner - 1; d >= 0; --d) {
      int64_t at = first_row;
      if (d != row_axis_) {
        at = rest % space_.shape[d];
        rest /= space_.shape[d];
      }
      from += at * space_.strides[kFrom][d];
      to += at * space_.strides[kTo][d];
    }
    from += column * space_.strides[kFrom][inner];
    to += column * space_.strides[kTo][inner];
    const int64_t n = std::min(run_, space_.inner_size() - column);
    const int64_t rows = row_axis_ >= 0 ? std::min(kTile, rows_extent_ - first_row) : 1;
    for (int64_t r = 0; r < rows; ++r) {
      convert_(from, space_.strides[kFrom][inner], to, space_.strides[kTo][inner], n);
      if (row_axis_ < 0) break;
      from += space_.strides[kFrom][row_axis_];
      to += space_.strides[kTo][row_axis_];
    }
  }

  AxisSpace<2> space_;
  Convert convert_;
  int64_t size_, bytes_ = 0, run_ = kRun, columns_ = 1, row_tiles_ = 1, rows_extent_ = 1, tasks_ = 0, grain_ = 1;
  int row_axis_ = -1;
};

KernelPtr make_cast(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs&) {
  return std::make_shared<CastKernel>(ins[0], outs[0]);
}

}  // namespace

void register_cast_kernels() { register_kernel("cast", make_cast); }

}  // namespace minimx
