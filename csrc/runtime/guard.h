// Guarded memory of checked mode: the pattern that fresh memory is full of, red zones around each block, and the
// quarantine of freed ones. It knows no operators. Read next: checked.cc.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

namespace minimx::checked {

constexpr size_t kZone = 64;  // bytes before a block and, at least, behind it

/// What word `i` of fresh or freed memory holds: a NaN as float16, bfloat16, float32 and float64, and another one from
/// word to word, so that no copied or filled data looks like it.
constexpr uint32_t poison(size_t i) {
  const auto unit = [](size_t k) { return 0x7FF0u | static_cast<uint32_t>(1 + k * 7 % 13); };
  return unit(2 * i) | unit(2 * i + 1) << 16;
}
/// The first word of [begin, end), byte offsets into a block, that is as it was in fresh memory; or `end`.
size_t find_poison(const void* block, size_t begin, size_t end);

/// The memory that a block takes with its zones, in whole pages of its own: where it begins, and its bytes.
struct Pages {
  char* begin;
  size_t bytes;
};
Pages pages_of(const void* data, size_t bytes);

/// A number that other contents do not have, but by chance.
uint64_t fingerprint(const void* data, size_t bytes);

/// Both zones of a block are whole.
bool zones_whole(const void* data, size_t bytes);

class Guard {
 public:
  void* allocate(size_t bytes);
  void release(void* data, size_t bytes) noexcept;
  /// What is wrong with blocks that were freed lately, or with `all` that are kept; empty if nothing is. Told once.
  std::string look(bool all);
  void clear();
  static void free(void* data) noexcept;

 private:
  struct Block {
    char* data;
    size_t bytes;
  };
  static constexpr size_t kMost = size_t{32} << 20;  // bytes kept, in whole pages
  static constexpr size_t kLately = 8;               // blocks looked at after each operator,
  static constexpr size_t kSmall = size_t{1} << 18;  // unless they are larger
  bool whole(const Block& block) const;
  void drop_oldest();

  std::mutex mutex_;  // guards the rest
  std::deque<Block> freed_;
  size_t bytes_ = 0;
  std::string found_;
};

}  // namespace minimx::checked
