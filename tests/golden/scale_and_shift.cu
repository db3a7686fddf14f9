/// multiply: x1 * x2; of bools: both.
struct multiply_ {
  template <class T>
  static T f(T x1, T x2) {
    return x1 * x2;
  }
};

/// add: x1 + x2; of bools: either.
struct add_ {
  template <class T>
  static T f(T x1, T x2) {
    return x1 + x2;
  }
};

// multiply, cast, add: bfloat16 (whole), float32 (each), float32 (each) -> float32 (whole)
extern "C" __global__ void __launch_bounds__(256) KERNEL(const BFloat16* p0, const float* p1, const float* p2,
    float* q0, int n, int n1, int64_t m1, int n2, int64_t m2, int p1_1, int p2_0) {
  const auto walk = [&](auto pack, int begin, int end) {
    constexpr int kCount = decltype(pack)::value;
    const int thread = int(blockIdx.x) * blockDim.x + threadIdx.x;
    const int step = int(gridDim.x) * blockDim.x * kCount;
    for (int at = begin + thread * kCount; at < end; at += step) {
      const auto v0 = load<kCount>(p0 + at);
      Pack<float, kCount> y0;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const int r2 = divide(at + j, m2), i2 = at + j - r2 * n2;
        const int r1 = divide(r2, m1), i1 = r2 - r1 * n1;
        const int i0 = r1;
        const BFloat16 x0 = v0.at[j];
        const float x1 = p1[i1 * p1_1];
        const float x2 = p2[i0 * p2_0 + i2];
        const float t0 = multiply_::f<float>(to<float>(x0), x1);
        const BFloat16 t1 = to<BFloat16>(t0);
        const float t2 = add_::f<float>(to<float>(t1), x2);
        y0.at[j] = t2;
      }
      store(q0 + at, y0);
    }
  };
  const bool aligned = ((size_t(p0) | size_t(q0)) & 15) == 0;
  const int wide = aligned ? n / 8 * 8 : 0;
  walk(Count<8>(), 0, wide);
  walk(Count<1>(), wide, n);
}
