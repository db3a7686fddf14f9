// Recording and train mode of a thread, as Python asks for and sets them, and the scopes of mx.autograd. C functions
// and a C type, for they stand around every step of a training loop. What the modes mean is in runtime/invoke.h.
#include <vector>

#include "bind/object.h"
#include "bind/submodules.h"
#include "runtime/repeats.h"

namespace minimx::bind {
namespace {

constexpr int8_t kAsIs = -1;

PyObject* swap_flag(bool Mode::* flag, PyObject* value) {
  const int wanted = PyObject_IsTrue(value);
  return wanted < 0 ? nullptr : PyBool_FromLong(std::exchange(mode().*flag, wanted != 0));
}
/// What a training loop records begins anew; not where pause() ends.
void begin_recording() {
  if (!mode().recording) Repeats::boundary();
}

PyObject* set_recording(PyObject*, PyObject* v) {
  if (v == Py_True) begin_recording();
  return swap_flag(&Mode::recording, v);
}
PyObject* set_training(PyObject*, PyObject* v) { return swap_flag(&Mode::training, v); }
PyObject* is_recording(PyObject*, PyObject*) { return PyBool_FromLong(mode().recording); }
PyObject* is_training(PyObject*, PyObject*) { return PyBool_FromLong(mode().training); }
PyObject* is_tracing(PyObject*, PyObject*) { return PyBool_FromLong(mode().trace != nullptr); }

/// The two flags; kAsIs: not to be changed.
struct Flags {
  int8_t recording = kAsIs, training = kAsIs;

  /// Sets those that are given; returns what they were.
  Flags swap() const {
    Mode& m = mode();
    Flags before;
    if (recording != kAsIs) before.recording = std::exchange(m.recording, recording != 0);
    if (training != kAsIs) before.training = std::exchange(m.training, training != 0);
    return before;
  }
};

/// May be entered again while it is entered.
struct Scope {
  PyObject_HEAD Flags wanted;
  Flags before;  // of the outermost entry
  int depth;
  std::vector<Flags>* inner;  // of the entries within it; null until there are any
};

PyObject* enter(PyObject* self, PyObject*) {
  auto* s = reinterpret_cast<Scope*>(self);
  return guard(static_cast<PyObject*>(nullptr), [&] {
    if (s->depth && !s->inner) s->inner = new std::vector<Flags>;
    if (s->depth) s->inner->reserve(s->depth);
    if (s->wanted.recording == 1) begin_recording();
    const Flags before = s->wanted.swap();
    if (s->depth++)
      s->inner->push_back(before);
    else
      s->before = before;
    return Py_NewRef(Py_None);
  });
}

PyObject* leave(PyObject* self, PyObject* const*, Py_ssize_t) {
  auto* s = reinterpret_cast<Scope*>(self);
  if (!s->depth) {
    PyErr_SetString(PyExc_IndexError, "autograd: expected a scope that was entered, got one that was not.");
    return nullptr;
  }
  if (--s->depth) {
    s->inner->back().swap();
    s->inner->pop_back();
  } else {
    s->before.swap();
  }
  Py_RETURN_NONE;
}

void dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<Scope*>(self)->inner;
  type->tp_free(self);
  Py_DECREF(type);
}

PyMethodDef g_methods[] = {{"__enter__", enter, METH_NOARGS, "__enter__($self, /)\n--\n\nSets the modes."},
                           {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(leave)),
                            METH_FASTCALL, "__exit__($self, /, *exception)\n--\n\nSets them back."},
                           {nullptr, nullptr, 0, nullptr}};
PyType_Slot g_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(dealloc)}, {Py_tp_methods, g_methods}, {0, nullptr}};
PyType_Spec g_spec = {"minimx.autograd.Scope", sizeof(Scope), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                      g_slots};
PyTypeObject* g_scope_type = nullptr;

bool flag_from(PyObject* x, int8_t& flag) {
  const int value = x == Py_None ? kAsIs : PyObject_IsTrue(x);
  flag = static_cast<int8_t>(value);
  return x == Py_None || value >= 0;
}

PyObject* scope(PyObject*, PyObject* const* args, Py_ssize_t n) {
  Flags wanted;
  if (n != 2) return PyErr_Format(PyExc_TypeError, "scope: expected 2 arguments, got %zd.", n);
  if (!flag_from(args[0], wanted.recording) || !flag_from(args[1], wanted.training)) return nullptr;
  PyObject* made = g_scope_type->tp_alloc(g_scope_type, 0);  // zeros
  if (made) reinterpret_cast<Scope*>(made)->wanted = wanted;
  return made;
}

PyMethodDef g_functions[] = {
    {"set_recording", set_recording, METH_O, "set_recording(value)\n--\n\nReturns what it was."},
    {"set_training", set_training, METH_O, "set_training(value)\n--\n\nReturns what it was."},
    {"is_recording", is_recording, METH_NOARGS, "is_recording()\n--\n\nWhether operators go on this thread's tape."},
    {"is_training", is_training, METH_NOARGS, "is_training()\n--\n\nWhether this thread is in train mode."},
    {"is_tracing", is_tracing, METH_NOARGS, "is_tracing()\n--\n\nWhether this thread traces a graph."},
    {"scope", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(scope)), METH_FASTCALL,
     "scope(recording, training)\n--\n\nA with block that sets recording and train mode (None: as it is)."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_modes(py::module_& m) {
  g_scope_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&g_spec));
  if (!g_scope_type || PyModule_AddFunctions(m.ptr(), g_functions) < 0) throw py::error_already_set();
}

}  // namespace minimx::bind
