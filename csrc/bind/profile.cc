// The profiler's records for minimx/profiler.
#include "runtime/profile.h"

#include <pybind11/stl.h>

#include "bind/rules.h"
#include "bind/submodules.h"
#include "runtime/deferred.h"

namespace minimx::bind {
namespace {

using profile::Record;

constexpr const char* kKinds[] = {"push", "run", "step", "wait", "device", "span", "counter", "mark", "stall"};

py::object text(const profile::Text& t) { return t ? py::object(py::str(*t)) : py::str(); }

py::tuple tuple_of(const Record& r) {
  py::list variables;
  for (const uint64_t v : r.variables)
    if (v) variables.append(v);
  return py::make_tuple(kKinds[static_cast<int>(r.kind)], text(r.name), r.thread, r.op, r.begin_ns, r.end_ns, r.gpu,
                        r.stream, r.program, r.failed, r.bytes, r.value, text(r.note), text(r.site), variables);
}

void add(const std::string& kind, const std::string& name, const std::string& note, int64_t begin_ns, double value,
         uint64_t number) {
  if (!profile::running()) return;
  Record r;
  r.kind = kind == "span" ? Record::Kind::kSpan : kind == "counter" ? Record::Kind::kCounter : Record::Kind::kMark;
  r.end_ns = profile::detail::now();
  r.begin_ns = begin_ns ? begin_ns : r.end_ns;
  r.value = value;
  r.op = number;
  r.site = rules().site();
  profile::add(std::move(r), name, note);
}

}  // namespace

void add_profile(py::module_& m) {
  const py::call_guard<WithoutGil> free;
  m.def("profile_start", profile::start, py::arg("limit"), py::arg("memory"), py::arg("step_by_step"), free);
  m.def("profile_stop", [] {
    Deferred::run_own();
    const WithoutGil release;
    profile::stop();
  });
  m.def("profile_running", profile::running);
  m.def("profile_clear", profile::clear, free);
  m.def("profile_dropped", profile::dropped, free);
  m.def("profile_now", profile::detail::now);
  m.def("profile_add", add, py::arg("kind"), py::arg("name"), py::arg("note") = "", py::arg("begin_ns") = 0,
        py::arg("value") = 0.0, py::arg("number") = 0);
  m.def("profile_threads", [] {
    py::list out;
    for (const profile::Thread& t : profile::threads()) out.append(py::make_tuple(t.number, t.native_id, t.role));
    return out;
  });
  m.def("profile_records", [] {
    std::vector<Record> records;
    {
      const WithoutGil free;
      records = profile::records();
    }
    py::list out;
    for (const Record& r : records) out.append(tuple_of(r));
    return out;
  });
}

}  // namespace minimx::bind
