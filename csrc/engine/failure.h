// What the engine keeps of an operator that threw, and the exception by which a waiter learns of it.
// The engine never looks into the error: the bind layer turns it into the user's class, with `op` and `site` as its
// where.
#pragma once
#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace minimx::engine {

class Var;

/// Thrown by an operator that is made of several: which of them failed, and what of its writes is as it should be all
/// the same: not begun, or done.
struct PartFailed : std::exception {
  const char* what() const noexcept override { return "a part of an operator failed"; }

  std::exception_ptr error;
  std::string op;
  std::shared_ptr<const std::string> site;  // may be null
  std::vector<const Var*> spared;
};

/// One operator's failure. Immutable; shared by every Var it poisoned.
struct Failure {
  std::exception_ptr error;
  std::string op;                           // name given at push, or of the part that failed
  std::shared_ptr<const std::string> site;  // the user's line that pushed it; may be null
  uint64_t order = 0;                       // push number: of several failures the smallest is the earliest cause
  std::string whole{};                      // where a part failed: the name given at push
  std::vector<const Var*> spared{};         // likewise, to be compared with alone: what the failure leaves as it was
};

using FailurePtr = std::shared_ptr<const Failure>;

/// The poison of a written Var, which held `before`, once the operator of this push number has run and ended with
/// `failure`, or inherited it: then it poisons all that it writes.
inline const FailurePtr& left(const FailurePtr& failure, const Var& var, uint64_t number, const FailurePtr& before) {
  const bool spared =
      failure && failure->order == number && std::ranges::find(failure->spared, &var) != failure->spared.end();
  return spared ? before : failure;
}

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
