// The module minimx._core: puts the pieces together. The hot types are in ndarray.cc and function.cc.
#include "bind/rules.h"
#include "bind/submodules.h"
#include "cpu/register.h"

namespace minimx::bind {
namespace {

PyThreadState*& saved_thread_state() {
  thread_local PyThreadState* state = nullptr;
  return state;
}

/// Called by the engine around anything that may block: other Python threads run meanwhile.
void before_blocking() {
  if (PyGILState_Check()) saved_thread_state() = PyEval_SaveThread();
}
void after_blocking() {
  if (PyThreadState* state = std::exchange(saved_thread_state(), nullptr)) PyEval_RestoreThread(state);
}
/// Called now and then in between: a signal (Ctrl-C) may have come, whose handler runs here and may raise.
void while_blocking() {
  if (!saved_thread_state()) return;
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
  add_rules(m);
  add_arrays(m);
  add_autograd(m);
  add_trace(m);
  add_program(m);
  add_engine(m);
}

}  // namespace minimx::bind
