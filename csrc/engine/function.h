// A move-only callable: what `push` takes. std::function wants copies, and a closure that owns arrays must not be
// copied. Closures up to kInlineBytes live inside the object; larger ones are allocated once.
#pragma once
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace minimx::engine {

template <class Signature>
class UniqueFunction;

template <class R, class... Args>
class UniqueFunction<R(Args...)> {
 public:
  static constexpr size_t kInlineBytes = 64;

  UniqueFunction() = default;
  UniqueFunction(std::nullptr_t) {}
  template <class F>
    requires(!std::is_same_v<std::decay_t<F>, UniqueFunction> && std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
  UniqueFunction(F&& f) {
    using Body = std::decay_t<F>;
    if constexpr (fits<Body>()) {
      ::new (static_cast<void*>(bytes_)) Body(std::forward<F>(f));
    } else {
      ::new (static_cast<void*>(bytes_)) Body*(new Body(std::forward<F>(f)));
    }
    table_ = &kTable<Body>;
  }
  UniqueFunction(UniqueFunction&& other) noexcept { take(other); }
  UniqueFunction& operator=(UniqueFunction&& other) noexcept {
    if (this != &other) {
      clear();
      take(other);
    }
    return *this;
  }
  UniqueFunction(const UniqueFunction&) = delete;
  UniqueFunction& operator=(const UniqueFunction&) = delete;
  ~UniqueFunction() { clear(); }

  explicit operator bool() const { return table_ != nullptr; }
  R operator()(Args... args) { return table_->call(bytes_, std::forward<Args>(args)...); }

 private:
  struct Table {
    R (*call)(void* self, Args&&... args);
    void (*move)(void* from, void* to);  // leaves nothing to destroy in `from`
    void (*destroy)(void* self);
  };

  template <class Body>
  static constexpr bool fits() {
    return sizeof(Body) <= kInlineBytes && alignof(Body) <= alignof(std::max_align_t) &&
           std::is_nothrow_move_constructible_v<Body>;
  }
  template <class Body>
  static Body& body(void* self) {
    if constexpr (fits<Body>()) return *std::launder(static_cast<Body*>(self));
    return **std::launder(static_cast<Body**>(self));
  }
  template <class Body>
  static void move_body(void* from, void* to) {
    if constexpr (fits<Body>()) {
      ::new (to) Body(std::move(body<Body>(from)));
      body<Body>(from).~Body();
    } else {
      ::new (to) Body*(&body<Body>(from));
    }
  }
  template <class Body>
  static void destroy_body(void* self) {
    if constexpr (fits<Body>()) {
      body<Body>(self).~Body();
    } else {
      delete &body<Body>(self);
    }
  }
  template <class Body>
  static R call_body(void* self, Args&&... args) {
    return static_cast<R>(body<Body>(self)(std::forward<Args>(args)...));
  }
  template <class Body>
  static constexpr Table kTable{&call_body<Body>, &move_body<Body>, &destroy_body<Body>};

  void take(UniqueFunction& other) {
    table_ = std::exchange(other.table_, nullptr);
    if (table_) table_->move(other.bytes_, bytes_);
  }
  void clear() {
    if (const Table* table = std::exchange(table_, nullptr)) table->destroy(bytes_);
  }

  alignas(std::max_align_t) std::byte bytes_[kInlineBytes];
  const Table* table_ = nullptr;  // invariant: null exactly when bytes_ holds nothing
};

}  // namespace minimx::engine
