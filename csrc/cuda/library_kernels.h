// Convolutions by cuDNN and matrix products by cuBLASLt: the two factories of a GPU that are not CUDA text made by
// minimx/rtc/cuda. Operands, attributes and results are those of csrc/cpu/dnnl_conv.cc and dnnl_matmul.cc. What the
// libraries do not take (an integer type, a stride of 0) is put before, after or in place of them by other kernels of
// the device, which are asked for by name.
#pragma once
#include <functional>
#include <span>
#include <string>

#include "runtime/backend.h"

namespace minimx::cuda {

/// Makes a kernel of a device by its factory's name. Asked for: "cast", "reduce" (sum), "elemwise" (add, relu,
/// gelu_tanh), "fill", "paste", "channel_sums", "matmul_plain" and "conv_fwd_plain", "conv_bwd_data_plain",
/// "conv_bwd_weights_plain".
using KernelMaker = std::function<KernelPtr(const std::string& name, std::span<const Spec> ins,
                                            std::span<const Spec> outs, const Attrs& attrs, int device)>;

/// Called once, before the first kernel is made.
void set_kernel_maker(KernelMaker make);

/// How results may differ from run to run, machine to machine, and from IEEE arithmetic. Of the process; a kernel keeps
/// what was set when it was made.
struct LibrarySettings {
  bool allow_tf32 = false;    // float32 products may be computed from 10-bit mantissas
  bool deterministic = true;  // only algorithms that give the same bits every time, where there is one
  bool autotune = false;      // time the candidates, and remember the fastest in cache_folder
  std::string cache_folder;   // of text files; empty: remember nothing
};
void set_library_settings(const LibrarySettings& settings);
LibrarySettings library_settings();

/// conv_fwd(x, w[, b][, z]) -> y, with "relu" and "residual"; conv_bwd_data(dy, w) -> dx; conv_bwd_weights(x, dy) ->
/// dw[, db]; conv_fwd_stats(x, w) -> y, sum, squares. Throws Error(kDevice) without cuDNN.
KernelPtr make_conv(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs,
                    int device);

/// True where cuDNN has an engine for conv_fwd_stats, and where that costs less than a pass over y for the sums:
/// with autotune as timed, else by the bytes. Takes seconds at times; the engine is then remembered for make_conv.
bool conv_statistics_pay(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device);

/// True where one engine of cuDNN takes in all that a conv_fwd adds to its convolution, and with autotune where that is
/// quicker than a pass for the residual and the ReLU, as timed. As above in all else.
bool conv_fuses(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device);

/// matmul(a, b[, bias]) -> c[, sums], with "act"; matmul(a, b, z) -> c[, sums] with "adds". As above, with cuBLASLt.
KernelPtr make_matmul(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device);

/// Nanoseconds that are gained where cuBLASLt does all of that in one call, over the product and passes for the rest:
/// by the bytes that these move, with autotune less what the call takes longer than the product alone, as timed or as
/// remembered. Minus infinity where it has no such call.
double matmul_gain(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device);

}  // namespace minimx::cuda
