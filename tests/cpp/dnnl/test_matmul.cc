// Matrix products against loops in double: transposes, broadcasting, bias, every type, odd and empty shapes.
#include "dnnl/tests.h"

namespace minimx::test {
namespace {

Spec transposed(Spec s) {
  const int n = s.shape.size();
  Spec t = make_spec(
      [&] {
        Dims d = s.shape;
        std::swap(d[n - 1], d[n - 2]);
        return d;
      }(),
      "", s.dtype);
  std::swap(t.strides[n - 1], t.strides[n - 2]);
  t.shape = s.shape;
  return t;
}

Tensor reference(const Tensor& a, const Tensor& b, const Tensor* bias, const Spec& c_spec) {
  Tensor c{c_spec, std::vector<double>(c_spec.size())};
  const int batch = c_spec.shape.size() - 2;
  const int64_t k = a.spec.shape.back();
  const auto at = [&](const Tensor& t, const Dims& index, int64_t row, int64_t col) {
    int64_t flat = 0;
    const int own = t.spec.shape.size() - 2;
    for (int i = 0; i < own; ++i) flat = flat * t.spec.shape[i] + (t.spec.shape[i] == 1 ? 0 : index[batch - own + i]);
    return t[(flat * t.spec.shape[own] + row) * t.spec.shape[own + 1] + col];
  };
  each_index(c_spec.shape, [&](const Dims& index, int64_t i) {
    double sum = bias ? (*bias)[index[batch + 1]] : 0;
    for (int64_t j = 0; j < k; ++j) sum += at(a, index, index[batch], j) * at(b, index, j, index[batch + 1]);
    c[i] = c_spec.dtype == DType::kBool    ? sum != 0
           : c_spec.dtype == DType::kUInt8 ? double(uint8_t(int64_t(sum)))
                                           : sum;
  });
  return c;
}

void check(Spec a_spec, Spec b_spec, const Dims& c, double tolerance) {
  const DType t = a_spec.dtype;
  const bool whole = t != DType::kFloat32 && t != DType::kFloat64 && t != DType::kBFloat16 && t != DType::kFloat16;
  const int64_t modulus = whole ? 1 : 0;
  Tensor a = random_tensor(a_spec, 1, modulus), b = random_tensor(b_spec, 2, modulus);
  Tensor bias = random_tensor(make_spec({c.back()}, "", t), 3, modulus);
  if (t == DType::kBool || t == DType::kUInt8)
    for (Tensor* x : {&a, &b, &bias})
      for (double& v : x->v) v = std::abs(v);
  for (const char* c_how : {"", "gap"}) {
    const Spec c_spec = make_spec(c, c_how, t);
    expect_close(run("matmul", {a, b}, {c_spec})[0], reference(a, b, nullptr, c_spec), tolerance, "c");
    expect_close(run("matmul", {a, b, bias}, {c_spec})[0], reference(a, b, &bias, c_spec), tolerance, "c with bias");
  }
}

}  // namespace

void test_matmul() {
  struct Case {
    Dims a, b, c;
  };
  const Case cases[] = {
      {{3, 5}, {5, 7}, {3, 7}},
      {{1, 1}, {1, 1}, {1, 1}},
      {{70, 65}, {65, 90}, {70, 90}},
      {{33, 300}, {300, 40}, {33, 40}},
      {{2, 3, 4, 5}, {2, 3, 5, 6}, {2, 3, 4, 6}},
      {{3, 1, 41, 43}, {2, 43, 47}, {3, 2, 41, 47}},
      {{41, 43}, {4, 43, 47}, {4, 41, 47}},
      {{4, 1, 50}, {50, 60}, {4, 1, 60}},
      {{0, 5}, {5, 7}, {0, 7}},
      {{3, 0}, {0, 7}, {3, 7}},
      {{0, 3, 5}, {5, 7}, {0, 3, 7}},
  };
  for (const Case& c : cases) {
    context = "matmul " + c.a.str() + c.b.str();
    const Spec a = make_spec(c.a), b = make_spec(c.b);
    check(a, b, c.c, 1e-5);
    check(transposed(a), b, c.c, 1e-5);
    check(a, transposed(b), c.c, 1e-5);
    check(make_spec(c.a, "gap"), make_spec(c.b, "gap"), c.c, 1e-5);
    check(make_spec(c.a, "reversed"), make_spec(c.b, "reversed"), c.c, 1e-5);
    for (DType t : {DType::kFloat64, DType::kBFloat16, DType::kFloat16, DType::kInt32, DType::kInt64, DType::kInt16,
                    DType::kUInt8, DType::kBool}) {
      context = "matmul " + c.a.str() + c.b.str() + " " + dtype_name(t);
      const double tolerance = t == DType::kFloat64    ? 1e-13
                               : t == DType::kBFloat16 ? 1e-2
                               : t == DType::kFloat16  ? 2e-3
                                                       : 0;
      check(make_spec(c.a, "", t), transposed(make_spec(c.b, "", t)), c.c, tolerance);
    }
  }
  context = "matmul zero stride";  // a (1, 45, 46) seen as (5, 45, 46)
  Tensor a = random_tensor(make_spec({1, 45, 46}), 1), b = random_tensor(make_spec({5, 46, 44}), 2);
  const Spec c = make_spec({5, 45, 44});
  const Tensor want = reference(a, b, nullptr, c);
  a.spec.shape[0] = 5, a.spec.strides[0] = 0;
  a.v = [&] {
    std::vector<double> v;
    for (int i = 0; i < 5; ++i) v.insert(v.end(), a.v.begin(), a.v.end());
    return v;
  }();
  expect_close(run("matmul", {a, b}, {c})[0], want, 1e-5, "c");
}

}  // namespace minimx::test
