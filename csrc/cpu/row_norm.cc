// Layer norm and RMS norm over the last axes of contiguous arrays: rows of "n" elements.
//
//   row_norm(x[, gamma][, beta]) -> y, mean, rstd      y = (x - mean) * rstd * gamma + beta, rstd = 1 / sqrt(var +
//   "eps") row_norm_bwd(x, dy, mean, rstd[, gamma]) -> dx[, dgamma, dbeta]
//
// "rms" = 1: mean is 0 and var the mean square. Flags "gamma", "beta": which operands there are; "parameters": whether
// dgamma and dbeta are wanted. All but x, y and their gradients is float32 (float64 for float64 data). dgamma and
// dbeta are added up per block of rows and then over the blocks, so the order does not depend on the threads.
#include <cmath>

#include "cpu/map_kernel.h"
#include "cpu/rows.h"

namespace minimx {
namespace {

struct Rows {
  int64_t rows, n;
  bool rms, gamma, beta = false, parameters = false;
  Rows(const Spec& x, const Attrs& a) : n(a.integer("n")), rms(a.integer("rms")), gamma(a.integer("gamma")) {
    rows = n ? x.size() / n : 0;
    beta = a.has("beta") && a.integer("beta");
    parameters = a.has("parameters") && a.integer("parameters");
  }
};

enum Row { kX, kDy, kY, kG, kXhat };  // scratch rows

template <class T>
KernelPtr forward(const Rows& r, double eps) {
  return map_kernel(r.rows, 0.5 * static_cast<double>(r.n) + 20, [=](void* const* data, int64_t begin, int64_t end) {
    using C = Compute<T>;
    const int64_t n = r.n;
    const C* gamma = r.gamma ? static_cast<const C*>(data[1]) : nullptr;
    const C* beta = r.beta ? static_cast<const C*>(data[1 + r.gamma]) : nullptr;
    void* const* outs = data + 1 + r.gamma + r.beta;
    const C count = static_cast<C>(n);
    for (int64_t row = begin; row < end; ++row) {
      const C* x = rows::in_place_or_copied<C, kX>(static_cast<const T*>(data[0]) + row * n, n, 1);
      T* to = static_cast<T*>(outs[0]) + row * n;
      C* y = rows::in_place_or_scratch<C, kY>(to, n, 1);
      const C mean = r.rms ? C(0) : rows::sum_of<C>(n, [x](auto at) { return at(x); }) / count;
      const C squares = rows::sum_of<C>(n, [x, mean](auto at) {
        const auto d = at(x) - mean;
        return d * d;
      });
      const C rstd = 1 / std::sqrt(squares / count + static_cast<C>(eps));
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) {
        C v = (x[i] - mean) * rstd;
        if (gamma) v *= gamma[i];
        if (beta) v += beta[i];
        y[i] = v;
      }
      rows::put_back(y, to, n, 1);
      static_cast<C*>(outs[1])[row] = mean;
      static_cast<C*>(outs[2])[row] = rstd;
    }
  });
}

template <class T>
class Backward final : public Kernel {
  using C = Compute<T>;

 public:
  explicit Backward(const Rows& r) : r_(r) {
    block_ = std::max<int64_t>(16, (r.rows + 31) / 32);
    blocks_ = (r.rows + block_ - 1) / block_;
  }
  size_t workspace_bytes() const override { return r_.parameters ? 2 * blocks_ * r_.n * sizeof(C) : 0; }
  double cost_ns() const override { return 50 + 2.5 * static_cast<double>(r_.rows * r_.n); }

  void run(void* const* data, void* workspace) const override {
    C* partial = static_cast<C*>(workspace);
    parallel_for(blocks_, 1 + 10000 / (block_ * r_.n + 1), [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) block(data, b, partial ? partial + 2 * b * r_.n : nullptr);
    });
    if (!r_.parameters) return;
    void* const* outs = data + 4 + r_.gamma;
    for (int which = 0; which < 2; ++which) {
      C* out = static_cast<C*>(outs[1 + which]);
      for (int64_t i = 0; i < r_.n; ++i) {
        C sum = 0;
        for (int64_t b = 0; b < blocks_; ++b) sum += partial[(2 * b + which) * r_.n + i];
        out[i] = sum;
      }
    }
  }

 private:
  void block(void* const* data, int64_t b, C* partial) const {
    if (r_.parameters) std::fill(partial, partial + 2 * r_.n, C(0));
    for (int64_t row = b * block_; row < std::min(r_.rows, (b + 1) * block_); ++row) one_row(data, row, partial);
  }

  void one_row(void* const* data, int64_t row, C* partial) const {
    const int64_t n = r_.n;
    const C* x = rows::in_place_or_copied<C, kX>(static_cast<const T*>(data[0]) + row * n, n, 1);
    const C* dy = rows::in_place_or_copied<C, kDy>(static_cast<const T*>(data[1]) + row * n, n, 1);
    const C mean = static_cast<const C*>(data[2])[row], rstd = static_cast<const C*>(data[3])[row];
    const C* gamma = r_.gamma ? static_cast<const C*>(data[4]) : nullptr;
    T* to = static_cast<T*>(data[4 + r_.gamma]) + row * n;
    C *dx = rows::in_place_or_scratch<C, kY>(to, n, 1), *xhat = rows::scratch<C, kXhat>(n),
      *g = rows::scratch<C, kG>(n);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      xhat[i] = (x[i] - mean) * rstd;
      g[i] = gamma ? dy[i] * gamma[i] : dy[i];
    }
    if (r_.parameters) {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) {
        partial[i] += dy[i] * xhat[i];
        partial[n + i] += dy[i];
      }
    }
    const C count = static_cast<C>(n);
    const C a = r_.rms ? C(0) : rows::sum_of<C>(n, [g](auto at) { return at(g); }) / count,
            c = rows::sum_of<C>(n, [g, xhat](auto at) { return at(g) * at(xhat); }) / count;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dx[i] = rstd * (g[i] - a - xhat[i] * c);
    rows::put_back(dx, to, n, 1);
  }

  Rows r_;
  int64_t block_, blocks_;
};

}  // namespace

void register_row_norm_kernels() {
  register_kernel("row_norm", [](std::span<const Spec> ins, std::span<const Spec>, const Attrs& a) {
    return dispatch_float("layer_norm", ins[0].dtype,
                          [&](auto z) { return forward<decltype(z)>(Rows(ins[0], a), a.real("eps")); });
  });
  register_kernel("row_norm_bwd", [](std::span<const Spec> ins, std::span<const Spec>, const Attrs& a) {
    return dispatch_float("layer_norm", ins[0].dtype, [&](auto z) -> KernelPtr {
      return std::make_shared<Backward<decltype(z)>>(Rows(ins[0], a));
    });
  });
}

}  // namespace minimx
