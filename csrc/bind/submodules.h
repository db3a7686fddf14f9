// The parts of minimx._core, one function and one file each.
#pragma once
#include <pybind11/pybind11.h>

namespace minimx::bind {
void add_arrays(pybind11::module_& m);
void add_numpy(pybind11::module_& m);
void add_dlpack(pybind11::module_& m);
void add_autograd(pybind11::module_& m);
void add_compiled(pybind11::module_& m);
void add_modes(pybind11::module_& m);
void add_trace(pybind11::module_& m);
void add_program(pybind11::module_& m);
void add_engine(pybind11::module_& m);
void add_bulk(pybind11::module_& m);
void add_profile(pybind11::module_& m);
}  // namespace minimx::bind
