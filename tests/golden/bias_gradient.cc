// tanh, multiply, sum over (/4096/, 768): float16, float16 -> float16[], float16
extern "C" void fused_15354b0dbaa9(void* const* data, int64_t begin, int64_t end) {
  const auto* p0 = static_cast<const Half*>(data[0]);
  const auto* p1 = static_cast<const Half*>(data[1]);
  auto* q0 = static_cast<Half*>(data[2]);
  auto* q1 = static_cast<Half*>(data[3]);
  constexpr int64_t kWidth = 512;
  alignas(64) float a0[2][kWidth];  // of sum
  begin *= 16, end = std::min<int64_t>(end * 16, 768);
  for (int64_t r = begin; r < end;) {
    const int64_t i1 = r;
    const int64_t width = std::min({kWidth, 768 - i1, end - r});
    for (auto& level : a0) std::fill_n(level, width, sum_::init<float>());
    int64_t round = 0;
    for (int64_t i0 = 0; i0 < 4096; ++i0) {
      const auto* v0 = p0 + i0 * 768 + i1;
      const auto* v1 = p1 + i0 * 768 + i1;
      auto* s0 = q0 + i0 * 768 + i1;
#pragma GCC ivdep
      for (int64_t i = 0; i < width; ++i) {
        const Half x0 = v0[i];
        const Half x1 = v1[i];
        const Half t0 = to<Half>(tanh_::f<float>(to<float>(x1)));
        const Half t1 = to<Half>(multiply_::f<float>(to<float>(x0), to<float>(t0)));
        s0[i] = t1;
        a0[0][i] = sum_::step<float>(a0[0][i], to<float>(t1));
      }
      if (++round % 64 == 0) {
        for (int64_t level = 0; level < (1); ++level) {
#pragma GCC ivdep
          for (int64_t i = 0; i < width; ++i) a0[level + 1][i] = sum_::combine<float>(a0[level + 1][i], a0[level][i]);
          std::fill_n(a0[level], width, sum_::init<float>());
        }
      }
    }
    for (int64_t level = 1; level < 2; ++level) {
#pragma GCC ivdep
      for (int64_t i = 0; i < width; ++i) a0[0][i] = sum_::combine<float>(a0[0][i], a0[level][i]);
    }
    auto* sq1 = q1 + i1;
#pragma GCC ivdep
    for (int64_t i = 0; i < width; ++i) {
      const Half r0 = to<Half>(sum_::finish<float>(a0[0][i], static_cast<float>(4096)));
      sq1[i] = r0;
    }
    r += width;
  }
}
