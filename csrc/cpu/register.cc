#include "cpu/register.h"

namespace minimx {

void register_elemwise_kernels();
void register_cast_kernels();
void register_dnnl_kernels();

void register_cpu_kernels() {
  register_elemwise_kernels();
  register_cast_kernels();
  register_dnnl_kernels();
}

}  // namespace minimx
