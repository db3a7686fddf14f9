// PyProgram: a Program as minimx/graph/lower.py builds it and Python runs it. What runs in it is runtime/program.h; a
// hybridized block's calls of it are in compiled.cc.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bind/device_kernel.h"
#include "bind/rules.h"
#include "runtime/program.h"

namespace minimx::bind {

struct PyProgram {
  Ref<Program> program = make_ref<Program>();
  const char* name;  // interned: runs may outlive this object
  Arena arena;

  PyProgram(std::string called, const py::sequence& ins, const std::vector<bool>& written, const py::sequence& outs,
            size_t arena_bytes, int gpu);
  int add_constant(const py::bytes& data, bool host);
  using SlotText = std::tuple<std::string, int, size_t>;
  void add_step(const PyKernelHandle& kernel, const std::vector<SlotText>& slots, const std::string& step_name,
                bool random, const std::optional<SlotText>& workspace, const std::string& members,
                const std::string& site, size_t outs);
  std::vector<double> time_steps(const py::sequence& ins, int repeats);
  /// See Program::run; static_alloc: the arena is kept from run to run.
  std::vector<Array> run_on(std::vector<Array> ins, bool static_alloc, bool static_shape, size_t alone);
  py::list run(const py::sequence& ins, bool static_alloc, bool static_shape, size_t alone);
};

}  // namespace minimx::bind
