// Test bench for kernels: tensors as logical values in double, put into memory by an index rule of their own (not by
// the code under test), a kernel run on them, and the result taken out again. Used by test_dnnl.cc.
#pragma once
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/parallel.h"
#include "runtime/kernel.h"

namespace minimx::test {

inline int failures = 0;
inline std::string context;  // what the running check is about

inline void expect(bool ok, const std::string& what) {
  if (ok) return;
  ++failures;
  std::printf("FAILED %s: %s\n", context.c_str(), what.c_str());
}

/// A layout's letters and inner blocks, read independently of oneDNN.
struct Blocks {
  std::string outer;                           // axes, lower case, outermost first
  std::vector<std::pair<int64_t, int>> inner;  // (size, axis), outermost first
};

inline Blocks parse(const std::string& layout) {
  Blocks b;
  size_t i = 0;
  for (; i < layout.size() && !std::isdigit(layout[i]); ++i) b.outer += static_cast<char>(std::tolower(layout[i]));
  while (i < layout.size()) {
    int64_t n = 0;
    while (std::isdigit(layout[i])) n = 10 * n + (layout[i++] - '0');
    b.inner.push_back({n, layout[i++] - 'a'});
  }
  return b;
}

/// Offset in elements of the element at `index`, and with `extent` the number of elements in memory.
inline int64_t offset(const Spec& s, const Dims& index, int64_t* extent = nullptr) {
  int64_t at = 0;
  if (s.layout.empty()) {
    for (int i = 0; i < index.size(); ++i) at += index[i] * s.strides[i];
    return at;
  }
  const Blocks b = parse(s.layout);
  Dims rest = index, block = Dims::filled(index.size(), 1);
  int64_t stride = 1;
  for (auto it = b.inner.rbegin(); it != b.inner.rend(); ++it) {
    at += rest[it->second] % it->first * stride;
    rest[it->second] /= it->first;
    stride *= it->first;
    block[it->second] *= it->first;
  }
  for (auto it = b.outer.rbegin(); it != b.outer.rend(); ++it) {
    const int axis = *it - 'a';
    at += rest[axis] * stride;
    stride *= (s.shape[axis] + block[axis] - 1) / block[axis];
  }
  if (extent) *extent = stride;
  return at;
}

inline void each_index(const Dims& shape, const std::function<void(const Dims&, int64_t)>& f) {
  const int64_t n = shape.product();
  Dims index = Dims::filled(shape.size(), 0);
  for (int64_t i = 0; i < n; ++i) {
    f(index, i);
    for (int d = shape.size() - 1; d >= 0 && ++index[d] == shape[d]; --d) index[d] = 0;
  }
}

/// Logical values (C order) and the Spec they take in memory.
struct Tensor {
  Spec spec;
  std::vector<double> v;
  double& operator[](int64_t i) { return v[i]; }
  double operator[](int64_t i) const { return v[i]; }
};

/// Specs: "" plain, "last" channels-last, "gap" padded rows, "reversed" negative strides, otherwise a layout name.
inline Spec make_spec(const Dims& shape, const std::string& how = "", DType dtype = DType::kFloat32) {
  Spec s{dtype, shape, shape.contiguous_strides(), ""};
  if (how == "last" && shape.size() > 2) {
    int64_t stride = shape[1];
    s.strides[1] = 1;
    for (int d = shape.size() - 1; d >= 2; --d) s.strides[d] = stride, stride *= shape[d];
    s.strides[0] = stride;
  } else if (how == "gap") {
    Dims wider = shape;
    wider[shape.size() - 1] += 3;
    s.strides = wider.contiguous_strides();
  } else if (how == "reversed") {
    s.strides[0] = -s.strides[0];
  } else if (!how.empty() && how != "last") {
    s.layout = how;
    s.strides = Dims();
  }
  return s;
}

inline Tensor random_tensor(const Spec& spec, uint32_t seed = 1, int64_t modulus = 0) {
  std::mt19937 gen(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  Tensor t{spec, std::vector<double>(spec.size())};
  for (double& x : t.v) {
    x = modulus ? static_cast<double>(static_cast<int64_t>(gen() % (2 * modulus + 1)) - modulus) : uniform(gen);
    if (spec.dtype == DType::kBFloat16) x = BFloat16(static_cast<float>(x));
    if (spec.dtype == DType::kFloat16) x = static_cast<float>(static_cast<Half>(x));
    if (spec.dtype == DType::kFloat32) x = static_cast<float>(x);
  }
  return t;
}

/// Memory of a tensor. `origin` is where element 0 lies (not the start for negative strides).
struct Buffer {
  Spec spec;
  std::unique_ptr<char, decltype(&std::free)> memory{nullptr, std::free};
  char* origin = nullptr;

  explicit Buffer(const Spec& s) : spec(s) {
    int64_t low = 0, high = 0;
    if (s.size() > 0 && s.layout.empty()) {
      for (int i = 0; i < s.shape.size(); ++i) (s.strides[i] < 0 ? low : high) += s.strides[i] * (s.shape[i] - 1);
      ++high;
    } else if (s.size() > 0) {
      offset(s, Dims::filled(s.shape.size(), 0), &high);
    }
    const size_t bytes = ((high - low) * itemsize(s.dtype) + 127) / 64 * 64;
    memory.reset(static_cast<char*>(std::aligned_alloc(64, bytes)));
    // Zeros, not garbage, in a blocked layout's padding: that is what every writer of one has to leave there.
    std::memset(memory.get(), s.layout.empty() ? 0x7f : 0, bytes);
    origin = memory.get() - low * itemsize(s.dtype);
  }
  void put(const Tensor& t) {
    each_index(spec.shape, [&](const Dims& index, int64_t i) {
      dispatch(spec.dtype, [&](auto zero) {
        using T = decltype(zero);
        reinterpret_cast<T*>(origin)[offset(spec, index)] = static_cast<T>(static_cast<float>(t[i]));
        if constexpr (sizeof(T) >= 8) reinterpret_cast<T*>(origin)[offset(spec, index)] = static_cast<T>(t[i]);
      });
    });
  }
  Tensor get() const {
    Tensor t{spec, std::vector<double>(spec.size())};
    each_index(spec.shape, [&](const Dims& index, int64_t i) {
      dispatch(spec.dtype, [&](auto zero) {
        using T = decltype(zero);
        const T x = reinterpret_cast<const T*>(origin)[offset(spec, index)];
        if constexpr (sizeof(T) >= 4) {
          t[i] = static_cast<double>(x);
        } else {
          t[i] = static_cast<float>(x);
        }
      });
    });
    return t;
  }
};

/// Buffers of a kernel's operands, ready to run (also from several threads, with a workspace each).
struct Bench {
  KernelPtr kernel;
  std::vector<Buffer> buffers;
  std::vector<void*> data;
  size_t inputs;

  Bench(const std::string& name, const std::vector<Tensor>& ins, const std::vector<Spec>& outs, const Attrs& attrs)
      : inputs(ins.size()) {
    std::vector<Spec> specs;
    for (const Tensor& t : ins) {
      specs.push_back(t.spec);
      buffers.emplace_back(t.spec).put(t);
    }
    for (const Spec& s : outs) buffers.emplace_back(s);
    for (Buffer& b : buffers) data.push_back(b.origin);
    kernel = make_kernel(name, specs, outs, attrs);
  }
  void run() const {
    std::unique_ptr<void, decltype(&std::free)> workspace(
        std::aligned_alloc(64, (kernel->workspace_bytes() + 127) / 64 * 64), std::free);
    const engine::detail::TeamScope team(engine::num_threads());
    kernel->run(data.data(), workspace.get());
  }
  Tensor out(size_t i) const { return buffers[inputs + i].get(); }
};

inline std::vector<Tensor> run(const std::string& name, const std::vector<Tensor>& ins, const std::vector<Spec>& outs,
                               const Attrs& attrs = {}) {
  const Bench bench(name, ins, outs, attrs);
  bench.run();
  bench.run();  // a second run must not see the first
  std::vector<Tensor> results;
  for (size_t i = 0; i < outs.size(); ++i) results.push_back(bench.out(i));
  return results;
}

inline void expect_close(const Tensor& got, const Tensor& want, double tolerance, const std::string& what) {
  double worst = 0, scale = 1;
  for (double x : want.v) scale = std::max(scale, std::abs(x));
  for (size_t i = 0; i < want.v.size(); ++i) {
    const double difference = std::abs(got.v[i] - want.v[i]);
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
  }
  expect(worst <= tolerance * scale, what + " differs by " + std::to_string(worst) + " of " + std::to_string(scale));
}

}  // namespace minimx::test
