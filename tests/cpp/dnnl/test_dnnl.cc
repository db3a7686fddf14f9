// Runs all tests of the library-backed CPU kernels with one and with two threads. Exit status 1 if any failed.
#include <thread>

#include "cpu/dnnl_kernel.h"
#include "dnnl/tests.h"
#include "engine/engine.h"

namespace minimx::test {

/// One Kernel run from two threads at once, each with operands and a workspace of its own.
void test_threads() {
  Attrs attrs;
  attrs.values = {{"stride", std::vector<int64_t>{1, 1}},
                  {"pad", std::vector<int64_t>{1, 1}},
                  {"dilate", std::vector<int64_t>{1, 1}},
                  {"groups", int64_t{1}},
                  {"eps", 1e-5},
                  {"relu", int64_t{0}}};
  const Spec x = make_spec({4, 16, 20, 20}), w = make_spec({16, 16, 3, 3}), c = make_spec({16});
  struct Item {
    const char* name;
    std::vector<Spec> ins, outs;
  };
  const Item items[] = {{"conv_fwd", {x, w}, {x}},
                        {"batch_norm_fwd_train", {x, c, c}, {x, c, c}},
                        {"matmul", {make_spec({90, 90}), make_spec({90, 90})}, {make_spec({90, 90})}}};
  for (const Item& item : items) {
    context = std::string("two threads in one ") + item.name;
    std::vector<std::unique_ptr<Bench>> benches;
    std::vector<Tensor> want;
    for (uint32_t t = 0; t < 2; ++t) {
      std::vector<Tensor> ins;
      for (const Spec& s : item.ins) ins.push_back(random_tensor(s, 10 * t + ins.size() + 1));
      benches.push_back(std::make_unique<Bench>(item.name, ins, item.outs, attrs));
      benches[t]->kernel = benches[0]->kernel;
      benches[t]->run();
      want.push_back(benches[t]->out(0));
    }
    std::vector<std::thread> threads;
    for (auto& bench : benches)
      threads.emplace_back([&bench] {
        for (int i = 0; i < 50; ++i) bench->run();
      });
    for (auto& t : threads) t.join();
    for (int t = 0; t < 2; ++t) expect_close(benches[t]->out(0), want[t], 0, "output");
  }
}

}  // namespace minimx::test

namespace minimx {
void register_cast_kernels();
}

int main() {
  using namespace minimx;
  using namespace minimx::test;
  register_cast_kernels();
  register_dnnl_kernels();
  engine::set_inline_threshold_ns(0);  // so that small kernels too split their work
  for (int threads : {1, 2}) {
    engine::set_num_threads(threads);
    test_conv();
    test_matmul();
    test_pool();
    test_batch_norm();
    test_reorder();
    test_threads();
  }
  std::printf(failures ? "%d checks failed\n" : "all passed\n", failures);
  return failures != 0;
}
