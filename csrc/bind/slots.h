// Slots and methods of ndarray that have files of their own, and what they share.
#pragma once
#include "bind/object.h"

namespace minimx::bind {

// ---- ndarray.cc ---------------------------------------------------------------------------------------------------
/// Throws while the array is one of a graph being traced. what: who wants to read its values.
void must_have_values(const Array& a, const char* what);

// ---- indexing.cc --------------------------------------------------------------------------------------------------
PyObject* subscript(PyObject* self, PyObject* key);
int assign_subscript(PyObject* self, PyObject* key, PyObject* value);

// ---- numpy.cc -----------------------------------------------------------------------------------------------------
PyObject* asnumpy(PyObject* self, PyObject*);
int get_buffer(PyObject* self, Py_buffer* view, int flags);
void release_buffer(PyObject* self, Py_buffer* view);

}  // namespace minimx::bind
