// Between the table's Python rules and the runtime: conversions both sides share. See rules.cc.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "bind/object.h"
#include "engine/engine.h"
#include "python/convert.h"

namespace minimx::bind {

py::dtype dtype_object(DType t);
py::dict attributes_dict(const AttrSet* attrs);
/// Raises an operator's failure in its own class, with the operator and the user's line as a note.
void raise_failure(const engine::Failure& failure);
/// What a traced graph depends on: this thread's low type, and how often operators' classes were set.
int precision_key();
void add_rules(py::module_& m);

/// While it lives, this thread's operator calls go to the trace.
class TraceScope {
 public:
  explicit TraceScope(Trace* trace);
  ~TraceScope();

 private:
  Mode saved_;
};

}  // namespace minimx::bind
