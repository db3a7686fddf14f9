/// exp: e to the power x.
struct exp_ {
  template <class T>
  static T f(T x) {
    return exp(x);
  }
};

/// tanh: Hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x).
struct tanh_ {
  template <class T>
  static T f(T x) {
    return tanh(x);
  }
};

// exp, tanh: float32 (whole) -> float32 (whole)
extern "C" __global__ void __launch_bounds__(256) KERNEL(const float* p0, float* q0, int n) {
  const auto walk = [&](auto pack, int begin, int end) {
    constexpr int kCount = decltype(pack)::value;
    const int thread = int(blockIdx.x) * blockDim.x + threadIdx.x;
    const int step = int(gridDim.x) * blockDim.x * kCount;
    for (int at = begin + thread * kCount; at < end; at += step) {
      const auto v0 = load<kCount>(p0 + at);
      Pack<float, kCount> y0;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const float x0 = v0.at[j];
        const float t0 = exp_::f<float>(x0);
        const float t1 = tanh_::f<float>(t0);
        y0.at[j] = t1;
      }
      store(q0 + at, y0);
    }
  };
  const bool aligned = ((size_t(p0) | size_t(q0)) & 15) == 0;
  const int wide = aligned ? n / 4 * 4 : 0;
  walk(Count<4>(), 0, wide);
  walk(Count<1>(), wide, n);
}
