// Intrusive reference counting: the one way shared C++ objects of minimx are owned.
// Not std::shared_ptr, because arrays, Vars and tape nodes are made and dropped at every operator: one word inside the
// object, no control block. Read next: csrc/runtime/array.h.
#pragma once
#include <atomic>
#include <cstdint>
#include <utility>

namespace minimx {

/// Base of objects owned through `Ref<T>`. The count starts at zero; the first Ref makes it one.
class RefCounted {
 public:
  RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;
  virtual ~RefCounted() = default;

  void retain() const { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release() const {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) const_cast<RefCounted*>(this)->destroy();
  }
  /// Number of owners now. Only a hint when other threads own it too; exact when it returns 1 to its sole owner.
  uint32_t use_count() const { return refs_.load(std::memory_order_acquire); }

 protected:
  /// Called when the last owner is gone. Override to put the object on a free list instead of deleting it.
  virtual void destroy() { delete this; }

 private:
  mutable std::atomic<uint32_t> refs_{0};
};

/// How Ref counts. Overloaded for types that are only declared where a Ref to them is kept (see runtime/array.h).
template <class T>
void ref_retain(const T* p) {
  p->retain();
}
template <class T>
void ref_release(const T* p) {
  p->release();
}

/// Owning pointer to a RefCounted object; may be null.
template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(std::nullptr_t) {}
  explicit Ref(T* p) : p_(p) {
    if (p_) ref_retain(p_);
  }
  Ref(const Ref& other) : Ref(other.p_) {}
  Ref(Ref&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  template <class U>
    requires std::is_convertible_v<U*, T*>
  Ref(const Ref<U>& other) : Ref(static_cast<T*>(other.get())) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~Ref() {
    if (p_) ref_release(p_);
  }

  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  explicit operator bool() const { return p_ != nullptr; }
  bool operator==(const Ref& other) const { return p_ == other.p_; }
  void reset() { Ref().swap(*this); }
  void swap(Ref& other) noexcept { std::swap(p_, other.p_); }

 private:
  T* p_ = nullptr;
};

template <class T, class... Args>
Ref<T> make_ref(Args&&... args) {
  return Ref<T>(new T(std::forward<Args>(args)...));
}

}  // namespace minimx
