// Programs and kernels for minimx/graph and minimx/rtc.
#include "bind/program.h"

#include <pybind11/stl.h>

#include <map>
#include <set>

#include "bind/device_kernel.h"
#include "bind/host_kernel.h"
#include "bind/rules.h"
#include "bind/submodules.h"
#include "cpu/batch_norm.h"
#include "cpu/layout.h"
#include "runtime/fused.h"

namespace minimx::bind {
namespace {

std::vector<Array> arrays_from(const py::sequence& xs) {
  std::vector<Array> out;
  out.reserve(xs.size());
  for (PyObject* x : items_of(xs.ptr())) out.push_back(concrete(x, "program"));
  return out;
}

std::vector<OutSpec> types_from(const py::sequence& xs) {
  std::vector<OutSpec> out;
  for (py::handle x : xs) {
    Spec s = spec_from(x);
    out.push_back({s.dtype, s.shape});
  }
  return out;
}

/// pairs: (kernel, operand indices).
Members members_from(int operands, const py::sequence& pairs, const std::vector<size_t>& temporaries,
                     const std::vector<py::bytes>& constants) {
  std::vector<Members::Member> members;
  for (py::handle h : pairs) {
    py::sequence pair = py::reinterpret_borrow<py::sequence>(h);
    members.push_back({pair[0].cast<PyKernelHandle&>().kernel, pair[1].cast<std::vector<int>>()});
  }
  std::vector<Members::Constant> elements;
  for (std::string_view bytes : constants) {
    Members::Constant c{};
    std::copy_n(bytes.data(), std::min(bytes.size(), c.size()), c.data());
    elements.push_back(c);
  }
  return Members(operands, std::move(members), temporaries, std::move(elements));
}

}  // namespace

PyProgram::PyProgram(std::string called, const py::sequence& ins, const std::vector<bool>& written,
                     const py::sequence& outs, size_t arena_bytes, int gpu) {
  static auto* names = new std::set<std::string>;
  name = names->insert(std::move(called)).first->c_str();
  if (gpu >= 0) program->device = {Device::Kind::kGpu, static_cast<uint8_t>(gpu)};
  program->inputs = types_from(ins);
  program->written = written;
  program->outputs = types_from(outs);
  program->arena_bytes = arena_bytes;
}

int PyProgram::add_constant(const py::bytes& data, bool host) {
  std::string_view v = data;
  return program->add_constant(v.data(), v.size(), host);
}

static Program::Slot slot_from(const PyProgram::SlotText& text) {
  using Kind = Program::Slot::Kind;
  static const std::map<std::string, Kind> kinds{{"in", Kind::kInput},    {"out", Kind::kOutput},
                                                 {"arena", Kind::kArena}, {"tray", Kind::kTray},
                                                 {"host", Kind::kHost},   {"const", Kind::kConstant}};
  return {kinds.at(std::get<0>(text)), std::get<1>(text), std::get<2>(text)};
}

void PyProgram::add_step(const PyKernelHandle& kernel, const std::vector<SlotText>& slots, const std::string& step_name,
                         bool random, const std::optional<SlotText>& workspace, const std::string& members,
                         const std::string& site, size_t outs) {
  Program::Step step{kernel.kernel, {}, step_name, random};
  if (!members.empty()) step.members = std::make_shared<const std::string>(members);
  if (!site.empty()) step.site = std::make_shared<const std::string>(site);
  for (const SlotText& s : slots) step.operands.push_back(slot_from(s));
  step.outs = outs;
  if (workspace) step.workspace = slot_from(*workspace);
  program->add_step(std::move(step));
}

std::vector<double> PyProgram::time_steps(const py::sequence& ins, int repeats) {
  return program->time_steps(arrays_from(ins), std::max(repeats, 1));
}

std::vector<Array> PyProgram::run_on(std::vector<Array> ins, bool static_alloc, bool static_shape, size_t alone) {
  const size_t bytes = program->total_arena_bytes();
  if (static_alloc && bytes) arena = arena_for(program->device, bytes, arena);
  Program::Options options;
  if (static_alloc && arena) options.arena = *arena;
  options.fixed = static_alloc && static_shape;
  options.alone = alone;
  return program->run(std::move(ins), name, std::move(options));
}

py::list PyProgram::run(const py::sequence& ins, bool static_alloc, bool static_shape, size_t alone) {
  py::list out;
  for (Array& a : run_on(arrays_from(ins), static_alloc, static_shape, alone)) out.append(take(std::move(a)));
  return out;
}

void add_program(py::module_& m) {
  py::class_<PyKernelHandle>(m, "Kernel")
      .def_property_readonly("cost_ns", [](const PyKernelHandle& k) { return k.kernel->cost_ns(); })
      .def_property_readonly("workspace_bytes", [](const PyKernelHandle& k) { return k.kernel->workspace_bytes(); })
      .def_property_readonly("compiled",
                             [](const PyKernelHandle& k) {
                               if (auto* f = dynamic_cast<const FusedKernel*>(k.kernel.get())) return f->compiled();
                               auto* f = dynamic_cast<const FusedDeviceKernel*>(k.kernel.get());
                               return f && f->compiled();
                             })
      .def(
          "capsule",
          [](const PyKernelHandle& k) {
            return py::capsule(new KernelPtr(k.kernel), [](void* p) { delete static_cast<KernelPtr*>(p); });
          },
          "For another module of minimx.")
      .def("set_function",
           [](const PyKernelHandle& k, uintptr_t address) {
             dynamic_cast<const FusedKernel&>(*k.kernel).set_function(reinterpret_cast<FusedKernel::Function>(address));
           })
      .def(
          "settle",
          [](const PyKernelHandle& k, const PyKernelHandle* kernel) {
            dynamic_cast<const FusedDeviceKernel&>(*k.kernel).settle(kernel ? kernel->kernel : nullptr);
          },
          "The kernel takes over, or with None the members stay.", py::arg("kernel").none(true))
      .def_property_readonly("settled", [](const PyKernelHandle& k) {
        auto* f = dynamic_cast<const FusedDeviceKernel*>(k.kernel.get());
        return !f || f->settled();
      });
  m.def("make_kernel",
        [](const std::string& name, const py::sequence& ins, const py::sequence& outs, const py::dict& attrs) {
          auto i = specs_from(ins), o = specs_from(outs);
          return PyKernelHandle{make_kernel(name, i, o, attrs_from(attrs))};
        });
  m.def("make_host_kernel", [](py::object call, const py::sequence& ins, const py::sequence& outs) {
    return PyKernelHandle{std::make_shared<PyKernel>(std::move(call), specs_from(ins), specs_from(outs))};
  });
  m.def(
      "make_fused",
      [](int operands, int64_t elements, double cost_ns, const py::sequence& members,
         const std::vector<size_t>& temporaries, const std::vector<py::bytes>& constants) {
        return PyKernelHandle{
            std::make_shared<FusedKernel>(elements, cost_ns, members_from(operands, members, temporaries, constants))};
      },
      "A fused kernel; members are (kernel, operand indices counted on through the constants, ~i for temporary i).");
  m.def(
      "make_fused_device",
      [](int operands, const py::sequence& members, const std::vector<size_t>& temporaries,
         const std::vector<py::bytes>& constants, size_t workspace) {
        return PyKernelHandle{
            std::make_shared<FusedDeviceKernel>(members_from(operands, members, temporaries, constants), workspace)};
      },
      "The same of kernels of a GPU; workspace: bytes that the compiled kernel needs, which settle() brings.");
  m.def(
      "make_device_host_kernel",
      [](py::object call, size_t operands) {
        return PyKernelHandle{std::make_shared<CallbackKernel>(std::move(call), operands)};
      },
      "A kernel of a GPU that is a callable of (addresses of the operands, stream): it enqueues work there.");
  m.def(
      "adopt_kernel", [](const py::capsule& c) { return PyKernelHandle{std::move(*c.get_pointer<KernelPtr>())}; },
      "The kernel that another module of minimx made.");
  m.def("layout_bytes", [](py::handle spec) { return layout_bytes(spec_from(spec)); });
  m.def("batch_norm_mask_bytes", [](py::handle spec) { return batch_norm_mask_bytes(spec_from(spec)); });
  m.def(
      "conv_layouts",
      [](const py::sequence& ins, const py::sequence& outs, const py::dict& attrs, const std::string& direction) {
        auto i = specs_from(ins), o = specs_from(outs);
        ConvLayouts l = conv_layouts(i, o, attrs_from(attrs), direction);
        return std::make_tuple(l.src, l.weights, l.dst);
      },
      "Layouts oneDNN prefers for (src, weights, dst) of a convolution.");
  py::class_<PyProgram>(m, "Program")
      .def(py::init<std::string, const py::sequence&, const std::vector<bool>&, const py::sequence&, size_t, int>(),
           py::arg("name"), py::arg("ins"), py::arg("written"), py::arg("outs"), py::arg("arena_bytes"),
           py::arg("gpu") = -1)
      .def("add_constant", &PyProgram::add_constant, py::arg("data"), py::arg("host") = false)
      .def("add_step", &PyProgram::add_step, py::arg("kernel"), py::arg("operands"), py::arg("name"),
           py::arg("random") = false, py::arg("workspace") = py::none(), py::arg("members") = "", py::arg("site") = "",
           py::arg("outs") = 1)
      .def(
          "set_tray",
          [](PyProgram& p, bool made, size_t first, const std::vector<size_t>& offsets, size_t bytes) {
            p.program->tray = Program::Tray{made, first, offsets, bytes};
          },
          "Outputs, or where it is not `made` here inputs, from number `first` on lie in one block at these offsets.",
          py::arg("made"), py::arg("first"), py::arg("offsets"), py::arg("bytes"))
      .def("run", &PyProgram::run, py::arg("ins"), py::arg("static_alloc"), py::arg("static_shape") = false,
           py::arg("alone") = 0)
      .def("time_steps", &PyProgram::time_steps, py::arg("ins"), py::arg("repeats") = 5)
      .def_property_readonly("cost_ns", [](const PyProgram& p) { return p.program->cost_ns(); })
      .def_property_readonly("captured_graphs", [](const PyProgram& p) { return p.program->captured_graphs(); })
      .def_property_readonly("arena_bytes", [](const PyProgram& p) { return p.program->arena_bytes; })
      .def_property_readonly("steps", [](const PyProgram& p) {
        std::vector<std::string> names;
        for (const auto& s : p.program->steps()) names.push_back(s.name);
        return names;
      });
}

}  // namespace minimx::bind
