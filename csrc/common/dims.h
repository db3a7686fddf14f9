// A short list of dimensions (a shape, strides, axes), stored inline: making one never allocates.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "common/error.h"

namespace minimx {

constexpr int kMaxDims = 12;

class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<int64_t> values) : Dims(std::span<const int64_t>(values.begin(), values.size())) {}
  explicit Dims(std::span<const int64_t> values) {
    check_size(static_cast<int>(values.size()));
    size_ = static_cast<uint8_t>(values.size());
    for (int i = 0; i < size_; ++i) v_[i] = values[i];
  }
  static Dims filled(int n, int64_t value) {
    Dims d;
    d.resize(n, value);
    return d;
  }

  int size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t& operator[](int i) { return v_[i]; }
  int64_t operator[](int i) const { return v_[i]; }
  int64_t back() const { return v_[size_ - 1]; }
  int64_t* begin() { return v_.data(); }
  int64_t* end() { return v_.data() + size_; }
  const int64_t* begin() const { return v_.data(); }
  const int64_t* end() const { return v_.data() + size_; }
  const int64_t* data() const { return v_.data(); }

  void push_back(int64_t x) {
    check_size(size_ + 1);
    v_[size_++] = x;
  }
  void resize(int n, int64_t value = 0) {
    check_size(n);
    for (int i = size_; i < n; ++i) v_[i] = value;
    size_ = static_cast<uint8_t>(n);
  }
  bool operator==(const Dims& o) const {
    if (size_ != o.size_) return false;
    for (int i = 0; i < size_; ++i)
      if (v_[i] != o.v_[i]) return false;
    return true;
  }
  /// Product of the dimensions: the number of elements of an array of this shape (1 for shape ()).
  int64_t product() const {
    int64_t n = 1;
    for (int i = 0; i < size_; ++i) n *= v_[i];
    return n;
  }
  /// Strides, in elements, of a C-contiguous array of this shape.
  Dims contiguous_strides() const {
    Dims s = filled(size_, 1);
    for (int i = size_ - 2; i >= 0; --i) s[i] = s[i + 1] * (v_[i + 1] > 0 ? v_[i + 1] : 1);
    return s;
  }
  std::string str() const {
    std::string s = "(";
    for (int i = 0; i < size_; ++i) s += (i ? ", " : "") + std::to_string(v_[i]);
    return s + (size_ == 1 ? ",)" : ")");
  }

 private:
  static void check_size(int n) {
    if (n > kMaxDims)
      throw Error(ErrorKind::kValue, "array: expected at most " + std::to_string(kMaxDims) + " dimensions, got " +
                                         std::to_string(n) + ". Reshape to fewer dimensions.");
  }
  std::array<int64_t, kMaxDims> v_;  // invariant: only the first size_ are meaningful
  uint8_t size_ = 0;
};

}  // namespace minimx
