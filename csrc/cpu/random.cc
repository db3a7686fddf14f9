// Random kernels. data[0] is the state of the call (philox.h), then the parameters, which broadcast, then the output.
//
//   dropout(x) -> y, mask          mask = 1 with probability 1 - "p", y = mask * x / (1 - p)
//   dropout() -> mask              the same mask alone
//   draw(p...) -> y                "kind" names the distribution; the tables at the end list them
//
// Parameters are of the output's type, or float32 for 16-bit ones and integers; for randint they are int64. Elements
// are drawn in groups of four from the words of one counter; distributions by rejection draw each element on its own.
#include <array>
#include <cmath>
#include <map>
#include <string>

#include "cpu/map_kernel.h"
#include "cpu/philox.h"
#include "cpu/scalar_math.h"
#include "cpu/strided.h"

namespace minimx {
namespace {

constexpr int kPhiloxGroups = 16;  // groups whose words are made at once

/// Four words for each of kPhiloxGroups groups: words[k][g] is word k of group g. Laid out so that compilers vectorise.
using WordBlock = std::array<std::array<uint32_t, kPhiloxGroups>, 4>;

/// The stream of one call of a random operator: four words for each group of four elements and each iteration.
class Stream {
 public:
  /// `state` is what the runtime passes: {seed, call number, 0, 0}.
  explicit Stream(const void* state) {
    const uint64_t* s = static_cast<const uint64_t*>(state);
    key_ = {static_cast<uint32_t>(s[0]), static_cast<uint32_t>(s[0] >> 32)};
    call_ = {static_cast<uint32_t>(s[1]), static_cast<uint32_t>(s[1] >> 32)};
  }
  Words words(int64_t group, uint32_t iteration) const {
    return philox({{static_cast<uint32_t>(group), iteration, call_[0], call_[1]}}, key_[0], key_[1]);
  }
  /// The words of kPhiloxGroups groups from `first` on: philox() of each, all rounds side by side.
  void block(int64_t first, uint32_t iteration, WordBlock& c) const {
    for (int g = 0; g < kPhiloxGroups; ++g) {
      c[0][g] = static_cast<uint32_t>(first) + static_cast<uint32_t>(g);
      c[1][g] = iteration;
      c[2][g] = call_[0];
      c[3][g] = call_[1];
    }
    uint32_t k0 = key_[0], k1 = key_[1];
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
      for (int g = 0; g < kPhiloxGroups; ++g) {
        const uint64_t p0 = uint64_t{0xD2511F53} * c[0][g], p1 = uint64_t{0xCD9E8D57} * c[2][g];
        c[0][g] = static_cast<uint32_t>(p1 >> 32) ^ c[1][g] ^ k0;
        c[1][g] = static_cast<uint32_t>(p1);
        c[2][g] = static_cast<uint32_t>(p0 >> 32) ^ c[3][g] ^ k1;
        c[3][g] = static_cast<uint32_t>(p0);
      }
    }
  }

 private:
  std::array<uint32_t, 2> key_, call_;
};

/// The parameters of a draw: an element's values, read through strides (bytes) that broadcast.
template <class P>
class Parameters {
 public:
  Parameters(std::span<const Spec> ins, const Dims& shape) : shape_(shape), n_(static_cast<int>(ins.size())) {
    for (int k = 0; k < n_; ++k) {
      strides_[k] = broadcast_strides(ins[k], shape);
      for (int64_t s : strides_[k]) constant_ = constant_ && s == 0;
    }
  }
  int count() const { return n_; }
  /// Values of the parameters for element i.
  std::array<P, 3> at(void* const* data, int64_t i) const {
    std::array<P, 3> out{};
    std::array<int64_t, kMaxDims> place{};
    if (!constant_) place = position_of(i, shape_);
    for (int k = 0; k < n_; ++k) {
      const char* p = static_cast<const char*>(data[1 + k]);
      if (!constant_)
        for (int d = 0; d < shape_.size(); ++d) p += place[d] * strides_[k][d];
      out[k] = *reinterpret_cast<const P*>(p);
    }
    return out;
  }
  bool constant() const { return constant_; }

 private:
  Dims shape_;
  int n_;
  bool constant_ = true;
  std::array<Dims, 3> strides_;
};

constexpr int64_t kBlock = 4 * kPhiloxGroups;  // elements drawn at once

/// Calls body(first, n, words) for blocks of elements that cover [begin, end) * kBlock below `size`; element
/// first + i has the word words[i % 4][i / 4].
template <class Body>
void each_block(const Stream& stream, int64_t size, int64_t begin, int64_t end, uint32_t iteration, Body&& body) {
  WordBlock words;
  for (int64_t b = begin; b < end; ++b) {
    stream.block(b * kPhiloxGroups, iteration, words);
    body(b * kBlock, std::min(kBlock, size - b * kBlock), words);
  }
}

int64_t blocks(int64_t size) { return (size + kBlock - 1) / kBlock; }

/// The uniform numbers of a block: 24 bits for float, 53 for double (high words in `words`, low ones drawn here).
template <class C>
void units(const Stream& stream, int64_t first, const WordBlock& words, C* u) {
  WordBlock low;
  if constexpr (sizeof(C) == 8) stream.block(first / 4, 1, low);
  for (int g = 0; g < kPhiloxGroups; ++g)
    for (int k = 0; k < 4; ++k) {
      if constexpr (sizeof(C) == 8)
        u[4 * g + k] = unit(words[k][g], low[k][g]);
      else
        u[4 * g + k] = unit(words[k][g]);
    }
}

/// Standard normal numbers from uniform ones: Box and Muller, a pair at a time.
template <class C>
void to_normals(C* u) {
  for (int64_t j = 0; j < kBlock; j += 2) {
    const C radius = std::sqrt(-2 * scalar::log(1 - u[j])), angle = C(6.283185307179586) * u[j + 1];
    u[j] = radius * scalar::cos(angle);
    u[j + 1] = radius * scalar::sin(angle);
  }
}

/// A kernel that draws blocks: value(base number, parameters) with base numbers uniform or normal.
template <class T, class C, bool kNormal, class Value>
KernelPtr by_blocks(std::span<const Spec> ins, const Spec& y, Value value) {
  const int64_t size = y.size();
  return map_kernel(blocks(size), (kNormal ? 8 : 2) * kBlock,
                    [=, p = Parameters<C>(ins, y.shape)](void* const* data, int64_t begin, int64_t end) {
                      const Stream stream(data[0]);
                      T* out = static_cast<T*>(data[1 + p.count()]);
                      std::array<C, 3> fixed{};
                      if (p.constant()) fixed = p.at(data, 0);
                      C base[kBlock];
                      each_block(stream, size, begin, end, 0, [&](int64_t first, int64_t n, const WordBlock& words) {
                        units(stream, first, words, base);
                        if constexpr (kNormal) to_normals(base);
                        if (p.constant())
                          for (int64_t i = 0; i < n; ++i) out[first + i] = static_cast<T>(value(base[i], fixed));
                        else
                          for (int64_t i = 0; i < n; ++i)
                            out[first + i] = static_cast<T>(value(base[i], p.at(data, first + i)));
                      });
                    });
}

/// A kernel that draws each element by itself, with as many numbers as it takes.
template <class T, class C, class Value>
KernelPtr one_by_one(std::span<const Spec> ins, const Spec& y, Value value) {
  return map_kernel(y.size(), 150, [=, p = Parameters<C>(ins, y.shape)](void* const* data, int64_t begin, int64_t end) {
    const Stream stream(data[0]);
    T* out = static_cast<T*>(data[1 + p.count()]);
    for (int64_t i = begin; i < end; ++i) {
      Draws<Stream> draws{stream, i};
      out[i] = static_cast<T>(value(draws, p.at(data, i)));
    }
  });
}

template <class T>
KernelPtr draw_of(const std::string& kind, std::span<const Spec> ins, const Spec& y) {
  using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
  using P = std::array<C, 3>;
  auto uniform = [&](auto value) { return by_blocks<T, C, false>(ins, y, value); };
  auto rejected = [&](auto value) { return one_by_one<T, C>(ins, y, value); };
  auto log1m = [](C u) { return std::log(1 - u); };
  auto open = [](C u) { return u > 0 ? u : C(0x1p-25); };
  if (kind == "uniform") return uniform([](C u, const P& p) { return p[0] + (p[1] - p[0]) * u; });
  if (kind == "normal") return by_blocks<T, C, true>(ins, y, [](C z, const P& p) { return p[0] + p[1] * z; });
  if (kind == "bernoulli") return uniform([](C u, const P& p) { return C(u < p[0]); });
  if (kind == "exponential") return uniform([=](C u, const P& p) { return -p[0] * log1m(u); });
  if (kind == "laplace")
    return uniform([=](C u, const P& p) {
      return u < C(0.5) ? p[0] + p[1] * std::log(2 * open(u)) : p[0] - p[1] * std::log(2 * (1 - u));
    });
  if (kind == "gumbel") return uniform([=](C u, const P& p) { return p[0] - p[1] * std::log(-std::log(open(u))); });
  if (kind == "logistic") return uniform([=](C u, const P& p) { return p[0] + p[1] * (std::log(open(u)) - log1m(u)); });
  if (kind == "rayleigh") return uniform([=](C u, const P& p) { return p[0] * std::sqrt(-2 * log1m(u)); });
  if (kind == "weibull") return uniform([=](C u, const P& p) { return std::pow(-log1m(u), 1 / p[0]); });
  if (kind == "pareto") return uniform([=](C u, const P& p) { return std::expm1(-log1m(u) / p[0]); });
  if (kind == "power") return uniform([](C u, const P& p) { return std::pow(u, 1 / p[0]); });
  if (kind == "gamma") return rejected([](auto& d, const P& p) { return gamma_draw(d, p[0]) * p[1]; });
  if (kind == "beta") return rejected([](auto& d, const P& p) { return beta_draw(d, p[0], p[1]); });
  if (kind == "poisson") return rejected([](auto& d, const P& p) { return poisson_draw(d, p[0]); });
  throw Error(ErrorKind::kInternal, "draw: expected the name of a distribution, got '" + kind + "'.");
}

/// Integers in [low, high): the high half of 64 random bits times the width (Lemire 2019), unbiased to 2^-64 * width.
template <class T>
KernelPtr integers(std::span<const Spec> ins, const Spec& y) {
  const int64_t size = y.size();
  return map_kernel(blocks(size), 4 * kBlock,
                    [=, p = Parameters<int64_t>(ins, y.shape)](void* const* data, int64_t begin, int64_t end) {
                      const Stream stream(data[0]);
                      T* out = static_cast<T*>(data[1 + p.count()]);
                      WordBlock low;
                      each_block(stream, size, begin, end, 0, [&](int64_t first, int64_t n, const WordBlock& high) {
                        stream.block(first / 4, 1, low);
                        for (int64_t i = 0; i < n; ++i) {
                          const auto range = p.at(data, first + i);
                          const uint64_t word = uint64_t{high[i % 4][i / 4]} << 32 | low[i % 4][i / 4];
                          const auto width = static_cast<uint64_t>(range[1] - range[0]);
                          const auto scaled = static_cast<unsigned __int128>(word) * width >> 64;
                          out[first + i] = static_cast<T>(range[0] + static_cast<int64_t>(scaled));
                        }
                      });
                    });
}

KernelPtr draw(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const std::string kind = attrs.text("kind");
  return dispatch(outs[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    return kind == "randint" ? integers<T>(ins, outs[0]) : draw_of<T>(kind, ins, outs[0]);
  });
}

/// Which elements of a block are kept.
struct Kept {
  uint8_t at[kBlock];
  Kept(const WordBlock& words, uint32_t threshold) {
    for (int k = 0; k < 4; ++k)
      for (int g = 0; g < kPhiloxGroups; ++g) at[4 * g + k] = (words[k][g] >> 8) >= threshold;
  }
};

KernelPtr dropout_mask(int64_t n, uint32_t threshold) {
  return map_kernel(blocks(n), 2 * kBlock, [=](void* const* data, int64_t begin, int64_t end) {
    uint8_t* mask = static_cast<uint8_t*>(data[1]);
    each_block(Stream(data[0]), n, begin, end, 0, [&](int64_t first, int64_t count, const WordBlock& words) {
      const Kept keep(words, threshold);
      std::copy(keep.at, keep.at + count, mask + first);
    });
  });
}

KernelPtr dropout(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const int64_t n = outs[0].size();
  const double p = attrs.real("p");
  const uint32_t threshold = static_cast<uint32_t>(std::lround(p * 0x1p24));
  if (ins.empty()) return dropout_mask(n, threshold);
  return dispatch_float("dropout", ins[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    const C scale = p < 1 ? static_cast<C>(1 / (1 - p)) : C(0);
    return map_kernel(blocks(n), 3 * kBlock, [=](void* const* data, int64_t begin, int64_t end) {
      const T* x = static_cast<const T*>(data[1]);
      T* y = static_cast<T*>(data[2]);
      uint8_t* mask = static_cast<uint8_t*>(data[3]);
      each_block(Stream(data[0]), n, begin, end, 0, [&](int64_t first, int64_t count, const WordBlock& words) {
        const Kept keep(words, threshold);
        C factor[kBlock];
        for (int64_t i = 0; i < kBlock; ++i) factor[i] = static_cast<C>(keep.at[i]) * scale;  // no branch
        std::copy(keep.at, keep.at + count, mask + first);
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) y[first + i] = static_cast<T>(static_cast<C>(x[first + i]) * factor[i]);
      });
    });
  });
}

/// The ten-round generator itself, for its known-answer test: data (m, 6) of counter and key as int64 -> (m, 4).
KernelPtr philox_words(std::span<const Spec> ins, std::span<const Spec>, const Attrs&) {
  return map_kernel(ins[0].shape[0], 20, [](void* const* data, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t* in = static_cast<const int64_t*>(data[0]) + 6 * i;
      auto w = [&](int k) { return static_cast<uint32_t>(in[k]); };
      const Words out = philox({{w(0), w(1), w(2), w(3)}}, w(4), w(5));
      for (int k = 0; k < 4; ++k) static_cast<int64_t*>(data[1])[4 * i + k] = out.at[k];
    }
  });
}

}  // namespace

void register_random_kernels() {
  register_kernel("draw", draw);
  register_kernel("dropout", dropout);
  register_kernel("philox", philox_words);
}

}  // namespace minimx
