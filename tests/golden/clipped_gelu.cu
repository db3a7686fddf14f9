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

// gelu, greater, where over (n): float32 -> bool, float32
template <int kCount>
void fused_c2f301218a8a_of(const float* p0, bool* q0, float* q1, int64_t n) {
  const int64_t first = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kCount;
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kCount;
  for (int64_t at = first; at < n; at += step) {
    const auto v0 = *reinterpret_cast<const Pack<float, kCount>*>(p0 + at);
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
    *reinterpret_cast<Pack<bool, kCount>*>(q0 + at) = y0;
    *reinterpret_cast<Pack<float, kCount>*>(q1 + at) = y1;
  }
}

extern "C" __global__ void __launch_bounds__(256) fused_c2f301218a8a(const float* p0, bool* q0, float* q1, int64_t n) {
  fused_c2f301218a8a_of<1>(p0, q0, q1, n);
}

extern "C" __global__ void __launch_bounds__(256) fused_c2f301218a8a_wide(const float* p0, bool* q0, float* q1, int64_t n) {
  fused_c2f301218a8a_of<8>(p0, q0, q1, n);
}
