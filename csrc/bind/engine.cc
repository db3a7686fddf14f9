// The engine's settings and waits for Python; Python callbacks as engine operators.
#include <pybind11/stl.h>

#include "bind/rules.h"
#include "bind/submodules.h"
#include "engine/order.h"
#include "python/gil.h"
#include "runtime/backend.h"
#include "runtime/checked.h"
#include "runtime/deferred.h"

namespace minimx::bind {
namespace {

/// A Python callable that any thread may drop.
struct Callback {
  py::object f;
  explicit Callback(py::object g) : f(std::move(g)) {}
  Callback(Callback&&) = default;
  ~Callback() {
    if (!f) return;
    with_gil([&] { f = py::object(); });
  }
};

std::vector<engine::Var*> vars_of(const py::sequence& xs, std::vector<Ref<Storage>>& keep) {
  std::vector<engine::Var*> out;
  for (py::handle x : xs) {
    const Array& a = concrete(x, "engine.push");
    checked::describe(a);
    keep.push_back(a.storage);
    out.push_back(a.var());
  }
  return out;
}

void push_callback(py::object f, const py::sequence& reads, const py::sequence& writes, const std::string& name,
                   int priority) {
  static auto* names = new std::map<std::string, int>;  // interned: the engine keeps the pointer
  engine::PushInfo info;
  info.name = names->emplace(name, 0).first->first.c_str();
  info.lane = engine::Lane::kHost;
  info.priority = priority;
  info.site = rules().site();
  std::vector<Ref<Storage>> keep;
  auto r = vars_of(reads, keep), w = vars_of(writes, keep);
  auto call = std::make_unique<Callback>(std::move(f));
  engine::push([call = std::move(call), keep = std::move(keep)] { with_gil([&] { call->f(); }); }, r, w, info);
}

/// Orders as Python keeps them: a list of (kind, key, name).
py::list events(const engine::order::Log& log) {
  py::list out;
  for (const auto& e : log) out.append(py::make_tuple(std::string(1, e.kind), e.key, e.name));
  return out;
}

engine::order::Log log_of(const py::sequence& events) {
  engine::order::Log out;
  for (py::handle e : events) {
    const auto [kind, key, name] = e.cast<std::tuple<std::string, std::string, std::string>>();
    out.push_back({kind.empty() ? '?' : kind[0], key, name});
  }
  return out;
}

}  // namespace

static void add_checks(py::module_& m) {
  namespace order = engine::order;
  m.def("checked_begin", checked::begin);
  m.def("checked_end", checked::end);
  m.def("order_record", order::record);
  m.def("order_replay", [](const py::sequence& log) { order::replay(log_of(log)); });
  m.def("order_shuffle", order::shuffle);
  m.def("order_give_up", order::give_up);
  m.def("order_end", [] {
    const auto [log, broken] = order::end();
    return py::make_tuple(events(log), broken);
  });
}

void add_engine(py::module_& m) {
  add_checks(m);
  m.def("wait_all", wait_for_all);
  m.def("push", push_callback);
  m.def("set_naive", [](bool naive) {
    Deferred::run_all();
    bool before = engine::policy() == engine::Policy::kNaive;
    engine::set_policy(naive ? engine::Policy::kNaive : engine::Policy::kThreaded);
    return before;
  });
  py::class_<engine::SyncScope>(m, "SyncScope").def(py::init([] {
    Deferred::run_own();  // what was called before does not raise in here
    return std::make_unique<engine::SyncScope>();
  }));
  m.def("set_num_threads", engine::set_num_threads);
  m.def("num_threads", engine::num_threads);
  m.def("renew_kernels", Plan::renew_kernels);
  m.def("set_host_threads", engine::set_host_threads);
  m.def("host_threads", engine::host_threads);
  m.def("set_inline_threshold_ns", engine::set_inline_threshold_ns);
  m.def("inline_threshold_ns", engine::inline_threshold_ns);
  m.def("set_inflight_limit", engine::set_inflight_limit);
  m.def("in_flight", [] { return std::make_pair(engine::in_flight().ops, engine::in_flight().bytes); });
  m.def("shutdown", [] {
    Deferred::run_all();
    engine::shutdown();
  });
}

}  // namespace minimx::bind
