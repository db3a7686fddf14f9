// Sums of exponentials in one pass, and softmax along columns. Follows fold.h; T and C are the types of elements and of
// arithmetic. A Rule is fold.h's and has besides `A ready(A total)`, what the elements of a lane need to know of it,
// and `C result(A ready, C x[, C y])`.

/// e^x; in the precision of 16-bit floats where the elements are such.
inline C exponential(C x) {
  if constexpr (is_narrow<T>)
    return __expf(x);
  else
    return exp(x);
}

/// The largest element, and the sum of e^(x - top).
struct Total {
  C top, sum;
};
inline Total with(Total t, C x) {
  if (x == t.top) return {t.top, t.sum + 1};
  const C e = exponential(-abs(x - t.top));  // NaN stays in the sum
  return x > t.top ? Total{x, t.sum * e + 1} : Total{t.top, t.sum + e};
}
inline Total joined(Total a, Total b) {
  if (a.top == b.top) return {a.top, a.sum + b.sum};
  const C e = exponential(-abs(a.top - b.top));
  return a.top > b.top ? Total{a.top, a.sum + b.sum * e} : Total{b.top, a.sum * e + b.sum};
}
/// log of the sum of e^x, which is the top where that is infinite.
inline C log_sum(Total t) { return t.top + (t.top - t.top == C(0) ? log(t.sum) : t.sum - t.sum); }

/// (outer, n, inner) arrays with inner > 1: threads x have kPack neighbouring lanes, threads y go along their elements,
/// once to fold them and once more to write.
template <int kThreads, int kPack, class Rule, class Xs, class Index>
void softmax_columns(const Rule& rule, const Xs& operands, T* y, Index lanes, Index n, Index inner) {
  using A = typename Rule::A;
  __shared__ A part[kPack][kThreads];
  for (Index first = Index(blockIdx.x) * blockDim.x; first * kPack < lanes; first += gridDim.x * blockDim.x) {
    const Index lane = (first + threadIdx.x) * kPack, start = lane / inner * n * inner + lane % inner;
    const Index end = lane < lanes ? n : 0;
    const Xs xs = operands.from(start);
    const bool aligned = xs.template aligned<kPack>(), stores = is_aligned<kPack>(y + start);
    A acc[kPack];
#pragma unroll
    for (int j = 0; j < kPack; ++j) acc[j] = rule.start();
#pragma unroll 2
    for (Index k = threadIdx.y; k < end; k += blockDim.y) {
      const auto v = xs.template load_at<kPack>(k * inner, aligned);
#pragma unroll
      for (int j = 0; j < kPack; ++j)
        acc[j] = v.apply(j, [&](auto... x) { return rule.step(acc[j], x..., k, Index(lane + j)); });
    }
    over_columns(part, acc, [&](A a, A b) { return rule.combine(a, b); });
    if (blockDim.y > 1) {  // everybody gets what y = 0 has
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kPack; ++j)
        if (threadIdx.y == 0) part[j][threadIdx.x] = acc[j];
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kPack; ++j) acc[j] = part[j][threadIdx.x];
    }
#pragma unroll
    for (int j = 0; j < kPack; ++j) acc[j] = rule.ready(acc[j]);
#pragma unroll 2
    for (Index k = threadIdx.y; k < end; k += blockDim.y) {
      const auto v = xs.template load_at<kPack>(k * inner, aligned);
      Pack<T, kPack> made;
#pragma unroll
      for (int j = 0; j < kPack; ++j)
        made.at[j] = to<T>(v.apply(j, [&](auto... x) { return rule.result(acc[j], to<C>(x)...); }));
      store(y + start + k * inner, made, stores);
    }
  }
}
