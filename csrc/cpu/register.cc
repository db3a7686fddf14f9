#include "cpu/register.h"

namespace minimx {

void register_elemwise_kernels();
void register_cast_kernels();
void register_reduce_kernels();
void register_argreduce_kernels();
void register_scan_kernels();
void register_dnnl_kernels();
void register_paste_kernels();
void register_fill_kernels();
void register_gather_kernels();
void register_put_kernels();
void register_adaptors();
void register_softmax_kernels();
void register_row_norm_kernels();
void register_multi_kernels();
void register_random_kernels();
void register_sort_kernels();
void register_plain_kernels();
void register_channel_sums_kernels();

void register_cpu_kernels() {
  register_elemwise_kernels();
  register_cast_kernels();
  register_reduce_kernels();
  register_argreduce_kernels();
  register_scan_kernels();
  register_dnnl_kernels();
  register_paste_kernels();
  register_fill_kernels();
  register_gather_kernels();
  register_put_kernels();
  register_adaptors();
  register_softmax_kernels();
  register_row_norm_kernels();
  register_multi_kernels();
  register_random_kernels();
  register_sort_kernels();
  register_plain_kernels();
  register_channel_sums_kernels();
}

}  // namespace minimx
