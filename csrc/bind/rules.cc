// How the runtime asks the table: plans and gradient programs come from the rows, which are Python's, once per
// signature. Also here: the operator registry and interned attributes.
#include "bind/rules.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <unordered_map>

#include "bind/device_kernel.h"
#include "bind/host_kernel.h"
#include "bind/object.h"
#include "runtime/tape.h"
#include "runtime/trace.h"

namespace minimx::bind {

Hooks g_hooks;

namespace {

std::unordered_map<std::string, Ref<PyOp>>& registry() {
  static auto* map = new std::unordered_map<std::string, Ref<PyOp>>;
  return *map;
}

/// The type of a number of Python's that has none from its row.
DType dtype_of(const Scalar& x) {
  return x.kind == 'f' ? DType::kFloat64 : x.kind == 'i' ? DType::kInt64 : DType::kBool;
}

Spec spec_of(const Array& a) { return {a.dtype, a.shape, a.strides, ""}; }

/// Operands as the rules see them: table.Spec, or None.
py::list rule_specs(std::span<const Operand> ins) {
  py::list specs;
  for (const Operand& x : ins) {
    if (x.is_array())
      specs.append(rule_spec(x.array->shape, dtype_name(x.array->dtype), x.array->strides, false));
    else if (x.kind == Operand::Kind::kScalar)
      specs.append(rule_spec({}, dtype_name(dtype_of(x.scalar)), {}, true));
    else
      specs.append(py::none());
  }
  return specs;
}

KernelPtr ask_device_kernel(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs,
                            const Attrs& attrs, Device device) {
  KernelPtr kernel;
  with_gil([&] {
    py::object made = py::reinterpret_borrow<py::object>(g_hooks.device_kernel)(
        name, specs_to(ins), specs_to(outs), attrs_to(attrs), static_cast<int>(device.id));
    kernel = made.cast<PyKernelHandle&>().kernel;
  });
  return kernel;
}

Ref<Plan> ask_plan(Op& op, const AttrSet* attrs, std::span<const Operand> ins) {
  py::object row = py::reinterpret_borrow<py::object>(static_cast<PyObject*>(op.row));
  py::object answer = row.attr("plan")(rule_specs(ins), attributes_dict(attrs));
  auto plan = make_ref<Plan>();
  plan->op = &op;
  plan->attrs = Ref<const AttrSet>(attrs);
  for (py::handle o : answer.attr("outs")) {
    py::sequence pair = py::reinterpret_borrow<py::sequence>(o);
    plan->outs.push_back({dtype_code(pair[1]), dims_from(pair[0])});
  }
  py::sequence casts = answer.attr("casts");
  for (py::handle c : casts) {
    std::string name = c.cast<std::string>();
    plan->casts.push_back(name.empty() ? -1 : static_cast<int8_t>(dtype_code(c)));
  }
  plan->casts.resize(ins.size(), -1);
  for (size_t i = 0; i < ins.size(); ++i)  // a scalar without a type of its own is stored as float64, int64 or bool
    if (ins[i].kind == Operand::Kind::kScalar && plan->casts[i] < 0)
      plan->casts[i] = static_cast<int8_t>(dtype_of(ins[i].scalar));
  plan->contiguous = answer.attr("contiguous").cast<bool>();
  plan->random = answer.attr("random").cast<bool>();
  py::object view = answer.attr("view");
  if (!view.is_none()) {
    plan->is_view = true;
    plan->view_strides = dims_from(view.attr("__getitem__")(0));
    plan->view_offset = view.attr("__getitem__")(1).cast<int64_t>();
    return plan;
  }
  Device device = mode().device;
  for (const Operand& x : ins)
    if (x.is_array()) device = x.array->device();
  std::vector<Spec> in_specs, out_specs;
  for (size_t i = 0; i < ins.size(); ++i) {
    if (ins[i].kind == Operand::Kind::kScalar)
      in_specs.push_back({static_cast<DType>(plan->casts[i]), {}, {}, "", true});
    if (!ins[i].is_array()) continue;
    Spec s = spec_of(*ins[i].array);
    if (plan->casts[i] >= 0) s.dtype = static_cast<DType>(plan->casts[i]);
    if (plan->contiguous) s.strides = s.shape.contiguous_strides();
    in_specs.push_back(s);
  }
  for (const OutSpec& o : plan->outs) out_specs.push_back({o.dtype, o.shape, o.shape.contiguous_strides(), ""});
  std::string name = answer.attr("kernel").cast<std::string>();
  plan->host = name == "host";
  if (plan->host) {
    py::list present;
    for (const Operand& x : ins) present.append(py::bool_(x.kind != Operand::Kind::kNone));
    if (device.kind == Device::Kind::kGpu) {
      py::object call = py::reinterpret_borrow<py::object>(g_hooks.device_host_call)(
          row, attributes_dict(attrs), present, specs_to(in_specs), specs_to(out_specs), static_cast<int>(device.id));
      const size_t operands = in_specs.size() + out_specs.size();
      plan->set_kernel([=]() -> KernelPtr { return std::make_shared<CallbackKernel>(call, operands); });
      return plan;
    }
    py::object call = py::reinterpret_borrow<py::object>(g_hooks.host_call)(row, attributes_dict(attrs), present);
    plan->set_kernel([=]() -> KernelPtr { return std::make_shared<PyKernel>(call, in_specs, out_specs); });
    return plan;
  }
  plan->pointwise = name == "elemwise";
  Attrs kernel_attrs = attrs_from(answer.attr("attrs"));
  if (!name.empty()) plan->set_kernel([=] { return make_kernel_on(device, name, in_specs, out_specs, kernel_attrs); });
  return plan;
}

/// Which saved thing or step each value of a gradient trace is.
class ProgramBuilder {
 public:
  using Arg = GradProgram::Arg;
  std::unordered_map<int, Arg> known;

  Ref<GradProgram> build(const Trace& trace, const std::vector<Arg>& results_by_value,
                         const std::vector<int>& result_values) {
    auto program = make_ref<GradProgram>();
    for (const Trace::Capture& c : trace.captures) {
      known[c.input] = {Arg::Kind::kConstant, static_cast<int>(program->constants.size()), 0, {}};
      program->constants.push_back(c.array);
    }
    std::vector<bool> live(trace.values.size(), false);
    for (int v : result_values)
      if (v >= 0) live[v] = true;
    std::vector<bool> kept(trace.nodes.size(), false);
    for (size_t n = trace.nodes.size(); n-- > 0;) {
      for (int o : trace.nodes[n].outs) kept[n] = kept[n] || live[o];
      if (!kept[n]) continue;
      for (const auto& a : trace.nodes[n].args)
        if (a.kind == Trace::Arg::Kind::kValue) live[a.value] = true;
    }
    for (size_t n = 0; n < trace.nodes.size(); ++n) {
      if (!kept[n]) continue;
      const Trace::Node& node = trace.nodes[n];
      GradProgram::Step step{node.op, node.attrs, {}, static_cast<int>(node.outs.size())};
      for (const auto& a : node.args) step.args.push_back(argument(*program, a));
      for (size_t o = 0; o < node.outs.size(); ++o)
        known[node.outs[o]] = {Arg::Kind::kStep, static_cast<int>(program->steps.size()), static_cast<int>(o), {}};
      program->steps.push_back(std::move(step));
    }
    for (size_t i = 0; i < result_values.size(); ++i)
      program->results.push_back(result_values[i] < 0 ? results_by_value[i] : use(*program, result_values[i]));
    return program;
  }

 private:
  Arg use(GradProgram& program, int value) {
    Arg a = known.at(value);
    if (a.kind == Arg::Kind::kIn) program.saves_in |= uint64_t{1} << std::min(a.index, 63);
    if (a.kind == Arg::Kind::kOut) program.saves_out |= uint64_t{1} << a.index;
    return a;
  }
  Arg argument(GradProgram& program, const Trace::Arg& a) {
    if (a.kind == Trace::Arg::Kind::kNone) return {};
    if (a.kind == Trace::Arg::Kind::kScalar) return {Arg::Kind::kScalar, 0, 0, a.scalar};
    return use(program, a.value);
  }
};

Ref<GradProgram> ask_gradient(Plan& plan, std::span<const Operand> ins, uint64_t mask) {
  using Arg = GradProgram::Arg;
  auto trace = make_ref<Trace>();
  for (const Operand& x : ins)
    if (x.is_array()) trace->device = x.array->device();
  ProgramBuilder builder;
  auto input = [&](const Dims& shape, DType t, bool weak, Arg arg) {
    Array a = trace->input(shape, t, weak);
    builder.known[a.trace_value] = arg;
    return py::reinterpret_steal<py::object>(wrap(std::move(a)));
  };
  py::list gs, operands, outs, needs;
  for (size_t i = 0; i < ins.size(); ++i) {
    Arg arg{Arg::Kind::kIn, static_cast<int>(i), 0, {}};
    if (ins[i].is_array())
      operands.append(input(ins[i].array->shape, ins[i].array->dtype, false, arg));
    else if (ins[i].kind == Operand::Kind::kScalar)
      operands.append(input({}, dtype_of(ins[i].scalar), true, arg));
    else
      operands.append(py::none());
    needs.append(py::bool_(ins[i].is_array() && ins[i].array->edge && (mask >> std::min<size_t>(i, 63) & 1)));
  }
  for (size_t i = 0; i < plan.outs.size(); ++i) {
    outs.append(input(plan.outs[i].shape, plan.outs[i].dtype, false, {Arg::Kind::kOut, static_cast<int>(i), 0, {}}));
    gs.append(input(plan.outs[i].shape, plan.outs[i].dtype, false, {Arg::Kind::kGrad, static_cast<int>(i), 0, {}}));
  }
  py::sequence answer = [&] {
    TraceScope scope(trace.get());
    py::object row = py::reinterpret_borrow<py::object>(static_cast<PyObject*>(plan.op->row));
    return py::sequence(row.attr("backward")(gs, operands, outs, attributes_dict(plan.attrs.get()), needs));
  }();
  std::vector<Arg> constants(ins.size());
  std::vector<int> values(ins.size(), -1);
  for (size_t i = 0; i < ins.size() && i < answer.size(); ++i) {
    py::object g = answer[i];
    if (g.is_none() || !needs[i].cast<bool>()) continue;
    if (!is_ndarray(g.ptr()))
      throw Error(ErrorKind::kInternal,
                  plan.op->name + ": expected its gradient rule to give arrays, got another type.");
    values[i] = trace->value_of(array_of(g.ptr()));
    if (trace->values[values[i]].shape != ins[i].array->shape)
      throw Error(ErrorKind::kInternal, plan.op->name + ": expected a gradient of shape " + ins[i].array->shape.str() +
                                            " for operand " + std::to_string(i) + ", got " +
                                            trace->values[values[i]].shape.str() + " from its rule.");
  }
  return builder.build(*trace, constants, values);
}

/// The folder of minimx's own code, with a slash behind.
const std::string& own_folder() {
  static const auto* folder = new std::string([] {
    const auto file = py::module_::import("minimx.errors").attr("__file__").cast<std::string>();
    return file.substr(0, file.rfind('/') + 1);
  }());
  return *folder;
}

/// "file:line" of where a frame is. Kept by instruction, since loops ask for the same ones again and again.
profile::Text line_of(PyFrameObject* frame, PyCodeObject* code, const char* file) {
  const auto text = [&] {
    return std::make_shared<const std::string>(std::string(file) + ":" + std::to_string(PyFrame_GetLineNumber(frame)));
  };
#if PY_VERSION_HEX >= 0x030B0000
  struct Known {
    py::object code;  // so that no other gets its address
    int at = -1;
    profile::Text text;
  };
  static auto* all = new std::array<Known, 1024>;
  const int at = PyFrame_GetLasti(frame);
  // Code objects lie at regular distances from each other: all bits are mixed (SplitMix64, Steele 2014).
  uint64_t key = reinterpret_cast<uintptr_t>(code) + static_cast<unsigned>(at);
  key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9;
  key = (key ^ key >> 27) * 0x94D049BB133111EB;
  Known& known = (*all)[(key ^ key >> 31) % all->size()];
  if (known.at != at || known.code.ptr() != reinterpret_cast<PyObject*>(code))
    known = {py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(code)), at, text()};
  return known.text;
#else
  return text();
#endif
}

profile::Text user_site() {
  const std::string& own = own_folder();
  PyThreadState* state = PyThreadState_Get();
  PyFrameObject* frame = PyThreadState_GetFrame(state);
  while (frame) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    const char* file = PyUnicode_AsUTF8(code->co_filename);
    bool ours = file && std::strncmp(file, own.c_str(), own.size()) == 0;
    profile::Text site;
    if (!ours && file) site = line_of(frame, code, file);
    Py_DECREF(code);
    PyFrameObject* back = site ? nullptr : PyFrame_GetBack(frame);
    Py_DECREF(frame);
    if (site) return site;
    frame = back;
  }
  PyErr_Clear();
  return nullptr;
}

Ref<const AttrSet> cast_attributes(DType t) {
  static auto* made = new std::unordered_map<int, Ref<const AttrSet>>;
  Ref<const AttrSet>& a = (*made)[static_cast<int>(t)];
  if (!a) {
    py::dict named;
    named["dtype"] = dtype_name(t);
    a = Ref<const AttrSet>(attributes_from(op_named("cast"), named));
  }
  return a;
}

/// Is the attribute what the hook would make of it?
bool canonical(PyObject* v) {
  if (PyTuple_CheckExact(v)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(v); ++i)
      if (!canonical(PyTuple_GET_ITEM(v, i))) return false;
    return true;
  }
  return v == Py_None || v == Py_Ellipsis || PyBool_Check(v) || PyLong_CheckExact(v) || PyFloat_CheckExact(v) ||
         PyUnicode_CheckExact(v);
}

}  // namespace

TraceScope::TraceScope(Trace* trace) : saved_(mode()) {
  mode().trace = trace;
  mode().device = trace->device;
  mode().recording = true;
  mode().low = Mode::kOff;
}
TraceScope::~TraceScope() { mode() = saved_; }

PyAttrs::~PyAttrs() {
  if (Py_IsInitialized()) return;
  values.release();
  named.release();
}

py::dtype dtype_object(DType t) {
  return py::reinterpret_borrow<py::dtype>(PyTuple_GET_ITEM(g_hooks.dtypes, static_cast<int>(t)));
}

py::dict attributes_dict(const AttrSet* attrs) {
  return attrs ? static_cast<const PyAttrs*>(attrs)->named : py::dict();
}

PyOp& op_named(const std::string& name) {
  auto it = registry().find(name);
  if (it == registry().end())
    throw Error(ErrorKind::kInternal, "operator: expected a row of the table, got '" + name + "'.");
  return *it->second;
}

const AttrSet* intern_attributes(PyOp& op, PyObject* const* values) {
  if (op.n_attributes == 0) return nullptr;
  py::tuple key(op.n_attributes);
  for (int i = 0; i < op.n_attributes; ++i) {
    PyObject* v = values[i];
    if (canonical(v)) {
      key[i] = py::reinterpret_borrow<py::object>(v);
    } else {
      PyObject* c = PyObject_CallOneArg(g_hooks.canonical, v);
      if (!c) throw py::error_already_set();
      key[i] = py::reinterpret_steal<py::object>(c);
    }
  }
  PyObject* found = PyDict_GetItemWithError(op.interned.ptr(), key.ptr());
  if (found) return static_cast<const AttrSet*>(PyCapsule_GetPointer(found, nullptr));
  if (PyErr_Occurred()) throw py::error_already_set();
  auto* made = new PyAttrs;
  made->retain();  // the table of interned attributes owns it for good
  made->values = key;
  int i = 0;
  for (const Parameter& p : op.parameters) {
    if (p.is_operand) continue;
    made->named[py::handle(p.name)] = key[i];
    made->text += (i ? ", " : "") + std::string(PyUnicode_AsUTF8(p.name)) + "=" + py::repr(key[i]).cast<std::string>();
    ++i;
  }
  op.interned[key] = py::capsule(static_cast<const AttrSet*>(made));
  return made;
}

const AttrSet* attributes_from(PyOp& op, const py::dict& named) {
  std::vector<PyObject*> values;
  for (const Parameter& p : op.parameters) {
    if (p.is_operand) continue;
    PyObject* v = PyDict_GetItem(named.ptr(), p.name);
    values.push_back(v ? v : p.fallback ? p.fallback : Py_None);
  }
  return intern_attributes(op, values.data());
}

void set_python_error() noexcept {
  auto raise = [](const char* cls, const std::string& message) {
    PyObject* type = g_hooks.errors ? PyObject_GetAttrString(g_hooks.errors, cls) : nullptr;
    PyErr_SetString(type ? type : PyExc_RuntimeError, message.c_str());
    Py_XDECREF(type);
  };
  try {
    throw;
  } catch (const py::error_already_set& e) {  // not restore(): a failure may be read more than once
    PyErr_Restore(Py_NewRef(e.type().ptr()), Py_XNewRef(e.value().ptr()), Py_XNewRef(e.trace().ptr()));
  } catch (const engine::Poisoned& p) {
    raise_failure(*p.failure);
  } catch (const Error& e) {
    raise(error_class(e.kind()), e.what());
  } catch (const std::bad_alloc&) {
    raise("OutOfMemory", "expected free memory, got none. Free arrays or use a smaller batch.");
  } catch (const std::exception& e) {
    raise("EngineError", e.what());
  }
}

void raise_failure(const engine::Failure& failure) {
  try {
    std::rethrow_exception(failure.error);
  } catch (...) {
    set_python_error();
  }
  std::string note = "raised by operator '" + failure.op + "'" + (failure.site ? ", pushed at " + *failure.site : "");
  if (!failure.whole.empty()) note += ", in '" + failure.whole + "'";
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (PyObject* r = PyObject_CallMethod(g_hooks.errors, "annotate", "Os", value, note.c_str()))
    Py_DECREF(r);
  else
    PyErr_Clear();
  PyErr_Restore(type, value, trace);
}

static Precision precision_named(py::handle name) {
  std::string text = name.cast<std::string>();
  if (text.empty()) return Precision::kAsIs;
  if (text == "low") return Precision::kLow;
  if (text == "float32") return Precision::kFloat32;
  throw Error(ErrorKind::kValue, "amp: expected '', 'low' or 'float32', got '" + text + "'. Fix the row.");
}

static int g_precision_changes = 0;
int precision_key() { return g_precision_changes << 8 | (low_type() & 0xff); }

void add_rules(py::module_& m) {
  set_rules({ask_plan, ask_gradient, ask_device_kernel, user_site});
  m.def("register_op", [](py::object row) {
    std::string name = row.attr("name").cast<std::string>();
    auto op = make_ref<PyOp>(name);
    op->row = row.release().ptr();
    py::object empty = py::module_::import("inspect").attr("Parameter").attr("empty");
    for (py::handle p : py::handle(static_cast<PyObject*>(op->row)).attr("params")) {
      PyObject* text = p.attr("name").ptr();
      Py_INCREF(text);
      PyUnicode_InternInPlace(&text);
      py::object fallback = p.attr("default");
      bool operand = p.attr("is_operand").cast<bool>();
      op->parameters.push_back(
          {text, fallback.is(empty) ? nullptr : fallback.release().ptr(), operand, p.attr("arrays").cast<bool>()});
      op->n_attributes += !operand;
    }
    registry()[name] = op;
    op->precision = precision_named(py::handle(static_cast<PyObject*>(op->row)).attr("row").attr("amp"));
    if (name == "cast") core_ops().cast = op;
    if (name == "copy") core_ops().copy = op;
    if (name == "add") core_ops().add = op;
  });
  core_ops().cast_attrs = cast_attributes;
  auto type_code = [](py::handle name) { return name.is_none() ? Mode::kOff : static_cast<int8_t>(dtype_code(name)); };
  auto type_name = [](int8_t low) -> py::object {
    return low == Mode::kOff ? py::object(py::none()) : py::str(dtype_name(static_cast<DType>(low)));
  };
  m.def("set_precision", [](const std::string& op, py::handle name) {
    op_named(op).precision = precision_named(name);
    ++g_precision_changes;
  });
  m.def("precision_key", precision_key,
        "What a traced graph depends on: this thread's low type, and how often set_precision was called.");
  m.def("set_low_type", [=](py::handle name) { set_low_type(type_code(name)); });
  m.def("low_type", [=] { return type_name(low_type()); });
  m.def(
      "swap_low_type",
      [=](py::object state) -> py::object {
        const int8_t before = mode().low;
        mode().low = py::isinstance<py::int_>(state) ? state.cast<int8_t>() : type_code(state);
        return before == Mode::kInherited ? py::object(py::int_(before)) : type_name(before);
      },
      "Sets mixed precision of this thread: a type, None for off, or what an earlier call returned; returns what was.");
  m.def("set_hooks", [](const py::dict& h) {
    auto take = [&](const char* name) { return py::object(h[name]).release().ptr(); };
    g_hooks = {take("asarray"),   take("index_get"),     take("index_set"),       take("repr"),
               take("dtypes"),    take("canonical"),     take("device"),          take("errors"),
               take("host_call"), take("device_kernel"), take("device_host_call")};
  });
}

}  // namespace minimx::bind
