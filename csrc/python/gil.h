// The interpreter's lock in threads that may outlive the interpreter: the engine's workers, Python's daemon threads.
#pragma once
#include <pybind11/pybind11.h>
#include <unistd.h>

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

namespace minimx::python {

/// Calls f, in which this thread may ask for the GIL. While the interpreter finalizes, Python before 3.14 answers that
/// with pthread_exit, whose unwinding would run destructors of Python objects without the GIL. The thread stops here
/// instead, as in 3.14, until the process ends.
template <class F>
decltype(auto) or_stop(F&& f) {
#ifdef __GLIBCXX__
  try {
    return f();
  } catch (const abi::__forced_unwind&) {
    for (;;) pause();
  }
#else
  return f();
#endif
}

/// Calls f with the GIL.
template <class F>
void with_gil(F&& f) {
  or_stop([&] {
    const pybind11::gil_scoped_acquire gil;
    or_stop(f);  // stops above the destructor of `gil`
  });
}

/// Gives up the GIL while it lives. pybind11's own would end the process where the interpreter finalizes meanwhile, as
/// its destructor may not unwind.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    or_stop([this] { PyEval_RestoreThread(state_); });
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

/// A Python object owned by something that any thread may destroy, or the end of the process.
class OwnedObject {
 public:
  explicit OwnedObject(pybind11::object object) : object_(std::move(object)) {}
  ~OwnedObject() {
    if (!Py_IsInitialized())
      object_.release();
    else
      with_gil([this] { object_ = pybind11::object(); });
  }
  const pybind11::object& get() const { return object_; }

 private:
  pybind11::object object_;
};

}  // namespace minimx::python
