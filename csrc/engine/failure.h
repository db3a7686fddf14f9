// What the engine keeps of an operator that threw, and the exception by which a waiter learns of it.
// The engine never looks into the error: the bind layer turns it into the user's class, with `op` and `site` as its
// where.
#pragma once
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace minimx::engine {

/// One operator's failure. Immutable; shared by every Var it poisoned.
struct Failure {
  std::exception_ptr error;
  std::string op;                           // name given at push
  std::shared_ptr<const std::string> site;  // the user's line that pushed it; may be null
  uint64_t order = 0;                       // push number: of several failures the smallest is the earliest cause
};

using FailurePtr = std::shared_ptr<const Failure>;

/// Thrown by waits (and by push itself when operators run at once).
class Poisoned : public std::exception {
 public:
  explicit Poisoned(FailurePtr cause, std::vector<FailurePtr> rest = {})
      : failure(std::move(cause)), others(std::move(rest)), what_("operator " + failure->op + " failed") {}
  const char* what() const noexcept override { return what_.c_str(); }

  FailurePtr failure;              // the earliest cause; never null
  std::vector<FailurePtr> others;  // filled by wait_all only: the later failures that nobody had seen yet

 private:
  std::string what_;
};

}  // namespace minimx::engine
