// Philox4x32-10, the counter-based generator behind all randomness: Salmon, Moraes, Dror and Shaw, "Parallel Random
// Numbers: As Easy as 1, 2, 3", SC'11. A pure function of a counter and a key, so every element of an array can be
// drawn on its own, on any thread or device, and always comes out the same.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>

namespace minimx {

using Words = std::array<uint32_t, 4>;

/// Ten rounds over `counter` under `key`.
inline Words philox(Words counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0], p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

constexpr int kPhiloxGroups = 16;  // groups whose words are made at once

/// Four words for each of kPhiloxGroups groups: words[k][g] is word k of group g. Laid out so that compilers vectorise.
using WordBlock = std::array<std::array<uint32_t, kPhiloxGroups>, 4>;

/// The stream of one call of a random operator: four words for each group of four elements and each iteration.
class Stream {
 public:
  /// `state` is what the runtime passes: {seed, call number, 0, 0}.
  explicit Stream(const void* state) {
    const uint64_t* s = static_cast<const uint64_t*>(state);
    key_ = {static_cast<uint32_t>(s[0]), static_cast<uint32_t>(s[0] >> 32)};
    call_ = {static_cast<uint32_t>(s[1]), static_cast<uint32_t>(s[1] >> 32)};
  }
  Words words(int64_t group, uint32_t iteration) const {
    return philox({static_cast<uint32_t>(group), iteration, call_[0], call_[1]}, key_);
  }
  /// The word of one element.
  uint32_t word(int64_t element, uint32_t iteration) const { return words(element / 4, iteration)[element % 4]; }

  /// The words of kPhiloxGroups groups from `first` on: philox() of each, all rounds side by side.
  void block(int64_t first, uint32_t iteration, WordBlock& c) const {
    for (int g = 0; g < kPhiloxGroups; ++g) {
      c[0][g] = static_cast<uint32_t>(first) + static_cast<uint32_t>(g);
      c[1][g] = iteration;
      c[2][g] = call_[0];
      c[3][g] = call_[1];
    }
    uint32_t k0 = key_[0], k1 = key_[1];
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
      for (int g = 0; g < kPhiloxGroups; ++g) {
        const uint64_t p0 = uint64_t{0xD2511F53} * c[0][g], p1 = uint64_t{0xCD9E8D57} * c[2][g];
        c[0][g] = static_cast<uint32_t>(p1 >> 32) ^ c[1][g] ^ k0;
        c[1][g] = static_cast<uint32_t>(p1);
        c[2][g] = static_cast<uint32_t>(p0 >> 32) ^ c[3][g] ^ k1;
        c[3][g] = static_cast<uint32_t>(p0);
      }
    }
  }

 private:
  std::array<uint32_t, 2> key_, call_;
};

/// A number in [0, 1) with 24 bits.
inline float unit(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
/// A number in [0, 1) with 53 bits.
inline double unit(uint32_t high, uint32_t low) {
  return static_cast<double>((uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
}

/// The uniform numbers of elements one after the other, and of as many iterations as a rejection takes.
class Draws {
 public:
  Draws(const Stream& stream, int64_t element) : stream_(stream), element_(element) {}
  /// The next number in (0, 1), 53 bits: two iterations.
  double next() {
    const uint32_t high = stream_.word(element_, iteration_), low = stream_.word(element_, iteration_ + 1);
    iteration_ += 2;
    return unit(high, low) + 0x1p-54;
  }
  /// A number of the standard normal distribution: Box and Muller 1958.
  double normal() {
    const double radius = std::sqrt(-2 * std::log(next()));
    return radius * std::cos(6.283185307179586 * next());
  }

 private:
  const Stream& stream_;
  int64_t element_;
  uint32_t iteration_ = 0;
};

}  // namespace minimx
