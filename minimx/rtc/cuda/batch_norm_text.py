"""CUDA text of the batch norm kernels; which of them run, and over which grid, is in batch_norm.py.

Data in memory is [rows][channels][length]: channels last has length 1 ("lanes": neighbours are channels), C order has
length H * W ("runs" of one channel). A thread takes eight neighbours at a time. A kernel is a Step, what is done with
eight neighbours (forward or backward), put into a walk over the data (sums or elementwise, lanes or runs).

The bitmask of a fused ReLU has a byte for eight neighbours: byte ``row * ceil(channels / 8) + channel / 8`` in lanes,
byte ``element / 8`` in runs.
"""

from __future__ import annotations

# Before it come types and constants (batch_norm.py, code): T of the data, Real of sums, Index, Mean, Mean2; kGroups,
# kBlocks, kLanes, kRelu, kMask, kResidual, kPair, kMore; kLast: the last pass over the data.
HEAD = """
using Eight = Pack<T, 8>;

/// Operands in memory; those that a kernel does not have are never touched.
struct Data {
  const T* x;
  const T* other;  // forward the residual z, backward dy
  uint8_t* mask;
  T* out;       // y, or dx
  T* residual;  // dz
  const T* more;  // what is added to dy
  const T* x2;    // of a pair
  T* out2;
  const Mean* mean;
  const Mean2* mean2;
  Index mean_stride, mean2_stride;
  Index rows, channels, length;
};

inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
inline double multiply_add(double a, double b, double c) { return fma(a, b, c); }

/// What is taken from the elements of a channel, x and x2, before they are multiplied.
struct Shift {
  Real of[kPair ? 2 : 1];
};

/// Eight neighbours: in accesses of 16 bytes (kWide), else the first `count` one by one and zeros. kOnce: nobody reads
/// them again soon, so they are the first to leave the L2 cache, and what others will read stays there longer.
template <bool kWide, bool kOnce>
Eight load(const T* p, int count) {
  Eight v;
  if constexpr (kWide && kOnce) {
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(Eight) / 16); ++i)
      reinterpret_cast<int4*>(&v)[i] = __ldcs(reinterpret_cast<const int4*>(p) + i);
  } else if constexpr (kWide) {
    v = *reinterpret_cast<const Eight*>(p);
  } else {
    for (int j = 0; j < 8; ++j) v.at[j] = j < count ? p[j] : to<T>(Real(0));
  }
  return v;
}
template <bool kWide>
void store(T* p, const Eight& v, int count) {
  if constexpr (kWide) {
    *reinterpret_cast<Eight*>(p) = v;
  } else {
    for (int j = 0; j < 8; ++j)
      if (j < count) p[j] = v.at[j];
  }
}
"""

# y = x * scale + offset (+ z, or + z * its scale), then the ReLU and its bitmask. Sums of d and d * d with d = x - the
# channel's first x.
FORWARD = """
struct Step {
  static constexpr int kSums = 2, kCoefficients = kPair ? 3 : 2;  // scale, offset, scale of z
  Eight x, z;

  template <bool kWide>
  void fetch(const Data& d, Index at, Index, int count) {
    x = load<kWide, kLast>(d.x + at, count);
    if constexpr (kResidual) z = load<kWide, true>(d.other + at, count);
  }
  T kept(int) const { return to<T>(Real(0)); }
  static Shift shift(const Data& d, int channel) { return {wide(d.x[channel * d.length])}; }
  void add(int j, Shift shift, Real (&sums)[kSums][8]) const {
    const Real v = wide(x.at[j]) - shift.of[0];
    sums[0][j] += v;
    sums[1][j] = multiply_add(v, v, sums[1][j]);
  }
  template <bool kWide>
  void write(const Data& d, const Real (&c)[kCoefficients][8], Index at, Index mask_at, int count) const {
    Eight y;
    unsigned passed = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      Real v = multiply_add(Real(wide(x.at[j])), c[0][j], c[1][j]);
      if constexpr (kPair) {
        v = multiply_add(Real(wide(z.at[j])), c[2][j], v);
      } else if constexpr (kResidual) {
        v += wide(z.at[j]);
      }
      const bool on = !(v <= Real(0));  // NaN passes
      if (on && (kWide || j < count)) passed |= 1u << j;
      y.at[j] = to<T>(kRelu && !on ? Real(0) : v);
    }
    store<kWide>(d.out + at, y, count);
    if constexpr (kMask) d.mask[mask_at] = static_cast<uint8_t>(passed);
  }
};
"""

# With g the gradient behind the ReLU: dx = a * g + (b * x + c) and dz = g. Sums of g and g * (x - mean). Where the
# gradient comes in two parts, dy and more, the pass for the sums adds them up, and writes g for the pass behind it. A
# pair has dx2 likewise, and the sum of g * (x2 - mean2).
BACKWARD = """
struct Step {
  static constexpr int kSums = kPair ? 3 : 2, kCoefficients = kPair ? 6 : 3;  // a, b, c of x, then of x2
  Eight x, dy, more, x2;
  unsigned passed;

  template <bool kWide>
  void fetch(const Data& d, Index at, Index mask_at, int count) {
    x = load<kWide, kLast>(d.x + at, count);
    dy = load<kWide, kLast || kMore>(d.other + at, count);
    if constexpr (kMore) more = load<kWide, true>(d.more + at, count);
    if constexpr (kPair) x2 = load<kWide, kLast>(d.x2 + at, count);
    if constexpr (kMask) passed = d.mask[mask_at];
  }
  Real gradient(int j) const {
    if (kMask && !(passed >> j & 1)) return Real(0);
    if constexpr (kMore) return Real(wide(to<T>(wide(dy.at[j]) + wide(more.at[j]))));
    return Real(wide(dy.at[j]));
  }
  T kept(int j) const { return to<T>(gradient(j)); }
  static Shift shift(const Data& d, int channel) {
    Shift s{to<Real>(d.mean[channel * d.mean_stride])};
    if constexpr (kPair) s.of[1] = to<Real>(d.mean2[channel * d.mean2_stride]);
    return s;
  }
  void add(int j, Shift shift, Real (&sums)[kSums][8]) const {
    const Real g = gradient(j);
    sums[0][j] += g;
    sums[1][j] = multiply_add(g, wide(x.at[j]) - shift.of[0], sums[1][j]);
    if constexpr (kPair) sums[2][j] = multiply_add(g, wide(x2.at[j]) - shift.of[1], sums[2][j]);
  }
  template <bool kWide>
  void write(const Data& d, const Real (&c)[kCoefficients][8], Index at, Index, int count) const {
    Eight dx, dz, dx2;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const Real g = gradient(j);
      dz.at[j] = to<T>(g);
      dx.at[j] = to<T>(multiply_add(c[0][j], g, multiply_add(c[1][j], Real(wide(x.at[j])), c[2][j])));
      if constexpr (kPair)
        dx2.at[j] = to<T>(multiply_add(c[3][j], g, multiply_add(c[4][j], Real(wide(x2.at[j])), c[5][j])));
    }
    store<kWide>(d.out + at, dx, count);
    if constexpr (kPair) store<kWide>(d.out2 + at, dx2, count);
    if constexpr (kResidual) store<kWide>(d.residual + at, dz, count);
  }
};
"""

# Of a sum of gradients, what the pass for the sums leaves: elements [first, last) of eight.
KEEP = """
template <bool kWide>
void keep(const Data& d, const Step& step, Index at, int first, int last) {
  Eight g;
#pragma unroll
  for (int j = 0; j < 8; ++j) g.at[j] = step.kept(j);
  if constexpr (kWide) {
    store<true>(d.residual + at, g, 8);
  } else {
    for (int j = 0; j < 8; ++j)
      if (j >= first && j < last) d.residual[at + j] = g.at[j];
  }
}
"""

# Lanes: thread (x, y) of a block keeps eight channels and goes down the rows, blockDim.y apart; blockIdx.x is the block
# of channels, blockIdx.y the part of the rows. kGroups rows are under way at once.
SUM_LANES = """
template <bool kWide>
void add_up(const Data& d, Real (&sums)[Step::kSums][8]) {
  const int channels = static_cast<int>(d.channels), lane = blockIdx.x * blockDim.x + threadIdx.x;
  const int channel = 8 * lane, count = channels - channel < 8 ? channels - channel : 8, groups = (channels + 7) / 8;
  if (count <= 0) return;
  Shift shift[8] = {};
#pragma unroll
  for (int j = 0; j < 8; ++j)
    if (j < count) shift[j] = Step::shift(d, channel + j);
  const Index step = Index(gridDim.y) * blockDim.y;
  for (Index row = Index(blockIdx.y) * blockDim.y + threadIdx.y; row < d.rows; row += kGroups * step) {
    Step v[kGroups];
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const Index r = row + k * step;
      if (r < d.rows) v[k].template fetch<kWide>(d, r * channels + channel, r * groups + lane, count);
    }
#pragma unroll
    for (int k = 0; k < kGroups; ++k)
      if (row + k * step < d.rows) {
#pragma unroll
        for (int j = 0; j < 8; ++j) v[k].add(j, shift[j], sums);
        if constexpr (kMore) keep<kWide>(d, v[k], (row + k * step) * channels + channel, 0, count);
      }
  }
}

/// The threads of a column put their sums together: shared[8 * which sum + j], one of these a row of threads.
inline void leave(const Data& d, const Real (&sums)[Step::kSums][8], Real* partial) {
  __shared__ Real shared[8 * Step::kSums][256];
  const int thread = threadIdx.y * blockDim.x + threadIdx.x, lane = blockIdx.x * blockDim.x + threadIdx.x;
  const Index padded = (d.channels + 7) / 8 * 8;
#pragma unroll
  for (int i = 0; i < 8 * Step::kSums; ++i) shared[i][thread] = sums[i / 8][i % 8];
  __syncthreads();
  if (8 * lane >= padded) return;
  for (int i = threadIdx.y; i < 8 * Step::kSums; i += blockDim.y) {
    Real sum = 0;
    for (int y = 0; y < blockDim.y; ++y) sum += shared[i][y * blockDim.x + threadIdx.x];
    partial[(Index(i / 8) * gridDim.y + blockIdx.y) * padded + 8 * lane + i % 8] = sum;
  }
}
"""

# Runs: a block takes one channel (blockIdx.x) and every gridDim.y-th part of its runs. A run is taken in the eights of
# memory that it touches, of which the first and the last may be shared with its neighbours.
SUM_RUNS = """
template <bool kWide>
void add_up(const Data& d, Real (&sums)[Step::kSums][8]) {
  const int channel = blockIdx.x;
  const Shift shift = Step::shift(d, channel);
  const Index total = d.rows * d.channels * d.length;
  const Index each = d.length % 8 == 0 ? d.length / 8 : (d.length + 14) / 8, eights = d.rows * each;
  const Index step = Index(gridDim.y) * blockDim.x;
  for (Index i = Index(blockIdx.y) * blockDim.x + threadIdx.x; i < eights; i += kGroups * step) {
    Step v[kGroups];
    Index first[kGroups], last[kGroups];  // of an eight's elements those that are of the run: [first, last)
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const Index row = (i + k * step) / each, begin = (row * d.channels + channel) * d.length;
      const Index at = (begin / 8 + (i + k * step) - row * each) * 8;
      first[k] = begin - at, last[k] = row < d.rows ? begin + d.length - at : 0;
      if (last[k] <= 0) continue;
      if (at + 8 <= total)
        v[k].template fetch<kWide>(d, at, at / 8, 8);
      else
        v[k].template fetch<false>(d, at, at / 8, static_cast<int>(total - at));
    }
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      if (last[k] <= 0) continue;
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (j >= first[k] && j < last[k]) v[k].add(j, shift, sums);
      if constexpr (kMore) {
        const Index row = (i + k * step) / each, at = (row * d.channels + channel) * d.length - first[k];
        if (first[k] <= 0 && last[k] >= 8)
          keep<kWide>(d, v[k], at, 0, 8);
        else
          keep<false>(d, v[k], at, first[k] < 0 ? 0 : static_cast<int>(first[k]),
                      last[k] > 8 ? 8 : static_cast<int>(last[k]));
      }
    }
  }
}

inline void leave(const Data& d, const Real (&sums)[Step::kSums][8], Real* partial) {
  __shared__ Real shared[Step::kSums][256];
  const int thread = threadIdx.x;
#pragma unroll
  for (int i = 0; i < Step::kSums; ++i) {
    const Real(&s)[8] = sums[i];
    shared[i][thread] = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
  }
  for (int half = 128; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half)
      for (int i = 0; i < Step::kSums; ++i) shared[i][thread] += shared[i][thread + half];
  }
  if (thread > 0) return;
  const Index padded = (d.channels + 7) / 8 * 8;
  for (int i = 0; i < Step::kSums; ++i)
    partial[(Index(i) * gridDim.y + blockIdx.y) * padded + blockIdx.x] = shared[i][0];
}
"""

SUM_KERNEL = """
extern "C" __global__ void __launch_bounds__(256, kBlocks)
KERNEL(const T* x, const T* dy, const uint8_t* mask, const Mean* mean, const T* x2, const Mean2* mean2, Real* partial,
       const T* more, T* sum, int64_t rows, int64_t channels, int64_t length, int64_t mean_stride,
       int64_t mean2_stride) {
  const Data d{x, dy, const_cast<uint8_t*>(mask), nullptr, sum, more, x2, nullptr, mean, mean2,
               Index(mean_stride), Index(mean2_stride), Index(rows), Index(channels), Index(length)};
  Real sums[Step::kSums][8] = {};
  const bool whole = aligned<Eight>(x, dy, more, sum, x2);
  if ((!kLanes || channels % 8 == 0) && whole)
    add_up<true>(d, sums);
  else
    add_up<false>(d, sums);
  leave(d, sums, partial);
}
"""

# The elementwise walks go from the last element to the first, since the end of what the sums have read may still be in
# the L2 cache.
APPLY_LANES = """
template <bool kWide>
void apply(const Data& d, const Real* coefficients) {
  const int channels = static_cast<int>(d.channels), lane = blockIdx.x * blockDim.x + threadIdx.x;
  const int channel = 8 * lane, count = channels - channel < 8 ? channels - channel : 8, groups = (channels + 7) / 8;
  if (count <= 0) return;
  Real c[Step::kCoefficients][8];
#pragma unroll
  for (int k = 0; k < Step::kCoefficients; ++k)
#pragma unroll
    for (int j = 0; j < 8; ++j) c[k][j] = coefficients[k * (8 * groups) + channel + j];
  const Index step = Index(gridDim.y) * blockDim.y;
  for (Index i = Index(blockIdx.y) * blockDim.y + threadIdx.y; i < d.rows; i += kGroups * step) {
    Step v[kGroups];
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const Index row = d.rows - 1 - (i + k * step);
      if (row >= 0) v[k].template fetch<kWide>(d, row * channels + channel, row * groups + lane, count);
    }
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const Index row = d.rows - 1 - (i + k * step);
      if (row >= 0) v[k].template write<kWide>(d, c, row * channels + channel, row * groups + lane, count);
    }
  }
}
"""

APPLY_RUNS = """
/// The coefficients of eight neighbours from element `at` on.
void coefficients_at(const Data& d, const Real* coefficients, Index at, Real (&c)[Step::kCoefficients][8]) {
  const Index run = at / d.length, padded = (d.channels + 7) / 8 * 8;
  Index left = (run + 1) * d.length - at, channel = run % d.channels;
  if (left >= 8) {  // all of one channel
#pragma unroll
    for (int k = 0; k < Step::kCoefficients; ++k) {
      const Real value = coefficients[k * padded + channel];
#pragma unroll
      for (int j = 0; j < 8; ++j) c[k][j] = value;
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) {
#pragma unroll
    for (int k = 0; k < Step::kCoefficients; ++k) c[k][j] = coefficients[k * padded + channel];
    if (--left == 0) left = d.length, channel = channel + 1 == d.channels ? 0 : channel + 1;
  }
}

template <bool kWide>
void apply(const Data& d, const Real* coefficients) {
  const Index total = d.rows * d.channels * d.length, eights = (total + 7) / 8;
  const Index step = Index(gridDim.x) * blockDim.x;
  for (Index i = Index(blockIdx.x) * blockDim.x + threadIdx.x; i < eights; i += kGroups * step) {
    Step v[kGroups];
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const Index eight = eights - 1 - (i + k * step), at = 8 * eight;
      if (eight < 0) continue;
      if (at + 8 <= total)
        v[k].template fetch<kWide>(d, at, eight, 8);
      else
        v[k].template fetch<false>(d, at, eight, static_cast<int>(total - at));
    }
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const Index eight = eights - 1 - (i + k * step), at = 8 * eight;
      if (eight < 0) continue;
      Real c[Step::kCoefficients][8];
      coefficients_at(d, coefficients, at, c);
      if (at + 8 <= total)
        v[k].template write<kWide>(d, c, at, eight, 8);
      else
        v[k].template write<false>(d, c, at, eight, static_cast<int>(total - at));
    }
  }
}
"""

APPLY_KERNEL = """
extern "C" __global__ void __launch_bounds__(256, kBlocks)
KERNEL(const T* x, const T* other, uint8_t* mask, T* out, T* residual, const T* x2, T* out2, const Real* coefficients,
       int64_t rows, int64_t channels, int64_t length) {
  const Data d{x, other, mask, out, residual, nullptr, x2, out2, nullptr, nullptr, 0, 0,
               Index(rows), Index(channels), Index(length)};
  const bool whole = aligned<Eight>(x, other, out, residual, x2, out2);
  if ((!kLanes || channels % 8 == 0) && whole)
    apply<true>(d, coefficients);
  else
    apply<false>(d, coefficients);
}
"""

# What is done once a channel, in double. Block (8, 2^k): eight channels, over whose parts the rows of threads share.
TOTALS = """
/// The sums number 0 and `which` of the block's channel threadIdx.x over all parts, in the threads of threadIdx.y = 0.
/// padded: channels up to a multiple of eight.
inline void totals(const Real* partial, int64_t parts, int64_t padded, double& s, double& q, int which = 1) {
  __shared__ double sums[2][64][8];
  const Real* p = partial + blockIdx.x * 8 + threadIdx.x;
  s = q = 0;
#pragma unroll 4
  for (int64_t part = threadIdx.y; part < parts; part += blockDim.y) {
    s += p[part * padded];
    q += p[(which * parts + part) * padded];
  }
  sums[0][threadIdx.y][threadIdx.x] = s, sums[1][threadIdx.y][threadIdx.x] = q;
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half)
      for (int i = 0; i < 2; ++i) sums[i][threadIdx.y][threadIdx.x] += sums[i][threadIdx.y + half][threadIdx.x];
  }
  s = sums[0][0][threadIdx.x], q = sums[1][0][threadIdx.x];
}
"""

SCALE = """
/// y = x * scale + offset for one channel.
inline void set_scale(Real* coefficients, int64_t padded, int64_t c, double gamma, double beta, double mean,
                      double var, double eps) {
  const double scale = gamma / sqrt(var + eps);
  coefficients[c] = static_cast<Real>(scale);
  coefficients[padded + c] = static_cast<Real>(beta - mean * scale);
}
"""

# The kernel around the bodies below, which say what is done for channel c. VECTORS: pointers to vectors of channels and
# their strides. kTotals: s and q are totals of partial sums, for kSecond of x2; n: how many elements they take in.
FINISH = """
extern "C" __global__ void KERNEL(const T* x, const Real* partial, Real* coefficients, int64_t parts, int64_t rows,
                                  int64_t channels, int64_t length, double eps,
                                  VECTORS) {
  const int64_t padded = (channels + 7) / 8 * 8;
  [[maybe_unused]] const double n = static_cast<double>(rows) * static_cast<double>(length);
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  double s = 0, q = 0;
  if constexpr (kTotals) totals(partial, parts, padded, s, q, kSecond ? 2 : 1);
  if (threadIdx.y > 0 || c >= channels) return;
BODY}
"""

# var = E[d d] - E[d]^2 with d = x - the channel's first element, which is near enough to the mean to lose no digits.
TRAIN = """\
  const double shifted = s / n, center = wide(x[c * length]) + shifted, square = q / n - shifted * shifted;
  const double variance = square < 0 ? 0 : square;
  mean[c * mean_stride] = to<Mean>(center);
  var[c * var_stride] = to<Var>(variance);
  set_scale(coefficients, padded, c, to<double>(gamma[c * gamma_stride]), to<double>(beta[c * beta_stride]), center,
            variance, eps);
"""

# From sums around zero: var = E[x x] - E[x]^2 loses as many digits as the mean's square has more than the variance.
# kSecond: of the second norm of a pair, whose offset joins that of the first.
SUMS = """\
  const double center = to<double>(sum[c * sum_stride]) / n;
  const double variance = to<double>(squares[c * squares_stride]) / n - center * center;
  const double kept = variance < 0 ? 0 : variance;
  mean[c * mean_stride] = to<Mean>(center);
  var[c * var_stride] = to<Var>(kept);
  const double weight = to<double>(gamma[c * gamma_stride]), bias = to<double>(beta[c * beta_stride]);
  if constexpr (kSecond) {
    const double scale = weight / sqrt(kept + eps);
    coefficients[2 * padded + c] = static_cast<Real>(scale);
    coefficients[padded + c] += static_cast<Real>(bias - center * scale);
  } else {
    set_scale(coefficients, padded, c, weight, bias, center, kept, eps);
  }
"""

# The sums around zero from those around each channel's first element.
CHANNEL_SUMS = """\
  const double shift = wide(x[c * length]);
  sum[c * sum_stride] = to<Sum>(s + n * shift);
  squares[c * squares_stride] = to<Squares>(q + shift * (2 * s + n * shift));
"""

INFER = """\
  set_scale(coefficients, padded, c, to<double>(gamma[c * gamma_stride]), to<double>(beta[c * beta_stride]),
            to<double>(mean[c * mean_stride]), to<double>(var[c * var_stride]), eps);
"""

# From s = sum of g and q = sum of g * (x - mean): dx = r gamma (g - s / n - (x - mean) r^2 q / n), r = 1/sqrt(var+eps).
# kSecond: of x2.
GRADIENT = """\
  if constexpr (kSecond) coefficients += 3 * padded;
  const double r = 1 / sqrt(to<double>(var[c * var_stride]) + eps), a = to<double>(gamma[c * gamma_stride]) * r;
  const double b = kGlobal ? 0 : -a * r * r * q / n;
  dgamma[c * dgamma_stride] = to<DGamma>(q * r);
  dbeta[c * dbeta_stride] = to<DBeta>(s);
  coefficients[c] = static_cast<Real>(a);
  coefficients[padded + c] = static_cast<Real>(b);
  coefficients[2 * padded + c] = static_cast<Real>(kGlobal ? 0 : -a * s / n - b * to<double>(mean[c * mean_stride]));
"""
