// Many elements folded into few results: the two orders in which threads walk them. What is folded, and along which
// axes, comes from fold.py as text: a Rule and a Place.
//
//   struct Rule {
//     using A = ...;                                              accumulator, copied byte by byte
//     A start() const;                                            of nothing
//     A step(A acc, X x[, Y y], Index at, Index r) const;         takes in element `at` of result r
//     A combine(A a, A b) const;                                  of elements that do not overlap
//     void finish(A acc, Index r, Index into) const;              stores result r at offset `into`
//   };
//   struct Place {
//     Index from(Index r) const;                                  where the elements of result r begin in the operands
//     Index along(Index at) const;                                how far on element `at` is
//     Index into(Index r) const;                                  where result r is in the output
//   };
//
// A launch folds elements [blockIdx.y * segment, ...) of every result and gives what it has to a Sink: results that are
// finished, or accumulators that another launch joins. Follows collective.h.

/// Operands of equal strides, one or two. `Elements`: kCount neighbours of each; apply(j, f) is f of number j of them.
/// put() stores what was made of them on the way, here nothing. Fused kernels have operands of their own making
/// (fused_fold.py), whose offsets may be structs.
template <class X, class... Y>
struct Operands;

template <class X>
struct Operands<X> {
  const X* x;

  template <int kCount>
  struct Elements {
    Pack<X, kCount> x;
    template <class F>
    auto apply(int j, const F& f) const {
      return f(x.at[j]);
    }
  };

  template <class Index>
  Operands from(Index offset) const {
    return {x + offset};
  }
  template <int kCount>
  bool aligned() const {
    return is_aligned<kCount>(x);
  }
  template <int kCount, class Index>
  Elements<kCount> load_at(Index offset, bool aligned) const {
    return {load<kCount>(x + offset, aligned)};
  }
  template <int kCount, class Index>
  void put(Index, const Elements<kCount>&, bool) const {}
};

template <class X, class Y>
struct Operands<X, Y> {
  const X* x;
  const Y* y;

  template <int kCount>
  struct Elements {
    Pack<X, kCount> x;
    Pack<Y, kCount> y;
    template <class F>
    auto apply(int j, const F& f) const {
      return f(x.at[j], y.at[j]);
    }
  };

  template <class Index>
  Operands from(Index offset) const {
    return {x + offset, y + offset};
  }
  template <int kCount>
  bool aligned() const {
    return is_aligned<kCount>(x) && is_aligned<kCount>(y);
  }
  template <int kCount, class Index>
  Elements<kCount> load_at(Index offset, bool aligned) const {
    return {load<kCount>(x + offset, aligned), load<kCount>(y + offset, aligned)};
  }
  template <int kCount, class Index>
  void put(Index, const Elements<kCount>&, bool) const {}
};

/// kCount elements that lie `step` apart.
template <int kCount, class T, class Index>
Pack<T, kCount> gather(const T* p, Index step) {
  Pack<T, kCount> pack;
#pragma unroll
  for (int j = 0; j < kCount; ++j) pack.at[j] = p[j * step];
  return pack;
}
template <class T, int kCount, class Index>
void scatter(T* p, const Pack<T, kCount>& pack, Index step) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) p[j * step] = pack.at[j];
}

/// Sink of results.
template <class Rule, class Place>
struct Finished {
  const Rule& rule;
  const Place& place;
  template <class A, class Index>
  void take(A acc, Index r) const {
    rule.finish(acc, r, place.into(r));
  }
};

/// Sink of accumulators: one for each segment and result.
template <class A>
struct Kept {
  A* partial;
  int64_t results;
  template <class Index>
  void take(A acc, Index r) const {
    partial[blockIdx.y * results + r] = acc;
  }
};

/// Joins accumulators as if they were elements.
template <class Rule>
struct Join {
  using A = typename Rule::A;
  const Rule& rule;
  A start() const { return rule.start(); }
  template <class Index>
  A step(A acc, A x, Index, Index) const {
    return rule.combine(acc, x);
  }
  A combine(A a, A b) const { return rule.combine(a, b); }
};

/// take(v, k) of the packs k, k + step, ... of which kAtOnce more end before `end`; returns the next k. These many are
/// read before the first is used, so that memory has something to do.
template <int kPack, int kAtOnce, bool kWide, class Xs, class Place, class Index, class Take>
Index walk_packs(const Xs& xs, const Place& place, Index k, Index step, Index end, const Take& take) {
  for (; k + (kAtOnce - 1) * step < end; k += kAtOnce * step) {
    decltype(xs.template load_at<kPack>(place.along(k), kWide)) v[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) v[u] = xs.template load_at<kPack>(place.along(k + u * step), kWide);
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      take(v[u], Index(k + u * step));
      xs.template put<kPack>(place.along(k + u * step), v[u], kWide);
    }
  }
  return k;
}

/// The same of all that end before `end`, at most kAtOnce at a time.
template <int kPack, int kAtOnce, class Xs, class Place, class Index, class Take>
void each_pack(const Xs& xs, const Place& place, Index k, Index step, Index end, const Take& take) {
  if (kPack == 1 || xs.template aligned<kPack>()) {
    if constexpr (kAtOnce > 1) k = walk_packs<kPack, kAtOnce, true>(xs, place, k, step, end, take);
    walk_packs<kPack, 1, true>(xs, place, k, step, end, take);
  } else if constexpr (kPack > 1) {
    walk_packs<kPack, 1, false>(xs, place, k, step, end, take);
  }
}

/// Threads x go along the elements of a result, kPack neighbours at a time; threads y and blocks x have a result each.
template <int kThreads, int kPack, int kAtOnce, class Rule, class Place, class Sink, class Xs, class Index>
void fold_rows(const Rule& rule, const Place& place, const Sink& sink, const Xs& operands, Index results,
               Index elements, Index segment) {
  using A = typename Rule::A;
  constexpr int kParts = kPack < 4 ? kPack : 4;  // accumulators that do not wait for each other
  auto combine = [&](A a, A b) { return rule.combine(a, b); };
  const Index begin = blockIdx.y * segment, end = begin + segment < elements ? begin + segment : elements;
  const Index whole = begin + (end - begin) / kPack * kPack;  // the end of whole packs
  for (Index first = Index(blockIdx.x) * blockDim.y; first < results; first += gridDim.x * blockDim.y) {
    const Index r = first + threadIdx.y;
    A acc = rule.start();
    if (r < results) {
      const auto xs = operands.from(place.from(r));
      A part[kParts];
#pragma unroll
      for (int j = 0; j < kParts; ++j) part[j] = rule.start();
      auto take = [&](auto& v, Index k) {
#pragma unroll
        for (int j = 0; j < kPack; ++j)
          part[j % kParts] = v.apply(j, [&](auto... x) { return rule.step(part[j % kParts], x..., Index(k + j), r); });
      };
      each_pack<kPack, kAtOnce>(xs, place, Index(begin + threadIdx.x * kPack), Index(blockDim.x * kPack), whole, take);
      if (kPack > 1)  // not constexpr: NVRTC 13 would then lose what `take` has added up
        for (Index k = whole + threadIdx.x; k < end; k += blockDim.x) {
          auto v = xs.template load_at<1>(place.along(k), false);
          part[0] = v.apply(0, [&](auto... x) { return rule.step(part[0], x..., k, r); });
          xs.template put<1>(place.along(k), v, false);
        }
#pragma unroll
      for (int j = 0; j < kParts; ++j) acc = rule.combine(acc, part[j]);
    }
    acc = over_row<kThreads>(acc, combine);
    if (threadIdx.x == 0 && r < results) sink.take(acc, r);
  }
}

/// Joins acc[j] of the threads of one x, for the one with y = 0. Every thread of the block calls it; y is a power of
/// two.
template <int kPack, int kSlots, class A, class Combine>
void over_columns(A (&part)[kPack][kSlots], A (&acc)[kPack], const Combine& combine) {
  for (int half = blockDim.y / 2; half > 0; half /= 2) {  // the lower half of the threads y takes from the upper one
    const int slot = threadIdx.y % half * blockDim.x + threadIdx.x;
    __syncthreads();
    if (threadIdx.y >= half && threadIdx.y < 2 * half)
#pragma unroll
      for (int j = 0; j < kPack; ++j) part[j][slot] = acc[j];
    __syncthreads();
    if (threadIdx.y < half)
#pragma unroll
      for (int j = 0; j < kPack; ++j) acc[j] = combine(acc[j], part[j][slot]);
  }
}

/// Threads x and blocks x have kPack neighbouring results each; threads y go along their elements.
template <int kThreads, int kPack, int kAtOnce, class Rule, class Place, class Sink, class Xs, class Index>
void fold_columns(const Rule& rule, const Place& place, const Sink& sink, const Xs& operands, Index results,
                  Index elements, Index segment) {
  using A = typename Rule::A;
  __shared__ A part[kPack][kThreads / 2];
  const Index begin = blockIdx.y * segment, end = begin + segment < elements ? begin + segment : elements;
  for (Index first = Index(blockIdx.x) * blockDim.x; first * kPack < results; first += gridDim.x * blockDim.x) {
    const Index r = (first + threadIdx.x) * kPack;
    A acc[kPack];
#pragma unroll
    for (int j = 0; j < kPack; ++j) acc[j] = rule.start();
    if (r < results) {
      const auto xs = operands.from(place.from(r));
      auto take = [&](auto& v, Index k) {
#pragma unroll
        for (int j = 0; j < kPack; ++j)
          acc[j] = v.apply(j, [&](auto... x) { return rule.step(acc[j], x..., k, Index(r + j)); });
      };
      each_pack<kPack, kAtOnce>(xs, place, Index(begin + threadIdx.y), Index(blockDim.y), end, take);
    }
    over_columns(part, acc, [&](A a, A b) { return rule.combine(a, b); });
    if (threadIdx.y == 0 && r < results)
#pragma unroll
      for (int j = 0; j < kPack; ++j) sink.take(acc[j], r + j);
  }
}
