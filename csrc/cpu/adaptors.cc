// Factories that show operands to another kernel in another way: only Specs change, the memory stays as it is.
//
//   channels_last     operands of 3 or more axes are (N, *spatial, C); "kernel_name" sees them as (N, C, *spatial)
//   matmul_any        matmul with a vector as "a" (a row) or "b" (a column)
//   linear(x, w[, b]) -> y     x (rows..., in) w (out, in)^T + b: matmul(x, w^T, b), rows in one axis; its "act"
#include <vector>

#include "runtime/kernel.h"

namespace minimx {
namespace {

Dims channels_first(const Dims& d) {
  Dims out{d[0], d.back()};
  for (int i = 1; i < d.size() - 1; ++i) out.push_back(d[i]);
  return out;
}

std::vector<Spec> channels_first(std::span<const Spec> specs) {
  std::vector<Spec> out(specs.begin(), specs.end());
  for (Spec& s : out) {
    if (s.shape.size() < 3) continue;
    s.shape = channels_first(s.shape);
    s.strides = channels_first(s.strides);
  }
  return out;
}

KernelPtr channels_last(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  return make_kernel(attrs.text("kernel_name"), channels_first(ins), channels_first(outs), attrs);
}

/// `spec` with an axis of extent 1 inserted at `axis`.
Spec with_axis(const Spec& spec, int axis) {
  Spec out = spec;
  out.shape = out.strides = {};
  for (int i = 0; i <= spec.shape.size(); ++i) {
    if (i == axis) {
      out.shape.push_back(1);
      out.strides.push_back(0);
    }
    if (i == spec.shape.size()) break;
    out.shape.push_back(spec.shape[i]);
    out.strides.push_back(spec.strides[i]);
  }
  return out;
}

KernelPtr matmul_any(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  Spec a = ins[0], b = ins[1], c = outs[0];
  if (attrs.integer("b")) {
    b = with_axis(b, 1);
    c = with_axis(c, c.shape.size());
    c.strides[c.shape.size() - 1] = 1;
  }
  if (attrs.integer("a")) {
    a = with_axis(a, 0);
    c = with_axis(c, c.shape.size() - 1);
    c.strides[c.shape.size() - 2] = c.shape.back();
  }
  const Spec operands[] = {a, b};
  return make_kernel("matmul", operands, {&c, 1}, {});
}

Spec as_rows(const Spec& spec, int64_t columns) {
  Spec out = spec;
  const int64_t rows = columns ? spec.size() / columns : 0;
  out.shape = {rows, columns};
  if (spec.shape.size() != 2) out.strides = out.shape.contiguous_strides();
  return out;
}

KernelPtr linear(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs) {
  const int64_t features = ins[1].shape[1];
  Spec w = ins[1];
  std::swap(w.shape[0], w.shape[1]);
  std::swap(w.strides[0], w.strides[1]);
  std::vector<Spec> operands{as_rows(ins[0], features), w};
  const Spec y = as_rows(outs[0], w.shape[1]);
  operands[0].shape[0] = y.shape[0];
  if (ins.size() > 2) operands.push_back(ins[2]);
  return make_kernel("matmul", operands, {&y, 1}, attrs);
}

}  // namespace

void register_adaptors() {
  register_kernel("channels_last", channels_last);
  register_kernel("matmul_any", matmul_any);
  register_kernel("linear", linear);
}

}  // namespace minimx
