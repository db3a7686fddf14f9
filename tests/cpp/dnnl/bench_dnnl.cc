// Times of the library-backed CPU kernels: ResNet-50's distinct convolutions (batch 8, each once) by layout, batch norm
// in GB/s, matmul's cost a call. Arguments: conv, norm, matmul, pool (all without any). Threads: OMP_NUM_THREADS.
// Times are the least of several runs; only ratios within one run mean much on a shared machine.
#include <chrono>
#include <set>

#include "cpu/batch_norm.h"
#include "cpu/dnnl_kernel.h"
#include "cpu/dnnl_pool.h"
#include "dnnl/harness.h"

namespace minimx {
void register_cast_kernels();
}

namespace minimx::test {
namespace {

/// Least time of a run in microseconds over about `budget` seconds.
double least_us(const std::function<void()>& f, double budget = 0.15) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](auto d) { return std::chrono::duration<double>(d).count(); };
  double best = 1e30;
  const auto start = Clock::now();
  for (int round = 0; round < 3 || seconds(Clock::now() - start) < budget; ++round) {
    int n = best < 1e-4 ? 1000 : 1;
    const auto t = Clock::now();
    for (int i = 0; i < n; ++i) f();
    best = std::min(best, seconds(Clock::now() - t) / n);
  }
  return best * 1e6;
}

/// A kernel on zeroed operands with a workspace kept between runs.
struct Timed {
  KernelPtr kernel;
  std::vector<std::unique_ptr<char, decltype(&std::free)>> memory;
  std::vector<void*> data;
  void* workspace;

  Timed(const std::string& name, const std::vector<Spec>& ins, const std::vector<Spec>& outs, const Attrs& attrs)
      : kernel(make_kernel(name, ins, outs, attrs)) {
    for (const auto* list : {&ins, &outs})
      for (const Spec& s : *list) data.push_back(allocate(layout_bytes(s)));
    workspace = allocate(kernel->workspace_bytes());
  }
  void* allocate(size_t bytes) {
    memory.emplace_back(static_cast<char*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64)), std::free);
    for (size_t i = 0; i < bytes / 4; ++i) reinterpret_cast<float*>(memory.back().get())[i] = 1 + 0.001f * (i % 997);
    return memory.back().get();
  }
  double us(double budget = 0.15) const {
    const engine::detail::TeamScope team(engine::num_threads());
    return least_us([&] { kernel->run(data.data(), workspace); }, budget);
  }
};

struct Conv {
  int64_t in, out, k, stride, size;
  auto operator<=>(const Conv&) const = default;
};

/// ResNet-50 v1.5 at 224 x 224; `size` is the input's.
std::vector<Conv> resnet50() {
  std::vector<Conv> list{{3, 64, 7, 2, 224}};
  std::set<Conv> seen;
  const auto add = [&](Conv c) {
    if (seen.insert(c).second) list.push_back(c);
  };
  int64_t in = 64, size = 56;
  for (int stage = 0; stage < 4; ++stage) {
    const int64_t mid = 64 << stage, blocks[] = {3, 4, 6, 3};
    for (int64_t b = 0; b < blocks[stage]; ++b) {
      const int64_t stride = b == 0 && stage > 0 ? 2 : 1;
      add({in, mid, 1, 1, size});
      add({mid, mid, 3, stride, size});
      if (b == 0) add({in, 4 * mid, 1, stride, size});
      size /= stride;
      add({mid, 4 * mid, 1, 1, size});
      in = 4 * mid;
    }
  }
  return list;
}

void bench_conv() {
  std::printf("%-28s %s\n", "convolution b8, ms",
              "   nchw: fwd  data  wgt     nhwc: fwd  data  wgt  blocked: fwd  data  wgt");
  double total[3][3] = {};
  for (const Conv& c : resnet50()) {
    const int64_t o = (c.size + 2 * (c.k / 2) - c.k) / c.stride + 1;
    const Dims xs{8, c.in, c.size, c.size}, ws{c.out, c.in, c.k, c.k}, ys{8, c.out, o, o};
    Attrs attrs;
    attrs.values = {{"stride", std::vector<int64_t>{c.stride, c.stride}},
                    {"pad", std::vector<int64_t>{c.k / 2, c.k / 2}},
                    {"dilate", std::vector<int64_t>{1, 1}},
                    {"groups", int64_t{1}}};
    std::printf("%4ld -> %4ld %ldx%ld/%ld @%-4ld    ", c.in, c.out, c.k, c.k, c.stride, c.size);
    for (int way = 0; way < 3; ++way) {
      const std::string how = way == 1 ? "last" : "";
      Spec x = make_spec(xs, how), w = make_spec(ws), y = make_spec(ys, how);
      const Spec fwd[] = {x, w}, data[] = {y, w}, weights[] = {x, y};
      double ms[3] = {};
      const auto pick = [&](ConvLayouts l) {
        if (way == 2) x = make_spec(xs, l.src), w = make_spec(ws, l.weights), y = make_spec(ys, l.dst);
      };
      pick(conv_layouts(fwd, {&y, 1}, attrs, "fwd"));
      ms[0] = Timed("conv_fwd", {x, w}, {y}, attrs).us() / 1e3;
      if (c.in != 3) {
        pick(conv_layouts(data, {&x, 1}, attrs, "bwd_data"));
        ms[1] = Timed("conv_bwd_data", {y, w}, {x}, attrs).us() / 1e3;
      }
      pick(conv_layouts(weights, {&w, 1}, attrs, "bwd_weights"));
      ms[2] = Timed("conv_bwd_weights", {x, y}, {w}, attrs).us() / 1e3;
      std::printf("%10.2f %5.2f %5.2f  ", ms[0], ms[1], ms[2]);
      for (int i = 0; i < 3; ++i) total[way][i] += ms[i];
      if (way == 2) std::printf("%s/%s/%s", x.layout.c_str(), w.layout.c_str(), y.layout.c_str());
    }
    std::printf("\n");
  }
  std::printf("%-28s", "sum");
  for (auto& t : total) std::printf("%10.2f %5.2f %5.2f  ", t[0], t[1], t[2]);
  std::printf("\nforward, backward:");
  for (auto& t : total) std::printf("   %.1f, %.1f", t[0], t[1] + t[2]);
  std::printf("\n");
}

void bench_norm() {
  std::printf("batch norm b8, ms (GB/s of the passes it is billed for)\n");
  for (const Dims& shape : {Dims{8, 64, 112, 112}, Dims{8, 256, 56, 56}, Dims{8, 512, 28, 28}, Dims{8, 2048, 7, 7}})
    for (const char* how : {"", "last", "aBcd16b"})
      for (const bool fused : {false, true}) {
        const Spec x = make_spec(shape, how), c = make_spec({shape[1]});
        Attrs attrs;
        attrs.values = {{"eps", 1e-5}, {"relu", int64_t{fused}}};
        std::vector<Spec> in{x, c, c}, out{x, c, c}, back_in{x, x, c, c, c}, back_out{x, c, c};
        if (fused) {
          const Spec mask = make_spec({static_cast<int64_t>(batch_norm_mask_bytes(x))}, "", DType::kUInt8);
          in.push_back(x), out.push_back(mask), back_in.push_back(mask), back_out.push_back(x);
        }
        const double forward = Timed("batch_norm_fwd_train", in, out, attrs).us(0.3);
        const double backward = Timed("batch_norm_bwd", back_in, back_out, attrs).us(0.3);
        const double bytes = 4.0 * shape.product();
        std::printf("%-20s %-8s %-14s fwd %6.2f (%5.1f)  bwd %6.2f (%5.1f)\n", shape.str().c_str(), how,
                    fused ? "relu+residual" : "", forward / 1e3, (fused ? 4 : 3) * bytes / forward / 1e3,
                    backward / 1e3, (fused ? 6 : 5) * bytes / backward / 1e3);
      }
}

void bench_matmul() {
  std::printf("matmul, us a call\n");
  const Dims sizes[] = {{1, 1, 1},       {10, 10, 10},    {16, 16, 16},    {32, 32, 32},
                        {32, 64, 64},    {64, 64, 64},    {80, 80, 80},    {100, 100, 100},
                        {128, 128, 128}, {512, 512, 512}, {8, 2048, 1000}, {32, 784, 128}};
  for (const Dims& s : sizes) {
    std::printf("%-18s", s.str().c_str());
    for (const bool transposed : {false, true}) {
      Spec a = make_spec({s[0], s[1]}), b = make_spec({s[1], s[2]}), c = make_spec({s[0], s[2]});
      if (transposed) b.strides = Dims{1, s[1]};
      std::printf("  %s %8.2f", transposed ? "b.T" : "   ", Timed("matmul", {a, b}, {c}, {}).us());
      for (Spec* spec : {&a, &b, &c}) spec->dtype = DType::kFloat64;
      std::printf("  float64 %8.2f", Timed("matmul", {a, b}, {c}, {}).us());
    }
    std::printf("\n");
  }
}

void bench_pool() {
  Attrs attrs;
  attrs.values = {{"kind", std::string("max")},
                  {"kernel", std::vector<int64_t>{3, 3}},
                  {"stride", std::vector<int64_t>{2, 2}},
                  {"pad", std::vector<int64_t>{1, 1}}};
  for (const char* how : {"", "last", "aBcd16b"}) {
    const Spec x = make_spec({8, 64, 112, 112}, how), y = make_spec({8, 64, 56, 56}, how);
    const Spec index = make_spec({8, 64, 56, 56}, how, DType::kUInt8);
    std::printf("max pool 3x3/2 %-8s fwd %.2f ms, bwd %.2f ms\n", how,
                Timed("pool_fwd", {x}, {y, index}, attrs).us() / 1e3,
                Timed("pool_bwd", {y, index}, {x}, attrs).us() / 1e3);
  }
}

}  // namespace
}  // namespace minimx::test

int main(int argc, char** argv) {
  using namespace minimx;
  register_cast_kernels();
  register_dnnl_kernels();
  const std::set<std::string> wanted(argv + 1, argv + argc);
  const auto want = [&](const char* name) { return wanted.empty() || wanted.count(name); };
  if (want("conv")) test::bench_conv();
  if (want("norm")) test::bench_norm();
  if (want("matmul")) test::bench_matmul();
  if (want("pool")) test::bench_pool();
}
