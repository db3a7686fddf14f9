// Pooling and reorders against loops in double.
#include "cpu/dnnl_pool.h"
#include "dnnl/tests.h"

namespace minimx::test {
namespace {

struct Case {
  Dims x;
  std::vector<int64_t> kernel, stride, pad;
  bool full = false;

  Dims y() const {
    Dims s{x[0], x[1]};
    for (int i = 2; i < x.size(); ++i) {
      const int64_t room = x[i] + 2 * pad[i - 2] - kernel[i - 2];
      s.push_back((full ? room + stride[i - 2] - 1 : room) / stride[i - 2] + 1);
    }
    return s;
  }
};

void check(const Case& c, const std::string& kind, const std::string& x_how, const std::string& y_how, DType dtype) {
  const Tensor x = random_tensor(make_spec(c.x, x_how, dtype), 1),
               dy = random_tensor(make_spec(c.y(), y_how, dtype), 2);
  Tensor y = dy, dx = x;
  dx.v.assign(dx.v.size(), 0);
  const Dims kernel{std::span<const int64_t>(c.kernel)};
  each_index(c.y(), [&](const Dims& o, int64_t yi) {
    std::vector<int64_t> window;
    each_index(kernel, [&](const Dims& k, int64_t) {
      int64_t at = o[0] * c.x[1] + o[1];
      for (int i = 0; i < k.size(); ++i) {
        const int64_t p = o[i + 2] * c.stride[i] - c.pad[i] + k[i];
        if (p < 0 || p >= c.x[i + 2]) return;
        at = at * c.x[i + 2] + p;
      }
      window.push_back(at);
    });
    int64_t best = window[0];
    double sum = 0;
    const double count = kind == "avg_include" ? kernel.product() : window.size();
    for (int64_t at : window) {
      sum += x[at];
      if (x[at] > x[best]) best = at;
    }
    y[yi] = kind == "max" ? x[best] : sum / count;
    if (kind == "max") {
      dx[best] += dy[yi];
    } else {
      for (int64_t at : window) dx[at] += dy[yi] / count;
    }
  });
  Attrs attrs;
  attrs.values = {{"kind", kind}, {"kernel", c.kernel}, {"stride", c.stride}, {"pad", c.pad}};
  const double tolerance = dtype == DType::kFloat32 ? 1e-6 : 1e-2;
  expect_close(run("pool_fwd", {x}, {y.spec}, attrs)[0], y, tolerance, "y");
  if (kind != "max") {
    expect_close(run("pool_bwd", {dy}, {x.spec}, attrs)[0], dx, tolerance, "dx");
    return;
  }
  const auto both = run("pool_fwd", {x}, {y.spec, make_spec(c.y(), y_how, pool_index_dtype(kernel))}, attrs);
  expect_close(both[0], y, tolerance, "y with index");
  expect_close(run("pool_bwd", {dy, both[1]}, {x.spec}, attrs)[0], dx, tolerance, "dx");
}

}  // namespace

void test_pool() {
  const Case cases[] = {
      {{2, 3, 9, 8}, {3, 3}, {2, 2}, {1, 1}},
      {{1, 19, 7, 7}, {7, 7}, {1, 1}, {0, 0}},
      {{2, 16, 8, 7}, {2, 3}, {2, 2}, {0, 1}, true},
      {{2, 5, 11}, {3}, {2}, {1}},
      {{1, 4, 5, 6, 5}, {2, 2, 3}, {1, 2, 2}, {0, 0, 1}},
      {{1, 3, 20, 20}, {20, 20}, {1, 1}, {0, 0}},
      {{0, 3, 4, 4}, {2, 2}, {2, 2}, {0, 0}},
  };
  for (const Case& c : cases)
    for (const char* kind : {"max", "avg_include", "avg_exclude"}) {
      for (const char* how : {"", "last", "gap", "reversed"}) {
        context = "pool " + std::string(kind) + c.x.str() + " " + how;
        check(c, kind, how, how, DType::kFloat32);
        check(c, kind, how, "", DType::kFloat32);
      }
      if (c.x.size() == 4) check(c, kind, "aBcd8b", "aBcd8b", DType::kFloat32);
      if (c.x.size() == 4) check(c, kind, "aBcd16b", "aBcd16b", DType::kFloat32);
      check(c, kind, "", "", DType::kBFloat16);
      check(c, kind, "last", "last", DType::kFloat16);
    }
}

void test_reorder() {
  const char* kHow[] = {"", "last", "gap", "reversed", "acdb", "aBcd8b", "aBcd16b"};
  for (const Dims& shape : {Dims{2, 19, 5, 3}, Dims{1, 3, 1, 1}, Dims{0, 3, 2, 2}})
    for (const char* from : kHow)
      for (const char* to : kHow) {
        context = std::string("reorder ") + from + " to " + to + shape.str();
        const Tensor x = random_tensor(make_spec(shape, from));
        expect_close(run("reorder", {x}, {make_spec(shape, to)})[0], x, 0, "y");
        expect_close(run("reorder", {x}, {make_spec(shape, to, DType::kBFloat16)})[0], x, 1e-2, "bfloat16 y");
      }
  context = "reorder float64";
  const Tensor x = random_tensor(make_spec({2, 3, 4}, "last", DType::kFloat64));
  expect_close(run("reorder", {x}, {make_spec({2, 3, 4}, "reversed", DType::kFloat64)})[0], x, 0, "y");
}

}  // namespace minimx::test
