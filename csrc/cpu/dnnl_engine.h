// oneDNN in minimx's terms: the one CPU engine, a stream a thread, element types, errors and thread counts.
// Not here: layouts (dnnl_layout.h) and kernels (dnnl_kernel.h, then dnnl_conv.cc as the first user).
#pragma once
#include <omp.h>

#include <dnnl.hpp>
#include <string>

#include "common/dtype.h"
#include "common/error.h"
#include "engine/engine.h"

namespace minimx::onednn {

/// The CPU engine. Never destroyed: kernels may outlive static destructors.
inline const dnnl::engine& cpu_engine() {
  static const auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

/// This thread's stream. CPU streams of the OpenMP build run a primitive to completion inside execute.
inline dnnl_stream_t stream() {
  thread_local dnnl::stream stream(cpu_engine());
  return stream.get();
}

/// oneDNN's type of `t`; `undef` for the types oneDNN does not compute with (float64, the wide integers).
inline dnnl::memory::data_type data_type(DType t) {
  switch (t) {
    case DType::kFloat32:
      return dnnl::memory::data_type::f32;
    case DType::kBFloat16:
      return dnnl::memory::data_type::bf16;
    case DType::kFloat16:
      return dnnl::memory::data_type::f16;
    case DType::kUInt8:
      return dnnl::memory::data_type::u8;
    case DType::kInt8:
      return dnnl::memory::data_type::s8;
    case DType::kInt32:
      return dnnl::memory::data_type::s32;
    default:
      return dnnl::memory::data_type::undef;
  }
}

/// Attributes every primitive here is made with: scratchpad handed in by the caller, so that execution is re-entrant.
inline dnnl::primitive_attr default_attr() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

/// Sets this thread's OpenMP thread count for its lifetime. oneDNN sizes scratchpads by the count at creation, so a
/// primitive must run with the count it was created with.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()), changed_(threads != before_) {
    if (changed_) omp_set_num_threads(threads);
  }
  ~ThreadScope() {
    if (changed_) omp_set_num_threads(before_);
  }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
  bool changed_;
};

/// Threads for a kernel of `cost_ns` on one core: one where the engine would run it on its caller's thread.
inline int threads_for(double cost_ns) { return cost_ns < engine::inline_threshold_ns() ? 1 : engine::num_threads(); }

/// Runs `make`, turning oneDNN's exception into an Error that names the kernel.
template <class F>
auto wrapped(const char* where, F&& make) {
  try {
    return make();
  } catch (const dnnl::error& e) {
    const bool memory = e.status == dnnl_out_of_memory;
    const bool value = e.status == dnnl_invalid_arguments;
    throw Error(memory  ? ErrorKind::kMemory
                : value ? ErrorKind::kValue
                        : ErrorKind::kInternal,
                std::string(where) + ": expected operands oneDNN accepts, got its error '" + e.what() +
                    "'. Check shapes, strides and padding.");
  }
}

}  // namespace minimx::onednn
