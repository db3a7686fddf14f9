#include "runtime/checked.h"

#include <optional>
#include <unordered_map>

#include "common/error.h"
#include "engine/inspect.h"
#include "runtime/backend.h"
#include "runtime/captured.h"
#include "runtime/clocks.h"
#include "runtime/early_reads.h"
#include "runtime/guard.h"

namespace minimx::checked {
namespace {

using engine::Use;

/// An array that an operator was called with: a part of a storage, which it keeps no hold of.
struct Operand {
  const Storage* storage;
  std::string text;
  size_t begin, end;  // bytes of the storage; both 0 where the elements do not lie one behind the other
};
thread_local std::vector<Operand> t_described;

/// What is known of a storage.
struct Shadow {
  uint64_t id = 0;                  // of its Var: another one may have its address later
  uint64_t maker = 0;               // push number of the operator in whose function it was made; 0: outside
  uint64_t writes = 0;              // by operators
  std::optional<uint64_t> print{};  // after the last of them, where nobody else may have written since
  std::string writer{}, text{};
};

/// A storage as it was when an operator that uses it was queued.
struct Lent {
  const Storage* storage;
  uint64_t print, writes;
};

struct Pushed {
  std::vector<Operand> operands;
  std::vector<Lent> lent;
};

const Storage* storage_of(const engine::Var* var) {
  const auto* s = dynamic_cast<const Storage*>(var);
  return s && s->bytes() > 0 ? s : nullptr;
}

/// Calls f(use, storage) for what an operator uses that has bytes.
template <class F>
void each_use(const engine::Op& op, F f) {
  for (const Use& use : op.uses())
    if (const Storage* s = storage_of(use.var.get())) f(use, *s);
}

/// A fingerprint of the contents, where they can be read without ordering streams.
std::optional<uint64_t> print_of(const Storage& s) {
  if (s.device().kind == Device::Kind::kCpu) return fingerprint(s.data(), s.bytes());
  if (!s.only_on(StreamKind::kCompute) || capturing) return std::nullopt;
  std::vector<char> here(s.bytes());
  real_backend().copy(here.data(), {}, s.data(), s.device(), s.bytes(), StreamKind::kCompute);
  return fingerprint(here.data(), here.size());
}

/// Opens the memory of a storage that an operator is yet to write; true if it was closed.
bool open(const Storage& s) { return s.guarded() && open_pages(pages_of(s.data(), s.bytes()).begin); }

[[noreturn]] void found(const std::string& message) { throw Error(ErrorKind::kInternal, message); }

class Checker final : public engine::Inspector {
 public:
  void pushed(const engine::Op& op, const engine::Op* inside) override;
  void run(const engine::Op& op, engine::UniqueFunction<void()>& fn) override;
  void waited(const engine::Var& var, bool write, const engine::Op* inside) override;

  void made(const Storage& s) {
    std::lock_guard lock(mutex_);
    shadow(s) = {.id = s.id(), .maker = engine::t_running ? engine::t_running->order : 0};
  }
  void named(const Storage& s, const std::string& text) {
    std::lock_guard lock(mutex_);
    shadow(s).text = text;
  }
  void clear() {
    std::lock_guard lock(mutex_);
    shadows_.clear();
    pushed_.clear();
    guard.clear();
  }

  Guard guard;

 private:
  Shadow& shadow(const Storage& s) {
    Shadow& found = shadows_[&s];
    if (found.id != s.id()) found = {.id = s.id()};
    return found;
  }
  Shadow known(const Storage& s) {
    std::lock_guard lock(mutex_);
    return shadow(s);
  }
  std::string name_of(const Storage& s) {
    const std::string text = known(s).text;
    return text.empty() ? "an array of " + std::to_string(s.bytes()) + " bytes" : text;
  }
  bool made_inside(const Storage& s, const engine::Op* op) {
    const uint64_t maker = known(s).maker;
    for (; op && maker; op = op->outer())
      if (op->order == maker) return true;
    return false;
  }
  void close(const engine::Op& op, const Storage& s);
  void must_declare(const Storage& s, bool write, const std::string& by, const engine::Op& inside);
  void must_be_as_left(const engine::Op& op, const Storage& s, const std::optional<uint64_t>& print);
  void must_be_as_queued(const engine::Op& op, const Pushed& at_push);
  void look_at_writes(const engine::Op& op, const Pushed& at_push);

  std::mutex mutex_;  // guards what follows
  std::unordered_map<const Storage*, Shadow> shadows_;
  std::unordered_map<uint64_t, Pushed> pushed_;  // by push number
};

Checker& checker() {
  static auto* made = new Checker;  // leaked: arrays may be freed after static destructors ran
  return *made;
}

void Checker::must_declare(const Storage& s, bool write, const std::string& by, const engine::Op& inside) {
  const Use* use = inside.declared(&s);
  if (use ? use->writes || !write : made_inside(s, &inside)) return;
  found(detail::where(inside.info) + ": expected to touch only what it declares, got a " + (write ? "write" : "read") +
        " of " + name_of(s) + " by '" + by + "', which it " + (use ? "declares as read" : "does not declare") +
        ". List the array in " + (write ? "`writes`." : "`reads`."));
}

void Checker::pushed(const engine::Op& op, const engine::Op* inside) {
  Pushed p{std::exchange(t_described, {}), {}};
  each_use(op, [&](const Use& use, const Storage& s) {
    if (inside) must_declare(s, use.writes, op.info.name, *inside);
    const bool closed = open(s);
    if (s.device().kind == Device::Kind::kCpu && s.shared() && s.readable())
      p.lent.push_back({&s, fingerprint(s.data(), s.bytes()), known(s).writes});
    if (s.guarded() && s.shared() && (use.writes || closed)) close(op, s);
  });
  std::lock_guard lock(mutex_);
  pushed_[op.order] = std::move(p);
}

/// Nobody has lent memory to look at before the operator has written it.
void Checker::close(const engine::Op& op, const Storage& s) {
  const Pages pages = pages_of(s.data(), s.bytes());
  close_pages(pages.begin, pages.bytes,
              detail::where(op.info) + ": expected nobody to read " + name_of(s) +
                  " before the operator has written it, got a read by the host through memory that others see (NumPy, "
                  "DLPack). Call wait_to_read(), or mx.waitall(), before reading there.");
}

void Checker::waited(const engine::Var& var, bool write, const engine::Op* inside) {
  const std::vector<Operand> described = std::exchange(t_described, {});
  const Storage* s = storage_of(&var);
  if (!s) return;
  if (inside) must_declare(*s, false, "wait", *inside);
  open(*s);
  if (const std::string wrong = early_read(); !wrong.empty()) found(wrong);
  if (!write) return;
  std::lock_guard lock(mutex_);
  shadow(*s).print.reset();  // whoever waits for this is about to write, or to lend it
}

/// Lent to others or not, nobody may have written to what an operator was pushed with but operators before it.
void Checker::must_be_as_queued(const engine::Op& op, const Pushed& at_push) {
  for (const Lent& lent : at_push.lent) {
    if (known(*lent.storage).writes != lent.writes) continue;  // another thread's operator
    if (fingerprint(lent.storage->data(), lent.storage->bytes()) == lent.print) continue;
    found(detail::where(op.info) + ": expected " + name_of(*lent.storage) +
          " as it was when the operator was queued, got one that was written to meanwhile through memory that others "
          "see (NumPy, DLPack). Call wait_to_read() on the result, or mx.waitall(), before writing there.");
  }
}

/// Nobody but operators writes to an array that is not lent.
void Checker::must_be_as_left(const engine::Op& op, const Storage& s, const std::optional<uint64_t>& print) {
  const Shadow before = known(s);
  if (s.shared() || !print || !before.print || *before.print == *print) return;
  found(detail::where(op.info) + ": expected " + name_of(s) + " as " + before.writer +
        " left it, got other elements: something wrote to it that is no operator. Write to it by an operator, or by "
        "NumPy through numpy.asarray, which waits.");
}

std::string element(const Operand& x, size_t at) { return x.text + ", at byte " + std::to_string(at - x.begin); }

/// What an operator writes whole has been written whole, and nothing beside it.
void Checker::look_at_writes(const engine::Op& op, const Pushed& at_push) {
  each_use(op, [&](const Use& use, const Storage& s) {
    if (s.guarded() && !zones_whole(s.data(), s.bytes()))
      found(detail::where(op.info) + ": expected writes inside arrays, got one beside " + name_of(s) +
            ". Check the indices of the kernel, or of what the callback calls.");
    if (!use.writes) return;
    const std::optional<uint64_t> print = s.shared() ? std::nullopt : print_of(s);
    std::lock_guard lock(mutex_);
    Shadow& after = shadow(s);
    after.print = print;
    after.writer = detail::where(op.info);
    ++after.writes;
  });
  const bool meant_to = std::string_view(op.info.name) == "empty";  // the one row that leaves its output as it is
  for (const Operand& x : at_push.operands) {
    const Use* use = meant_to ? nullptr : op.find(x.storage);
    if (!use || !use->writes || use->reads || !x.storage->guarded()) continue;
    if (const size_t at = find_poison(x.storage->data(), x.begin, x.end); at < x.end)
      found(detail::where(op.info) + ": expected every element of what it writes to be written, got " + element(x, at) +
            " left as in fresh memory. List it in `reads` as well if only a part is written.");
  }
  if (const std::string wrong = guard.look(false); !wrong.empty()) found(detail::where(op.info) + ": " + wrong);
}

void Checker::run(const engine::Op& op, engine::UniqueFunction<void()>& fn) {
  Pushed at_push;
  {
    std::lock_guard lock(mutex_);
    if (const auto node = pushed_.extract(op.order)) at_push = std::move(node.mapped());
  }
  each_use(op, [](const Use&, const Storage& s) { open(s); });
  must_be_as_queued(op, at_push);
  std::vector<std::pair<const Storage*, uint64_t>> prints;  // of what it only reads
  each_use(op, [&](const Use& use, const Storage& s) {
    if (!use.reads) return;
    const std::optional<uint64_t> print = print_of(s);
    must_be_as_left(op, s, print);
    if (print && !use.writes) prints.emplace_back(&s, *print);
  });
  for (const Operand& x : at_push.operands) {
    const Use* use = op.find(x.storage);
    if (!use || use->writes || !x.storage->guarded()) continue;
    if (const size_t at = find_poison(x.storage->data(), x.begin, x.end); at < x.end)
      found(detail::where(op.info) + ": expected elements that somebody has written, got " + element(x, at) +
            " as in fresh memory. Write to it first, or make it with zeros.");
  }
  each_use(op, [&](const Use& use, const Storage& s) {
    std::lock_guard lock(mutex_);
    if (use.writes) shadow(s).print.reset();  // in case it throws
  });
  fn();
  for (const auto& [s, print] : prints)
    if (print_of(*s) != print)
      found(detail::where(op.info) + ": expected to write only what it declares as written, got changes in " +
            name_of(*s) + " that it declares as read" +
            (s->shared() ? ", and that others see (NumPy, DLPack). List it in `writes`; if the host wrote, let it wait."
                         : ". List it in `writes`."));
  look_at_writes(op, at_push);
}

}  // namespace

namespace detail {

std::string text(DType dtype, const Dims& shape) {
  const std::string type = dtype_name(dtype);
  return (type[0] == 'i' ? "an " : "a ") + type + " array of shape " + shape.str();
}

std::string where(const engine::PushInfo& info) {
  return std::string(info.name) + (info.site ? " (pushed at " + *info.site + ")" : "");
}

}  // namespace detail

void begin() {
  if (engine::inspecting()) found("checked: expected one block at a time, got a second. End the first.");
  begin_clocks();
  watch_early_reads();
  engine::set_inspector(&checker());
}

void end() {
  engine::set_inspector(nullptr);
  end_clocks();
  stop_watching();
  std::string wrong = early_read();
  if (const std::string beside = checker().guard.look(true); wrong.empty() && !beside.empty())
    wrong = "checked: " + beside;
  checker().clear();
  if (!wrong.empty()) found(wrong);
}

void* allocate(size_t bytes) { return checker().guard.allocate(bytes); }

void release(void* data, size_t bytes) noexcept {
  forget_pages(pages_of(data, bytes).begin);
  if (engine::inspecting())
    checker().guard.release(data, bytes);
  else
    Guard::free(data);
}

void made(const Storage& storage) { checker().made(storage); }

void detail::describe_slow(const Array& array) {
  if (array.size() == 0) return;
  const size_t begin = static_cast<size_t>(array.offset) * itemsize(array.dtype);
  const bool dense = array.contiguous();
  t_described.push_back({array.storage.get(), detail::text(array.dtype, array.shape), dense ? begin : 0,
                         dense ? begin + array.bytes() : 0});
  checker().named(*array.storage, t_described.back().text);
}

}  // namespace minimx::checked
