// grid (1, 49, 1), block (32, 8, 1), 0 bytes shared
using T = Half;
using Real = float;
using Index = int;
using Mean = float;
using Mean2 = float;
[[maybe_unused]] constexpr int kGroups = 4;
[[maybe_unused]] constexpr int kBlocks = 3;
[[maybe_unused]] constexpr bool kPair = false;
[[maybe_unused]] constexpr bool kMask = false;
[[maybe_unused]] constexpr bool kMore = false;
[[maybe_unused]] constexpr bool kRelu = false;
[[maybe_unused]] constexpr bool kResidual = false;
[[maybe_unused]] constexpr bool kLast = false;
[[maybe_unused]] constexpr bool kLanes = true;

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

extern "C" __global__ void __launch_bounds__(256, kBlocks)
KERNEL(const T* x, const T* dy, const uint8_t* mask, const Mean* mean, const T* x2, const Mean2* mean2, Real* partial,
       const T* more, T* sum, int64_t rows, int64_t channels, int64_t length, int64_t mean_stride,
       int64_t mean2_stride) {
  in_order();
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

// grid (32, 1, 1), block (8, 64, 1), 0 bytes shared
using T = Half;
using Real = float;
using Index = int;
using Mean = float;
using Mean2 = float;
using Gamma = float;
using Beta = float;
using Var = float;
[[maybe_unused]] constexpr int kGroups = 1;
[[maybe_unused]] constexpr int kBlocks = 3;
[[maybe_unused]] constexpr bool kGlobal = false;
[[maybe_unused]] constexpr bool kSecond = false;
[[maybe_unused]] constexpr bool kTotals = true;
[[maybe_unused]] constexpr bool kLanes = true;

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

/// y = x * scale + offset for one channel.
inline void set_scale(Real* coefficients, int64_t padded, int64_t c, double gamma, double beta, double mean,
                      double var, double eps) {
  const double scale = gamma / sqrt(var + eps);
  coefficients[c] = static_cast<Real>(scale);
  coefficients[padded + c] = static_cast<Real>(beta - mean * scale);
}

extern "C" __global__ void KERNEL(const T* x, const Real* partial, Real* coefficients, int64_t parts, int64_t rows,
                                  int64_t channels, int64_t length, double eps,
                                  Gamma* gamma, int64_t gamma_stride,
                                  Beta* beta, int64_t beta_stride,
                                  Mean* mean, int64_t mean_stride,
                                  Var* var, int64_t var_stride) {
  in_order();
  const int64_t padded = (channels + 7) / 8 * 8;
  [[maybe_unused]] const double n = static_cast<double>(rows) * static_cast<double>(length);
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  double s = 0, q = 0;
  if constexpr (kTotals) totals(partial, parts, padded, s, q, kSecond ? 2 : 1);
  if (threadIdx.y > 0 || c >= channels) return;
  const double shifted = s / n, center = wide(x[c * length]) + shifted, square = q / n - shifted * shifted;
  const double variance = square < 0 ? 0 : square;
  mean[c * mean_stride] = to<Mean>(center);
  var[c * var_stride] = to<Var>(variance);
  set_scale(coefficients, padded, c, to<double>(gamma[c * gamma_stride]), to<double>(beta[c * beta_stride]), center,
            variance, eps);
}

// grid (1, 49, 1), block (32, 8, 1), 0 bytes shared
using T = Half;
using Real = float;
using Index = int;
using Mean = float;
using Mean2 = float;
[[maybe_unused]] constexpr int kGroups = 4;
[[maybe_unused]] constexpr int kBlocks = 3;
[[maybe_unused]] constexpr bool kRelu = false;
[[maybe_unused]] constexpr bool kResidual = false;
[[maybe_unused]] constexpr bool kPair = false;
[[maybe_unused]] constexpr bool kMask = false;
[[maybe_unused]] constexpr bool kMore = false;
[[maybe_unused]] constexpr bool kLast = true;
[[maybe_unused]] constexpr bool kLanes = true;

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

extern "C" __global__ void __launch_bounds__(256, kBlocks)
KERNEL(const T* x, const T* other, uint8_t* mask, T* out, T* residual, const T* x2, T* out2, const Real* coefficients,
       int64_t rows, int64_t channels, int64_t length) {
  in_order();
  const Data d{x, other, mask, out, residual, nullptr, x2, out2, nullptr, nullptr, 0, 0,
               Index(rows), Index(channels), Index(length)};
  const bool whole = aligned<Eight>(x, other, out, residual, x2, out2);
  if ((!kLanes || channels % 8 == 0) && whole)
    apply<true>(d, coefficients);
  else
    apply<false>(d, coefficients);
}
