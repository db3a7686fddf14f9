// The "elemwise" kernel: a generated loop (elemwise_loop.h) over operands of any strides and types.
// The output's memory order is cut into pieces; an operand that is contiguous over a piece, and of the loop's type, is
// used in place, any other is gathered (broadcast, converted) into a block that stays in the first cache.
#include <memory>
#include <unordered_map>

#include "cpu/convert.h"
#include "cpu/elemwise_loop.h"
#include "cpu/strided.h"
#include "engine/parallel.h"

namespace minimx {
namespace {

constexpr int64_t kBlock = 2048;       // elements gathered at a time
constexpr int64_t kLongPiece = 16384;  // elements in a piece when nothing has to be gathered
constexpr int64_t kShortRow = 96;      // rows shorter than this are gathered several at once
constexpr double kTaskNs = 20000;      // work worth a thread's attention
constexpr int kMaxOperands = kMaxElemwiseInputs + 1;

using Blocks = char[kMaxOperands][kBlock * 8];
using Space = AxisSpace<kMaxOperands>;

class ElemwiseKernel final : public Kernel {
 public:
  ElemwiseKernel(const LoopEntry& loop, std::span<const Spec> ins, const Spec& out) : loop_(loop) {
    space_.operands = loop.arity + 1;
    space_.shape = out.shape;
    for (int k = 0; k < loop.arity; ++k) add_operand(k, ins[k], loop.ins[k], out.shape);
    add_operand(loop.arity, out, loop.out, out.shape);
    size_ = out.size();
    space_.normalise(loop.arity);
    choose_pieces();
  }

  void run(void* const* data, void*) const override {
    if (size_ == 0) return;
    if (all_direct_)
      parallel_for(size_, grain_, [&](int64_t begin, int64_t end) { run_direct(data, begin, end); });
    else
      parallel_for(pieces_, grain_, [&](int64_t begin, int64_t end) { run_pieces(data, begin, end); });
  }

  double cost_ns() const override { return 5 + size_ * ns_; }

 private:
  struct Operand {
    int stored_size, size;  // bytes of an element in the array and in the loop
    Convert convert;        // to the loop's type; for the output from it
    bool same_type;
    bool scalar;  // one element for all
    bool direct;  // usable in place within a piece
  };

  void add_operand(int k, const Spec& spec, DType type, const Dims& shape) {
    const bool is_out = k == loop_.arity;
    Operand& o = operands_[k];
    o.stored_size = itemsize(spec.dtype);
    o.size = itemsize(type);
    o.same_type = spec.dtype == type;
    o.convert = is_out ? find_convert(type, spec.dtype) : find_convert(spec.dtype, type);
    space_.strides[k] = broadcast_strides(spec, shape);
  }

  /// Does operand k lie contiguously along the axes from `first` on?
  bool contiguous_from(int first, int k) const {
    int64_t stride = operands_[k].stored_size;
    for (int d = space_.inner(); d >= first; --d) {
      if (space_.strides[k][d] != stride) return false;
      stride *= space_.shape[d];
    }
    return true;
  }

  void choose_pieces() {
    const int n = space_.operands;
    rows_ = space_.inner_size() >= kShortRow;
    all_direct_ = true;
    bool staged = false;
    ns_ = loop_.ns;
    for (int k = 0; k < n; ++k) {
      Operand& o = operands_[k];
      o.scalar = size_ != 1 &&
                 std::all_of(space_.strides[k].begin(), space_.strides[k].end(), [](int64_t s) { return s == 0; });
      o.direct = o.same_type && (size_ == 1 || contiguous_from(rows_ ? space_.inner() : 0, k));
      staged |= !o.direct;
      all_direct_ &= o.direct;
      if (!o.direct && !o.scalar) ns_ += 0.5;
    }
    all_direct_ &= space_.shape.size() == 1;
    piece_ = staged ? kBlock : kLongPiece;
    row_pieces_ = (space_.inner_size() + piece_ - 1) / piece_;
    pieces_ = size_ == 0 ? 0 : rows_ ? size_ / space_.inner_size() * row_pieces_ : (size_ + piece_ - 1) / piece_;
    const double unit = all_direct_ ? ns_ : ns_ * std::min(piece_, rows_ ? space_.inner_size() : size_);
    grain_ = std::max<int64_t>(1, static_cast<int64_t>(kTaskNs / unit));
  }

  void run_direct(void* const* data, int64_t begin, int64_t end) const {
    char* at[kMaxOperands];
    for (int k = 0; k < space_.operands; ++k) at[k] = static_cast<char*>(data[k]) + begin * operands_[k].size;
    loop_.loop(at, end - begin);
  }

  void run_pieces(void* const* data, int64_t begin, int64_t end) const {
    alignas(64) Blocks blocks;
    fill_scalars(data, blocks, std::min(kBlock, size_));
    for (int64_t p = begin; p < end; ++p) {
      if (rows_) {
        const int64_t column = p % row_pieces_ * piece_;
        run_piece(data, blocks, p / row_pieces_ * space_.inner_size() + column,
                  std::min(piece_, space_.inner_size() - column));
      } else {
        run_piece(data, blocks, p * piece_, std::min(piece_, size_ - p * piece_));
      }
    }
  }

  void fill_scalars(void* const* data, Blocks& blocks, int64_t n) const {
    for (int k = 0; k < loop_.arity; ++k)
      if (operands_[k].scalar && !operands_[k].direct)
        operands_[k].convert(static_cast<char*>(data[k]), 0, blocks[k], operands_[k].size, n);
  }

  void run_piece(void* const* data, Blocks& blocks, int64_t start, int64_t n) const {
    const auto position = position_of(start, space_.shape);
    char* at[kMaxOperands];
    for (int k = 0; k < space_.operands; ++k) {
      const Operand& o = operands_[k];
      at[k] = blocks[k];
      if (o.direct)
        at[k] = element(data[k], k, position);
      else if (k < loop_.arity && !o.scalar)
        transfer<true>(static_cast<char*>(data[k]), k, position, blocks[k], n);
    }
    loop_.loop(at, n);
    if (!operands_[loop_.arity].direct)
      transfer<false>(static_cast<char*>(data[loop_.arity]), loop_.arity, position, blocks[loop_.arity], n);
  }

  using Position = std::array<int64_t, kMaxDims>;

  char* element(void* data, int k, const Position& position) const {
    char* p = static_cast<char*>(data);
    for (int d = 0; d < space_.shape.size(); ++d) p += position[d] * space_.strides[k][d];
    return p;
  }

  /// Moves n elements of operand k, from `position` on in row-major order, into the block or out of it.
  template <bool kGather>
  void transfer(char* data, int k, Position position, char* block, int64_t n) const {
    const Operand& o = operands_[k];
    const Dims& strides = space_.strides[k];
    const int inner = space_.inner();
    while (true) {
      const int64_t run = std::min(n, space_.shape[inner] - position[inner]);
      char* p = element(data, k, position);
      if constexpr (kGather)
        o.convert(p, strides[inner], block, o.size, run);
      else
        o.convert(block, o.size, p, strides[inner], run);
      n -= run;
      if (n == 0) return;
      block += run * o.size;
      position[inner] = 0;
      for (int d = inner - 1; d >= 0 && ++position[d] == space_.shape[d]; --d) position[d] = 0;
    }
  }

  const LoopEntry& loop_;
  Space space_;
  std::array<Operand, kMaxOperands> operands_{};
  int64_t size_ = 0, piece_ = 0, pieces_ = 0, row_pieces_ = 0, grain_ = 1;
  bool rows_ = false;        // pieces stay within a row of the innermost axis
  bool all_direct_ = false;  // one contiguous run for every operand
  double ns_ = 0;
};

DType compute_type(DType t) { return t == DType::kFloat16 || t == DType::kBFloat16 ? DType::kFloat32 : t; }

KernelPtr make_elemwise(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const LoopEntry* loop = find_loop(attrs.text("loop"), compute_type(dtype_named(attrs.text("dtype"))));
  if (!loop || loop->arity != static_cast<int>(ins.size()))
    throw Error(ErrorKind::kInternal, attrs.text("loop") + ": expected a compiled loop for " + attrs.text("dtype") +
                                          " and " + std::to_string(ins.size()) +
                                          " operands, got none. Rebuild the extension after changing the table.");
  return std::make_shared<ElemwiseKernel>(*loop, ins, outs[0]);
}

}  // namespace

const LoopEntry* find_loop(const std::string& name, DType dtype) {
  static const auto* table = [] {
    auto* t = new std::unordered_map<std::string, const LoopEntry*>;
    const auto add = [t](std::span<const LoopEntry> loops) {
      for (const LoopEntry& entry : loops) t->emplace(std::string(entry.name) + "/" + dtype_name(entry.dtype), &entry);
    };
#define MINIMX_LOOPS(table) add(table());
#include "generated/loops.inc"
#undef MINIMX_LOOPS
    return t;
  }();
  const auto found = table->find(name + "/" + dtype_name(dtype));
  return found == table->end() ? nullptr : found->second;
}

void register_elemwise_kernels() { register_kernel("elemwise", make_elemwise); }

}  // namespace minimx
