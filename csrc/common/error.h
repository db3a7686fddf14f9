// The C++ exception of minimx. The bind layer turns its kind into a class of minimx/errors.py.
// Messages read `<where>: expected <rule>, got <values>. <Way out>.`
#pragma once
#include <stdexcept>
#include <string>

namespace minimx {

/// kType: of elements; kArgument: of a Python object, or the name of an argument.
enum class ErrorKind {
  kInternal,
  kValue,
  kShape,
  kType,
  kIndex,
  kMemory,
  kDevice,
  kAutograd,
  kGraph,
  kNotImplemented,
  kArgument
};

/// Visible from outside its module, so that what _cuda throws is caught in _core.
class [[gnu::visibility("default")]] Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace minimx
