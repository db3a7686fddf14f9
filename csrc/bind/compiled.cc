// A hybridized block's call, once its signature is compiled: runs the forward program and puts one node on the tape,
// whose gradient is the backward program. Tracing, compiling, and the gradient of a gradient are
// minimx/graph/cached.py.
#include <pybind11/stl.h>

#include <algorithm>
#include <map>

#include "bind/program.h"
#include "bind/submodules.h"
#include "runtime/tape.h"

namespace minimx::bind {
namespace {

/// call_key(arrays): what tells calls apart that need graphs of their own, as bytes; None where something is no array.
/// Types, shapes and devices, modes, which arrays are on the tape, and what kernels and traces depend on besides.
PyObject* call_key(PyObject*, PyObject* xs) {
  return guard(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
    static std::vector<int64_t> words;  // under Python's lock
    const Mode& m = mode();
    words.assign({engine::num_threads(), precision_key(), m.training << 1 | int{m.recording}});
    PyObject* const* items = PySequence_Fast_ITEMS(xs);
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(xs); ++i) {
      if (!is_ndarray(items[i])) Py_RETURN_NONE;
      const Array& a = array_of(items[i]);
      const Device d = a.device();
      const int64_t types = static_cast<int64_t>(a.dtype) << 8 | static_cast<int64_t>(d.kind);
      words.push_back((types << 8 | d.id) << 16 | a.shape.size() << 8 | int{m.recording && a.edge});
      words.insert(words.end(), a.shape.begin(), a.shape.end());
    }
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(words.data()), words.size() * sizeof(int64_t));
  });
}

/// What all calls of one signature share. It knows nothing of the Entry (cached.py) that owns it, which calls bring
/// along.
struct Shared : RefCounted {
  std::string name;
  py::object forward, prepared;  // Program; and what gives the arrays that were prepared of captures, or None
  std::vector<Array> captures;
  size_t outputs = 0;
  bool static_alloc = false, static_shape = false;
  bool differs = false;                     // has a gradient, of which:
  std::vector<size_t> kept, wanted, heads;  // inputs that backward reads, inputs it is for, output gradients it reads
  py::object backward[2];                   // its program, by whether saved arrays are used up, once it is known

  ~Shared() override {
    if (!Py_IsInitialized())
      for (py::object* o : {&forward, &prepared, &backward[0], &backward[1]}) o->release();
    else
      with_gil([this] { forward = prepared = backward[0] = backward[1] = py::object(); });
  }

  std::vector<Array> run(py::handle program, std::vector<Array> ins, size_t alone) const {
    return program.cast<PyProgram&>().run_on(std::move(ins), static_alloc, static_shape, alone);
  }
};

/// The gradient of one call.
class CompiledGradient : public Backward {
 public:
  CompiledGradient(Ref<Shared> shared, py::object entry, std::vector<Array> args, std::vector<Array> saved,
                   RandomState stream)
      : shared_(std::move(shared)),
        entry_(std::move(entry)),
        args_(std::move(args)),
        saved_(std::move(saved)),
        stream_(stream) {
    for (size_t i : shared_->kept) versions_.push_back(input(i).storage->version());
  }

  const Array& input(size_t i) const { return i < args_.size() ? args_[i] : shared_->captures[i - args_.size()]; }

  void run(const TapeNode& node, Gradients& gs, Gradients& out) const override {
    check_kept();
    if (used_)  // an error came between, or the tape would have said so
      throw Error(ErrorKind::kAutograd,
                  "backward: expected saved arrays that are still there, got used up ones. Run forward again.");
    for (size_t i = 0; i < gs.size(); ++i)
      if (!gs[i]) gs[i] = filled(node.out_specs[i].shape, node.out_specs[i].dtype, node.device, 0);
    if (mode().recording) return run_recorded(gs, out);
    const std::vector<Leaf*> targets = mode().writes ? targets_of(node) : std::vector<Leaf*>();
    used_ = mode().frees;
    const py::object program = program_for(targets);
    std::vector<Array> given;
    given.reserve(shared_->kept.size() + saved_.size() + shared_->heads.size() + targets.size());
    for (size_t i : shared_->kept) given.push_back(input(i));
    for (Array& a : saved_) given.push_back(used_ ? std::move(a) : a);
    for (size_t i : shared_->heads) given.push_back(*gs[i]);
    for (Leaf* leaf : targets)
      if (leaf) given.push_back(leaf->grad);
    std::vector<Array> made = shared_->run(program, std::move(given), 0);
    out.resize(shared_->wanted.size());
    for (size_t k = 0, next = 0; k < out.size(); ++k) {
      if (!targets.empty() && targets[k])
        targets[k]->fresh = true;
      else
        out[k] = std::move(made[next++]);
    }
  }

 private:
  void check_kept() const {
    for (size_t k = 0; k < versions_.size(); ++k) {
      const Array& x = input(shared_->kept[k]);
      if (x.storage->version() != versions_[k])
        throw Error(ErrorKind::kAutograd, "backward: expected the arrays that " + shared_->name +
                                              " read as they were, got one of shape " + x.shape.str() +
                                              " written to in place since. Write to a copy instead.");
    }
  }

  /// On the tape itself: the graph as it was traced, operator by operator.
  void run_recorded(const Gradients& gs, Gradients& out) const {
    py::list ins, heads;
    for (size_t i = 0; i < args_.size() + shared_->captures.size(); ++i) ins.append(take(input(i)));
    for (const auto& g : gs) heads.append(take(*g));
    const auto stream = std::make_pair(stream_.seed, stream_.call);
    for (py::handle g : py::list(entry_.get().attr("recorded_gradient")(ins, heads, stream)))
      out.emplace_back(array_of(g.ptr()));
  }

  /// Of each input that a gradient is for, the variable whose gradient may be added to in place, or null: it asks for
  /// that, and nothing else that is written here lies in the same memory. Empty if there is none.
  std::vector<Leaf*> targets_of(const TapeNode& node) const {
    const auto adds = [](const GradEdge& e) { return e.leaf && e.leaf->req == GradReq::kAdd && e.leaf->grad.storage; };
    if (std::ranges::none_of(node.edges, adds)) return {};
    std::map<const Storage*, int> users;
    for (const GradEdge& e : node.edges)
      if (e.leaf) ++users[e.leaf->grad.storage.get()];
    std::vector<Leaf*> out;
    for (size_t k = 0; k < node.edges.size(); ++k) {
      const GradEdge& e = node.edges[k];
      const Array& x = input(shared_->wanted[k]);
      const bool fits = adds(e) && !e.leaf->written && e.leaf->grad.contiguous() &&
                        !e.leaf->grad.storage->read_only() && e.leaf->grad.device() == node.device &&
                        users[e.leaf->grad.storage.get()] == 1 && e.leaf->grad.shape == x.shape &&
                        e.leaf->grad.dtype == x.dtype;
      out.push_back(fits ? e.leaf.get() : nullptr);
    }
    return out;
  }

  py::object program_for(const std::vector<Leaf*>& targets) const {
    const bool last = mode().frees;
    py::list places;
    for (size_t k = 0; k < targets.size(); ++k)
      if (targets[k]) places.append(k);
    if (!places.empty()) return entry_.get().attr("backward_into")(last, py::tuple(places));
    py::object& known = shared_->backward[last];
    if (!known) known = entry_.get().attr("backward_into")(last, py::tuple());
    return known;
  }

  Ref<Shared> shared_;
  OwnedObject entry_;
  std::vector<Array> args_;
  mutable std::vector<Array> saved_;
  std::vector<uint32_t> versions_;
  RandomState stream_;  // where the random numbers of the forward run began
  mutable bool used_ = false;
};

class CompiledCall {
 public:
  CompiledCall(std::string name, py::object forward, const py::sequence& captures, py::object prepared, size_t outputs,
               bool static_alloc, bool static_shape) {
    shared_->name = std::move(name);
    shared_->forward = std::move(forward);
    shared_->prepared = std::move(prepared);
    for (py::handle x : captures) shared_->captures.push_back(concrete(x, "program"));
    shared_->outputs = outputs;
    shared_->static_alloc = static_alloc, shared_->static_shape = static_shape;
  }

  void set_gradient(std::vector<size_t> kept, std::vector<size_t> wanted, std::vector<size_t> heads) {
    shared_->differs = true;
    shared_->kept = std::move(kept), shared_->wanted = std::move(wanted), shared_->heads = std::move(heads);
  }

  /// `entry` is asked for backward programs when they are first wanted.
  py::list run(py::object entry, const py::sequence& args) const {
    std::vector<Array> ins, own;
    ins.reserve(args.size() + shared_->captures.size());
    for (PyObject* x : items_of(args.ptr())) ins.push_back(concrete(x, "program"));
    if (shared_->differs) own = ins;
    ins.insert(ins.end(), shared_->captures.begin(), shared_->captures.end());
    if (!shared_->prepared.is_none())
      for (py::handle x : py::list(shared_->prepared())) ins.push_back(concrete(x, "program"));
    const RandomState stream = random_state();
    std::vector<Array> made = shared_->run(shared_->forward, std::move(ins), shared_->outputs);
    const std::span<Array> outs(made.data(), shared_->outputs);
    if (shared_->differs) {
      std::vector<Array> saved(std::make_move_iterator(made.begin() + shared_->outputs),
                               std::make_move_iterator(made.end()));
      auto gradient = make_ref<CompiledGradient>(shared_, std::move(entry), std::move(own), std::move(saved), stream);
      std::vector<GradEdge> edges;
      edges.reserve(shared_->wanted.size());
      for (size_t i : shared_->wanted) edges.push_back(gradient->input(i).edge);
      record_node(shared_->name, gradient, std::move(edges), outs);
    }
    py::list out(outs.size());
    for (size_t i = 0; i < outs.size(); ++i) out[i] = take(std::move(outs[i]));
    return out;
  }

 private:
  Ref<Shared> shared_ = make_ref<Shared>();
};

PyMethodDef g_functions[] = {
    {"call_key", call_key, METH_O,
     "call_key(arrays)\n--\n\nBytes that tell calls apart which need graphs of their own; None with other objects."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void add_compiled(py::module_& m) {
  if (PyModule_AddFunctions(m.ptr(), g_functions) < 0) throw py::error_already_set();
  py::class_<CompiledCall>(m, "CompiledCall")
      .def(py::init<std::string, py::object, const py::sequence&, py::object, size_t, bool, bool>(), py::arg("name"),
           py::arg("forward"), py::arg("captures"), py::arg("prepared"), py::arg("outputs"), py::arg("static_alloc"),
           py::arg("static_shape"))
      .def("set_gradient", &CompiledCall::set_gradient, py::arg("kept"), py::arg("wanted"), py::arg("heads"))
      .def("run", &CompiledCall::run, py::arg("entry"), py::arg("args"));
}

}  // namespace minimx::bind
