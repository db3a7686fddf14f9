// subtract, multiply, mean over (/16777216/): float16, float16 -> float16
extern "C" void fused_d24bc08a0c8d(void* const* data, int64_t begin, int64_t end) {
  const auto* p0 = static_cast<const Half*>(data[0]);
  const auto* p1 = static_cast<const Half*>(data[1]);
  auto* q0 = static_cast<Half*>(data[2]);
  constexpr int64_t kWidth = 64;
  alignas(64) float a0[3][kWidth];  // of mean
  for (int64_t r = begin; r < end; ++r) {
    for (auto& level : a0) std::fill_n(level, kWidth, mean_::init<float>());
    int64_t round = 0;
    const auto* v0 = p0;
    const auto* v1 = p1;
    const auto take = [&](int64_t i, int64_t lane) {
      const Half x0 = v0[i];
      const Half x1 = v1[i];
      const Half t0 = to<Half>(subtract_::f<float>(to<float>(x0), to<float>(x1)));
      const Half t1 = to<Half>(multiply_::f<float>(to<float>(t0), to<float>(t0)));
      a0[0][lane] = mean_::step<float>(a0[0][lane], to<float>(t1));
    };
    int64_t i = 0;
    for (; i + kWidth <= 16777216; i += kWidth) {
#pragma GCC ivdep
      for (int64_t lane = 0; lane < kWidth; ++lane) take(i + lane, lane);
      if (++round % 64 == 0) {
        for (int64_t level = 0; level < (round % 4096 == 0 ? 2 : 1); ++level) {
#pragma GCC ivdep
          for (int64_t i = 0; i < kWidth; ++i) a0[level + 1][i] = mean_::combine<float>(a0[level + 1][i], a0[level][i]);
          std::fill_n(a0[level], kWidth, mean_::init<float>());
        }
      }
    }
    if (i < 16777216) {
#pragma GCC ivdep
      for (int64_t lane = 0; lane < 16777216 - i; ++lane) take(i + lane, lane);
      if (++round % 64 == 0) {
        for (int64_t level = 0; level < (round % 4096 == 0 ? 2 : 1); ++level) {
#pragma GCC ivdep
          for (int64_t i = 0; i < kWidth; ++i) a0[level + 1][i] = mean_::combine<float>(a0[level + 1][i], a0[level][i]);
          std::fill_n(a0[level], kWidth, mean_::init<float>());
        }
      }
    }
    for (int64_t level = 1; level < 3; ++level) {
#pragma GCC ivdep
      for (int64_t i = 0; i < kWidth; ++i) a0[0][i] = mean_::combine<float>(a0[0][i], a0[level][i]);
    }
    for (int64_t half = kWidth / 2; half > 0; half /= 2) {
      for (int64_t i = 0; i < half; ++i) {
        a0[0][i] = mean_::combine<float>(a0[0][i], a0[0][i + half]);
      }
    }
    const Half r0 = to<Half>(mean_::finish<float>(a0[0][0], static_cast<float>(16777216)));
    q0[0] = r0;
  }
}
