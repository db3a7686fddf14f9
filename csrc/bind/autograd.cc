// The tape for Python: modes, leaves, the walk back, and nodes whose gradient is a Python function.
#include <pybind11/stl.h>

#include <algorithm>

#include "bind/rules.h"
#include "bind/submodules.h"
#include "runtime/invoke.h"
#include "runtime/tape.h"
#include "runtime/trace.h"

namespace minimx::bind {
namespace {

const Array& array_in(PyObject* x, const char* what) {
  if (!is_ndarray(x))
    throw Error(ErrorKind::kArgument,
                std::string(what) + ": expected ndarrays, got " + Py_TYPE(x)->tp_name + ". Convert with np.array.");
  return array_of(x);
}

std::vector<Array> arrays_from(std::span<PyObject* const> xs, const char* what) {
  std::vector<Array> out;
  out.reserve(xs.size());
  for (PyObject* x : xs) out.push_back(array_in(x, what));
  return out;
}

Gradients optional_arrays(std::span<PyObject* const> xs, const char* what) {
  Gradients out;
  out.reserve(xs.size());
  for (PyObject* x : xs) {
    auto& a = out.emplace_back();
    if (x != Py_None) a = array_in(x, what);
  }
  return out;
}

py::list list_of(Gradients xs) {
  py::list out;
  for (auto& x : xs) out.append(x ? take(std::move(*x)) : py::object(py::none()));
  return out;
}

/// A gradient that is a Python function: f(output gradients) -> gradients of the inputs.
class PyBackward : public Backward {
 public:
  explicit PyBackward(py::object f) : f_(std::move(f)) {}
  void run(const TapeNode& node, Gradients& gs, Gradients& out) const override {
    const py::list answer(f_.get()(list_of(gs)));
    out = optional_arrays(items_of(answer.ptr()), node.name.c_str());
    if (out.size() != node.edges.size())
      throw Error(ErrorKind::kAutograd, node.name + ": expected backward to give " + std::to_string(node.edges.size()) +
                                            " gradients, got " + std::to_string(out.size()) +
                                            ". Return one per input (None for none).");
  }

 private:
  OwnedObject f_;
};

/// backward(heads, head gradients, variables, retain, create, train mode): the walk back, in that mode. Each of the
/// first three is an array or a list; None for the gradients is ones. Returns the gradients of the variables.
PyObject* walk_back(PyObject*, PyObject* const* args, Py_ssize_t n) {
  return guard(static_cast<PyObject*>(nullptr), [&] {
    if (n != 6) throw Error(ErrorKind::kArgument, "backward: expected 6 arguments, got " + std::to_string(n) + ".");
    const int retain = PyObject_IsTrue(args[3]), create = PyObject_IsTrue(args[4]), train = PyObject_IsTrue(args[5]);
    if (retain < 0 || create < 0 || train < 0) throw py::error_already_set();
    struct Restore {
      bool before;
      ~Restore() { mode().training = before; }
    } restore{std::exchange(mode().training, train != 0)};
    const Gradients given = args[1] == Py_None ? Gradients() : optional_arrays(items_of(args[1]), "backward");
    const std::vector<Array> wrt = arrays_from(items_of(args[2]), "grad");
    return list_of(backward(arrays_from(items_of(args[0]), "backward"), given, wrt, retain, create)).release().ptr();
  });
}

PyMethodDef g_functions[] = {
    {"backward", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(walk_back)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_autograd(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), g_functions) < 0) throw py::error_already_set();
  m.def("attach_grad", [](py::handle x, int req, py::handle grad) {
    Array g = grad.is_none() ? Array{} : array_in(grad.ptr(), "attach_grad");
    attach_grad(concrete(x, "attach_grad"), static_cast<GradReq>(req), g);
  });
  m.def("grad_req", [](py::handle x) {
    const Array& a = array_of(x.ptr());
    return a.edge.leaf ? static_cast<int>(a.edge.leaf->req) : 0;
  });
  m.def(
      "set_grad_hook",
      [](py::handle x, py::object f) {
        const Array& a = concrete(x, "set_grad_hook");
        if (!a.edge.leaf) return;
        a.edge.leaf->written = nullptr;
        if (f.is_none()) return;
        auto kept = std::shared_ptr<py::object>(new py::object(std::move(f)), [](py::object* p) {
          if (Py_IsInitialized()) with_gil([&] { delete p; });
        });
        a.edge.leaf->written = [kept] { (*kept)(); };
      },
      "A variable's gradient is written as soon as it is final, and f() called then. None: no more.");
  m.def(
      "has_grad_hook",
      [](py::handle x) {
        const Array& a = array_of(x.ptr());
        return a.edge.leaf && a.edge.leaf->written;
      },
      "Whether set_grad_hook was called since attach_grad.");
  m.def(
      "move_grad",
      [](py::handle x, py::handle from) {
        const Array& g = concrete(from, "move_grad");
        Array& to = array_of(x.ptr()).edge.leaf->grad;
        if (to.storage->holders() == 1 && to.offset == 0 && to.contiguous())
          to.storage = g.storage;
        else
          copy_into(g, to);
        to.storage->bump_version();
      },
      "Makes an array of the same shape and type, which the caller lets go of, a variable's gradient.");
  m.def(
      "grads",
      [](const py::sequence& xs) {
        py::list out(xs.size());
        size_t i = 0;
        for (PyObject* x : items_of(xs.ptr())) out[i++] = take(concrete(x, "grads").edge.leaf->grad);
        return out;
      },
      "The gradients of variables.");
  m.def(
      "fresh_grads",
      [](const py::sequence& xs) -> py::object {
        std::vector<bool> fresh;
        for (PyObject* x : items_of(xs.ptr())) {
          const Ref<Leaf>& leaf = array_of(x).edge.leaf;
          fresh.push_back(leaf && leaf->fresh);
        }
        const bool all = std::ranges::find(fresh, false) == fresh.end();
        return all ? py::object(py::none()) : py::cast(fresh);
      },
      "Of each variable, whether a backward pass wrote its gradient since it was used; None where it did of all.");
  m.def("mark_grads_used", [](const py::sequence& xs) {
    for (PyObject* x : items_of(xs.ptr()))
      if (const Ref<Leaf>& leaf = array_of(x).edge.leaf) leaf->fresh = false;
  });
  m.def(
      "wrote_through",
      [](py::handle x, py::handle view) {
        Array& a = array_of(x.ptr());
        const Array& v = array_of(view.ptr());
        if (mode().trace) return mode().trace->wrote_through(a, v);
        bool latest = v.storage && v.storage == a.storage && v.edge.version == a.storage->version();
        if (latest && a.edge.node && a.edge.version + 1 == a.storage->version()) a.edge.version = a.storage->version();
      },
      "Tells tape or trace that the one write since x was recorded went through `view`, which x takes as its new "
      "part.");
  m.def("on_tape", [](py::handle x) { return static_cast<bool>(array_of(x.ptr()).edge); });
  m.def("detach", [](py::handle x) { return take(array_of(x.ptr()).detached()); });
  m.def(
      "record_python",
      [](const std::string& name, py::object f, const py::list& ins, const py::list& outs) {
        std::vector<Array> arrays = arrays_from(items_of(outs.ptr()), name.c_str());
        std::vector<GradEdge> edges;
        for (PyObject* x : items_of(ins.ptr())) edges.push_back(array_in(x, name.c_str()).edge);
        record_node(name, make_ref<PyBackward>(std::move(f)), std::move(edges), arrays);
        for (size_t i = 0; i < arrays.size(); ++i) array_of(outs[i].ptr()) = arrays[i];
      },
      "Puts `outs` on the tape with f(output gradients) -> input gradients.", py::arg("name"), py::arg("f"),
      py::arg("ins"), py::arg("outs"));
}

}  // namespace minimx::bind
