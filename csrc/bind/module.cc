// The module minimx._core: puts the pieces together. The hot types are in ndarray.cc and function.cc.
#include <vector>

#include "bind/rules.h"
#include "bind/submodules.h"
#include "cpu/register.h"

namespace minimx::bind {
namespace {

/// What this thread has given up, the innermost last: while it waits it may run an operator (its lane was closed) that
/// takes the GIL and waits itself.
std::vector<PyThreadState*>& saved_thread_states() {
  thread_local std::vector<PyThreadState*> states;
  return states;
}

/// Called by the engine around anything that may block: other Python threads run meanwhile.
void before_blocking() { saved_thread_states().push_back(PyGILState_Check() ? PyEval_SaveThread() : nullptr); }
void after_blocking() {
  auto& states = saved_thread_states();
  if (states.empty()) return;
  PyThreadState* state = states.back();
  states.pop_back();
  if (state) or_stop([state] { PyEval_RestoreThread(state); });
}
/// Called now and then in between: a signal (Ctrl-C) may have come, whose handler runs here and may raise.
void while_blocking() {
  if (saved_thread_states().empty() || !saved_thread_states().back()) return;
  after_blocking();
  const std::exception_ptr raised =
      PyErr_CheckSignals() == 0 ? nullptr : std::make_exception_ptr(py::error_already_set());
  before_blocking();
  if (raised) std::rethrow_exception(raised);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ half of minimx: arrays, invoke, tape, traces, programs, engine.";
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error&) {
      set_python_error();
    } catch (const engine::Poisoned&) {
      set_python_error();
    }
  });
  engine::set_blocking_hooks(before_blocking, after_blocking, while_blocking);
  register_cpu_kernels();
  add_ndarray_type(m);
  add_function_type(m);
  add_composite_type(m);
  add_rules(m);
  add_arrays(m);
  add_numpy(m);
  add_dlpack(m);
  add_modes(m);
  add_autograd(m);
  add_trace(m);
  add_program(m);
  add_compiled(m);
  add_engine(m);
  add_bulk(m);
  add_profile(m);
}

}  // namespace minimx::bind
