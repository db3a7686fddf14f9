// Batch normalisation with ReLU and residual against loops in double.
#include "cpu/batch_norm.h"
#include "dnnl/tests.h"

namespace minimx::test {
namespace {

constexpr double kEps = 1e-3;

struct Stats {
  std::vector<double> mean, var;
};

/// Channel of flat element i of a (N, C, *spatial) shape.
int64_t channel(const Dims& shape, int64_t i) {
  int64_t area = 1;
  for (int d = 2; d < shape.size(); ++d) area *= shape[d];
  return i / area % shape[1];
}

Stats stats_of(const Tensor& x) {
  const Dims& shape = x.spec.shape;
  const double count = static_cast<double>(x.spec.size()) / shape[1];
  Stats s{std::vector<double>(shape[1]), std::vector<double>(shape[1])};
  for (size_t i = 0; i < x.v.size(); ++i) s.mean[channel(shape, i)] += x[i] / count;
  for (size_t i = 0; i < x.v.size(); ++i) {
    const double d = x[i] - s.mean[channel(shape, i)];
    s.var[channel(shape, i)] += d * d / count;
  }
  return s;
}

void check(const Dims& shape, const std::string& how, const std::string& other, DType dtype, bool relu, bool residual,
           double center) {
  const double tolerance = dtype == DType::kFloat32 ? (center ? 1e-4 : 2e-5) : 2e-2;
  const int64_t channels = shape[1];
  const Spec parameter = make_spec({channels});
  Tensor x = random_tensor(make_spec(shape, how, dtype), 1), z = random_tensor(make_spec(shape, other, dtype), 2);
  for (double& v : x.v) v = static_cast<float>(v + center);
  Tensor dy = random_tensor(make_spec(shape, other, dtype), 3);
  const Tensor gamma = random_tensor(parameter, 4), beta = random_tensor(parameter, 5);
  const Stats s = stats_of(x);
  Tensor y = z, dx = x, dz = z, mean = gamma, var = gamma, dgamma = gamma, dbeta = gamma;
  mean.v = s.mean, var.v = s.var;
  std::vector<double> g(x.v.size()), sum_g(channels), sum_gx(channels);
  const double count = static_cast<double>(x.spec.size()) / channels;
  const auto hat = [&](size_t i) {
    const int64_t c = channel(shape, i);
    return (x[i] - s.mean[c]) / std::sqrt(s.var[c] + kEps);
  };
  for (size_t i = 0; i < x.v.size(); ++i) {
    const int64_t c = channel(shape, i);
    y[i] = hat(i) * gamma[c] + beta[c] + (residual ? z[i] : 0);
    if (relu && std::abs(y[i]) < 1e-4) dy[i] = 0;  // too near the kink to say which side
    g[i] = relu && y[i] <= 0 ? 0 : dy[i];
    if (relu) y[i] = std::max(y[i], 0.0);
    sum_g[c] += g[i];
    sum_gx[c] += g[i] * hat(i);
  }
  for (size_t i = 0; i < x.v.size(); ++i) {
    const int64_t c = channel(shape, i);
    dx[i] = gamma[c] / std::sqrt(s.var[c] + kEps) * (g[i] - sum_g[c] / count - hat(i) * sum_gx[c] / count);
    dz[i] = g[i];
  }
  dgamma.v = sum_gx, dbeta.v = sum_g;
  Attrs attrs;
  attrs.values = {{"eps", kEps}, {"relu", int64_t{relu}}};
  std::vector<Tensor> ins{x, gamma, beta};
  if (residual) ins.push_back(z);
  std::vector<Spec> outs{y.spec, parameter, parameter};
  if (relu) outs.push_back(make_spec({static_cast<int64_t>(batch_norm_mask_bytes(x.spec))}, "", DType::kUInt8));
  const auto forward = run("batch_norm_fwd_train", ins, outs, attrs);
  expect_close(forward[0], y, tolerance, "y");
  expect_close(forward[1], mean, tolerance, "mean");
  expect_close(forward[2], var, tolerance, "var");
  ins = {x, gamma, beta, mean, var};
  if (residual) ins.push_back(z);
  expect_close(run("batch_norm_infer", ins, {y.spec}, attrs)[0], y, tolerance, "infer y");
  ins = {x, dy, mean, var, gamma};
  if (relu) ins.push_back(forward[3]);
  outs = {x.spec, parameter, parameter};
  if (residual) outs.push_back(z.spec);
  const auto backward = run("batch_norm_bwd", ins, outs, attrs);
  expect_close(backward[0], dx, tolerance, "dx");
  expect_close(backward[1], dgamma, tolerance, "dgamma");
  expect_close(backward[2], dbeta, tolerance, "dbeta");
  if (residual) expect_close(backward[3], dz, tolerance, "dz");
}

}  // namespace

void test_batch_norm() {
  const Dims shapes[] = {{3, 5}, {2, 19, 7}, {2, 3, 5, 7}, {1, 16, 40, 41}, {4, 24, 30, 30}, {2, 9, 3, 2, 5}};
  for (const Dims& shape : shapes)
    for (bool relu : {false, true})
      for (bool residual : {false, true}) {
        context = "batch_norm " + shape.str() + (relu ? " relu" : "") + (residual ? " residual" : "");
        for (const char* how : {"", "last", "gap", "reversed"}) {
          check(shape, how, how, DType::kFloat32, relu, residual, 0);
          check(shape, how, "", DType::kFloat32, relu, residual, 0);
        }
        if (shape.size() == 4) check(shape, "aBcd8b", "aBcd8b", DType::kFloat32, relu, residual, 0);
        if (shape.size() == 4) check(shape, "aBcd16b", "aBcd16b", DType::kFloat32, relu, residual, 0);
        if (shape.size() == 4) check(shape, "acdb", "aBcd16b", DType::kFloat32, relu, residual, 0);
        check(shape, "", "", DType::kFloat32, false, residual, 100);
        check(shape, "last", "last", DType::kBFloat16, false, residual, 0);
        check(shape, "", "", DType::kFloat16, false, residual, 0);
      }
  context = "batch_norm without elements";
  Attrs attrs;
  attrs.values = {{"eps", kEps}};
  const Tensor none = random_tensor(make_spec({0, 3, 2, 2})), parameter = random_tensor(make_spec({3}));
  run("batch_norm_fwd_train", {none, parameter, parameter}, {none.spec, parameter.spec, parameter.spec}, attrs);
  run("batch_norm_bwd", {none, none, parameter, parameter, parameter}, {none.spec, parameter.spec, parameter.spec},
      attrs);
}

}  // namespace minimx::test
