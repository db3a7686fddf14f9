// What the bind layer and the operator table are to csrc/runtime, for a test without Python: a lock that blocking
// sections give up, five operators on float32 vectors with their gradients, and their kernels.
#pragma once
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/invoke.h"

namespace rows {

/// Python's lock, played: a thread holds it but while it waits or runs what needs no Python. With `set_lock(false)`
/// there is none, and everything that relies on it is a race.
void set_lock(bool on);
class Locked {
 public:
  Locked();
  ~Locked();
};
/// Lets others have it, as the interpreter does every few milliseconds.
void let_others();

/// Makes the hooks, the rules and the operators known. Once.
void install();
minimx::Op& add();
minimx::Op& multiply();
minimx::Op& half();  // x / 2
minimx::Op& copy();

/// A vector; `value(i)` are its elements.
template <class F>
minimx::Array vector_of(int64_t n, F value) {
  minimx::Array a = minimx::Array::empty(minimx::Dims{n}, minimx::DType::kFloat32, {});
  for (int64_t i = 0; i < n; ++i) reinterpret_cast<float*>(a.data())[i] = value(i);
  return a;
}
/// The elements, once they are there.
std::vector<float> elements(const minimx::Array& a);

/// A kernel of an operator for n elements: from 800 on its cost sends it to the worker.
minimx::KernelPtr kernel_of(const minimx::Op& op, int64_t n);

}  // namespace rows
