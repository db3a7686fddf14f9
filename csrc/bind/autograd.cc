// The tape for Python: modes, leaves, the walk back, and nodes whose gradient is a Python function.
#include <pybind11/stl.h>

#include <algorithm>
#include <map>

#include "bind/rules.h"
#include "bind/submodules.h"
#include "runtime/invoke.h"
#include "runtime/repeats.h"
#include "runtime/tape.h"
#include "runtime/trace.h"

namespace minimx::bind {
namespace {

py::object take(Array a) { return py::reinterpret_steal<py::object>(wrap(std::move(a))); }

std::vector<Array> arrays_from(const py::sequence& xs, const char* what) {
  std::vector<Array> out;
  for (py::handle x : xs) {
    if (!is_ndarray(x.ptr()))
      throw Error(ErrorKind::kType, std::string(what) + ": expected ndarrays, got " + Py_TYPE(x.ptr())->tp_name +
                                        ". Convert with np.array.");
    out.push_back(array_of(x.ptr()));
  }
  return out;
}

std::vector<std::optional<Array>> optional_arrays(const py::sequence& xs, const char* what) {
  std::vector<std::optional<Array>> out;
  for (py::handle x : xs) {
    if (x.is_none())
      out.emplace_back();
    else
      out.emplace_back(arrays_from(py::make_tuple(x), what)[0]);
  }
  return out;
}

py::list list_of(std::vector<std::optional<Array>> xs) {
  py::list out;
  for (auto& x : xs) out.append(x ? take(std::move(*x)) : py::object(py::none()));
  return out;
}

/// True in a backward pass whose gradients go to the variables, begin with ones, and are not recorded.
thread_local bool t_writes = false;

/// A gradient that is a Python function: f(output gradients) -> gradients of the inputs. If it `adds`, it is called
/// with (output gradients, targets): of each input an array that it may add to itself, returning None, or None.
class PyBackward : public Backward {
 public:
  PyBackward(py::object f, bool adds) : f_(std::move(f)), adds_(adds) {}
  ~PyBackward() override {
    if (!Py_IsInitialized()) {
      f_.release();
      return;
    }
    with_gil([&] { f_ = py::object(); });
  }
  std::vector<std::optional<Array>> run(const TapeNode& node, std::span<const std::optional<Array>> gs) const override {
    const py::list heads = list_of({gs.begin(), gs.end()});
    const std::vector<Leaf*> targets = adds_ && t_writes ? targets_of(node) : std::vector<Leaf*>();
    py::list into;
    for (Leaf* leaf : targets) into.append(leaf ? take(leaf->grad.detached()) : py::object(py::none()));
    py::sequence answer = adds_ ? f_(heads, into) : f_(heads);
    auto out = optional_arrays(answer, node.name.c_str());
    if (out.size() != node.edges.size())
      throw Error(ErrorKind::kAutograd, node.name + ": expected backward to give " + std::to_string(node.edges.size()) +
                                            " gradients, got " + std::to_string(out.size()) +
                                            ". Return one per input (None for none).");
    for (size_t i = 0; i < targets.size(); ++i)
      if (targets[i] && !out[i]) targets[i]->fresh = true;
    return out;
  }

 private:
  /// Of each operand the variable whose gradient may be added to in place: it asks for that, and nothing else that is
  /// written here lies in the same memory. Empty if there is none.
  static std::vector<Leaf*> targets_of(const TapeNode& node) {
    const auto adds = [](const GradEdge& e) { return e.leaf && e.leaf->req == GradReq::kAdd && e.leaf->grad.storage; };
    if (std::ranges::none_of(node.edges, adds)) return {};
    std::map<const Storage*, int> users;
    for (const GradEdge& e : node.edges)
      if (e.leaf) ++users[e.leaf->grad.storage.get()];
    std::vector<Leaf*> out;
    for (const GradEdge& e : node.edges) {
      const bool fits = adds(e) && !e.leaf->written && e.leaf->grad.contiguous() &&
                        !e.leaf->grad.storage->read_only() && e.leaf->grad.device() == node.device &&
                        users[e.leaf->grad.storage.get()] == 1;
      out.push_back(fits ? e.leaf.get() : nullptr);
    }
    return out;
  }

  py::object f_;
  bool adds_;
};

bool swap_flag(bool Mode::* flag, bool value) { return std::exchange(mode().*flag, value); }

}  // namespace

void add_autograd(py::module_& m) {
  m.def("set_recording", [](bool v) {
    if (v && !mode().recording) Repeats::boundary();
    return swap_flag(&Mode::recording, v);
  });
  m.def("set_training", [](bool v) { return swap_flag(&Mode::training, v); });
  m.def("is_recording", [] { return mode().recording; });
  m.def("is_training", [] { return mode().training; });
  m.def(
      "backward_frees", [] { return mode().frees; },
      "Inside a gradient: whether the backward pass frees what is saved for it, so that nobody reads that again.");
  m.def("attach_grad", [](py::handle x, int req, py::handle grad) {
    Array g = grad.is_none() ? Array{} : arrays_from(py::make_tuple(grad), "attach_grad")[0];
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
        if (to.storage->use_count() == 1 && to.offset == 0 && to.contiguous())
          to.storage = g.storage;
        else
          copy_into(g, to);
        to.storage->bump_version();
      },
      "Makes an array of the same shape and type, which the caller lets go of, a variable's gradient.");
  m.def(
      "fresh_grads",
      [](const py::sequence& xs) {
        py::list out;
        for (py::handle x : xs) {
          const Ref<Leaf>& leaf = array_of(x.ptr()).edge.leaf;
          out.append(leaf && leaf->fresh);
        }
        return out;
      },
      "Of each variable, whether a backward pass wrote its gradient since it was used.");
  m.def("mark_grads_used", [](const py::sequence& xs) {
    for (py::handle x : xs)
      if (const Ref<Leaf>& leaf = array_of(x.ptr()).edge.leaf) leaf->fresh = false;
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
  m.def("backward", [](const py::sequence& heads, const py::sequence& head_grads, const py::sequence& wrt, bool retain,
                       bool create) {
    const auto given = optional_arrays(head_grads, "backward");
    const bool lone = std::ranges::none_of(given, [](const auto& g) { return g.has_value(); });  // might be a target
    struct Restore {
      bool before;
      ~Restore() { t_writes = before; }
    } restore{std::exchange(t_writes, wrt.empty() && !create && lone)};
    return list_of(backward(arrays_from(heads, "backward"), given, arrays_from(wrt, "grad"), retain, create));
  });
  m.def(
      "record_python",
      [](const std::string& name, py::object f, const py::sequence& ins, const py::sequence& outs, bool adds) {
        std::vector<Array> arrays = arrays_from(outs, name.c_str());
        record_node(name, make_ref<PyBackward>(std::move(f), adds), arrays_from(ins, name.c_str()), arrays);
        for (size_t i = 0; i < arrays.size(); ++i) array_of(outs[i].ptr()) = arrays[i];
      },
      "Puts `outs` on the tape with f(output gradients) -> input gradients. adds: f(output gradients, targets), where "
      "targets is empty or has for each input None, or an array that f may add its gradient to and give None.",
      py::arg("name"), py::arg("f"), py::arg("ins"), py::arg("outs"), py::arg("adds") = false);
}

}  // namespace minimx::bind
