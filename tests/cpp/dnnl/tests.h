// The parts of the test of the library-backed CPU kernels; main is in test_dnnl.cc.
#pragma once
#include "dnnl/harness.h"

namespace minimx::test {

void test_conv();
void test_matmul();
void test_pool();
void test_batch_norm();
void test_reorder();
void test_threads();

}  // namespace minimx::test
