/// gelu: x * Phi(x) with the normal distribution Phi. Hendrycks and Gimpel 2016, arXiv:1606.08415.
struct gelu_ {
  template <class T>
  static T f(T x) {
    return T(0.5) * x * (T(1) + erf(x * T(0.7071067811865476)));
  }
};

/// greater: x1 > x2.
struct greater_ {
  template <class T>
  static bool f(T x1, T x2) {
    return x1 > x2;
  }
};

/// where: x where condition, else y.
struct where_ {
  template <class T>
  static T f(bool condition, T x, T y) {
    return condition ? x : y;
  }
};

// gelu, greater, where: float32 (whole) -> bool (whole), float32 (whole)
extern "C" __global__ void __launch_bounds__(256) KERNEL(const float* p0, bool* q0, float* q1, int n) {
  const auto walk = [&](auto pack, int begin, int end) {
    constexpr int kCount = decltype(pack)::value;
    const int thread = int(blockIdx.x) * blockDim.x + threadIdx.x;
    const int step = int(gridDim.x) * blockDim.x * kCount;
    for (int at = begin + thread * kCount; at < end; at += step) {
      const auto v0 = load<kCount>(p0 + at);
      Pack<bool, kCount> y0;
      Pack<float, kCount> y1;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const float x0 = v0.at[j];
        const float t0 = gelu_::f<float>(x0);
        const bool t1 = greater_::f<float>(t0, 0.1f);
        const float t2 = where_::f<float>(t1, t0, float(-INFINITY));
        y0.at[j] = t1;
        y1.at[j] = t2;
      }
      store(q0 + at, y0);
      store(q1 + at, y1);
    }
  };
  const bool aligned = ((size_t(p0) | size_t(q0) | size_t(q1)) & 15) == 0;
  const int wide = aligned ? n / 8 * 8 : 0;
  walk(Count<8>(), 0, wide);
  walk(Count<1>(), wide, n);
}
