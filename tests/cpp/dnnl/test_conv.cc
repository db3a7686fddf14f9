// Convolutions against loops in double: groups, dilation, strides, odd channels, 1d to 3d, layouts and types.
#include "cpu/dnnl_layout.h"
#include "dnnl/tests.h"

namespace minimx::test {
namespace {

struct Case {
  Dims x, w;
  std::vector<int64_t> stride, pad, dilate;
  int64_t groups = 1;

  Dims y() const {
    Dims s{x[0], w[0]};
    for (int i = 2; i < x.size(); ++i)
      s.push_back((x[i] + 2 * pad[i - 2] - dilate[i - 2] * (w[i] - 1) - 1) / stride[i - 2] + 1);
    return s;
  }
  Attrs attrs() const {
    Attrs a;
    a.values = {{"stride", stride}, {"pad", pad}, {"dilate", dilate}, {"groups", groups}};
    return a;
  }
};

const Case kCases[] = {
    {{2, 3, 9, 8}, {5, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {{2, 16, 7, 7}, {32, 16, 1, 1}, {2, 2}, {0, 0}, {1, 1}},
    {{1, 19, 8, 6}, {21, 19, 3, 2}, {2, 1}, {1, 0}, {1, 2}},
    {{2, 12, 6, 6}, {8, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 4},
    {{2, 16, 6, 6}, {16, 1, 3, 3}, {2, 2}, {1, 1}, {1, 1}, 16},
    {{3, 4, 11}, {6, 4, 3}, {2}, {1}, {1}},
    {{1, 5, 4, 6, 5}, {7, 5, 2, 3, 3}, {1, 2, 1}, {0, 1, 1}, {1, 1, 1}},
    {{0, 3, 5, 5}, {4, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1}},
};

/// Calls f(flat x, flat w, flat y, output channel) for every multiply-add of the convolution.
void each_product(const Case& c, const std::function<void(int64_t, int64_t, int64_t, int64_t)>& f) {
  const Dims y = c.y();
  const int spatial = y.size() - 2;
  const int64_t in = c.w[1], out = c.w[0] / c.groups;
  Dims inner{in};
  for (int i = 0; i < spatial; ++i) inner.push_back(c.w[i + 2]);
  const auto flat = [](const Dims& shape, const Dims& index) {
    int64_t at = 0;
    for (int i = 0; i < shape.size(); ++i) at = at * shape[i] + index[i];
    return at;
  };
  each_index(y, [&](const Dims& o, int64_t yi) {
    each_index(inner, [&](const Dims& k, int64_t ki) {
      Dims xi{o[0], o[1] / out * in + k[0]};
      for (int i = 0; i < spatial; ++i) {
        xi.push_back(o[i + 2] * c.stride[i] - c.pad[i] + k[i + 1] * c.dilate[i]);
        if (xi[i + 2] < 0 || xi[i + 2] >= c.x[i + 2]) return;
      }
      f(flat(c.x, xi), o[1] * inner.product() + ki, yi, o[1]);
    });
  });
}

void check(const Case& c, const std::string& x_how, const std::string& w_how, const std::string& y_how, DType dtype) {
  const double tolerance = dtype == DType::kFloat32 ? 1e-5 : dtype == DType::kFloat16 ? 4e-3 : 2e-2;
  const Tensor x = random_tensor(make_spec(c.x, x_how, dtype), 1), w = random_tensor(make_spec(c.w, w_how, dtype), 2);
  const Tensor b = random_tensor(make_spec({c.w[0]}, "", dtype), 3);
  const Tensor dy = random_tensor(make_spec(c.y(), y_how, dtype), 4);
  Tensor y = dy, relu = dy, sum = dy, dx = x, dw = w, db = b;
  dx.v.assign(dx.v.size(), 0), dw.v.assign(dw.v.size(), 0), db.v.assign(db.v.size(), 0);
  const int64_t area = c.y().product() / std::max<int64_t>(1, c.y()[0] * c.w[0]);
  for (size_t i = 0; i < y.v.size(); ++i) {
    const int64_t channel = static_cast<int64_t>(i) / area % c.w[0];
    y[i] = b[channel];
    db[channel] += dy[i];
  }
  each_product(c, [&](int64_t xi, int64_t wi, int64_t yi, int64_t) {
    y[yi] += x[xi] * w[wi];
    dx[xi] += dy[yi] * w[wi];
    dw[wi] += dy[yi] * x[xi];
  });
  const Attrs attrs = c.attrs();
  expect_close(run("conv_fwd", {x, w, b}, {y.spec}, attrs)[0], y, tolerance, "y");
  expect_close(run("conv_bwd_data", {dy, w}, {x.spec}, attrs)[0], dx, tolerance, "dx");
  const auto grads = run("conv_bwd_weights", {x, dy}, {w.spec, b.spec}, attrs);
  expect_close(grads[0], dw, tolerance, "dw");
  expect_close(grads[1], db, tolerance, "db");
  expect_close(run("conv_bwd_weights", {x, dy}, {w.spec}, attrs)[0], dw, tolerance, "dw without db");
  Attrs fused = attrs;
  fused.values["relu"] = int64_t{1};
  for (size_t i = 0; i < y.v.size(); ++i) relu[i] = std::max(y[i], 0.0), sum[i] = std::max(y[i] + dy[i], 0.0);
  expect_close(run("conv_fwd", {x, w, b}, {y.spec}, fused)[0], relu, tolerance, "relu");
  fused.values["sum"] = int64_t{1};
  Bench bench("conv_fwd", {x, w, b}, {y.spec}, fused);
  bench.buffers[3].put(dy);
  bench.run();
  expect_close(bench.out(0), sum, tolerance, "sum");
}

/// Every kernel in the layouts conv_layouts says, which must be names that Spec.layout takes back.
void check_preferred(const Case& c) {
  const Spec x = make_spec(c.x), w = make_spec(c.w), y = make_spec(c.y());
  const Spec fwd_in[] = {x, w}, data_in[] = {y, w}, weights_in[] = {x, y};
  for (const ConvLayouts& l :
       {conv_layouts(fwd_in, {&y, 1}, c.attrs(), "fwd"), conv_layouts(data_in, {&x, 1}, c.attrs(), "bwd_data"),
        conv_layouts(weights_in, {&w, 1}, c.attrs(), "bwd_weights")}) {
    context = "conv in preferred layouts x " + l.src + " w " + l.weights + " y " + l.dst;
    for (const auto& [layout, spec] : {std::pair(l.src, x), std::pair(l.weights, w), std::pair(l.dst, y)}) {
      int64_t elements = spec.size();
      const Spec named = make_spec(spec.shape, layout);
      if (!layout.empty() && spec.size()) offset(named, Dims::filled(spec.shape.size(), 0), &elements);
      expect(layout_bytes(named) == static_cast<size_t>(4 * elements), "layout_bytes of " + layout);
    }
    check(c, l.src, l.weights, l.dst, DType::kFloat32);
  }
}

}  // namespace

void test_conv() {
  const char* kHow[] = {"", "last", "gap", "reversed"};
  for (const Case& c : kCases) {
    for (const char* x_how : kHow)
      for (const char* y_how : kHow) {
        context = "conv x" + c.x.str() + " " + x_how + " w" + c.w.str() + " y " + y_how;
        check(c, x_how, "", y_how, DType::kFloat32);
      }
    context = "conv w odd strides" + c.w.str();
    check(c, "", "reversed", "", DType::kFloat32);
    check(c, "last", "last", "last", DType::kFloat32);
    for (DType t : {DType::kBFloat16, DType::kFloat16}) {
      context = "conv x" + c.x.str() + " " + dtype_name(t);
      check(c, "", "", "", t);
      check(c, "last", "", "last", t);
    }
    check_preferred(c);
  }
}

}  // namespace minimx::test
