#include "runtime/guard.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "runtime/early_reads.h"

namespace minimx::checked {
namespace {

constexpr unsigned char kZoneByte = 0xFA;

size_t rounded(size_t bytes, size_t unit = kZone) { return (bytes + unit - 1) / unit * unit; }

bool all_zone(const char* from, size_t n) {
  return std::all_of(from, from + n, [](char c) { return static_cast<unsigned char>(c) == kZoneByte; });
}

void fill(char* data, size_t bytes) {
  for (size_t i = 0; i * 4 < bytes; ++i) {
    const uint32_t word = poison(i);
    std::memcpy(data + i * 4, &word, std::min<size_t>(4, bytes - i * 4));
  }
}

}  // namespace

size_t find_poison(const void* block, size_t begin, size_t end) {
  for (size_t i = (begin + 3) / 4; i * 4 + 4 <= end; ++i) {
    uint32_t word;
    std::memcpy(&word, static_cast<const char*>(block) + i * 4, 4);
    if (word == poison(i)) return i * 4;
  }
  return end;
}

uint64_t fingerprint(const void* data, size_t bytes) {
  const char* p = static_cast<const char*>(data);
  uint64_t lanes[4] = {1, 2, 3, bytes};
  const auto mix = [](uint64_t h, uint64_t word) { return std::rotl(h ^ word, 29) * 0x9E3779B97F4A7C15u; };
  for (; bytes >= 32; p += 32, bytes -= 32) {
    uint64_t words[4];
    std::memcpy(words, p, 32);
    for (int i = 0; i < 4; ++i) lanes[i] = mix(lanes[i], words[i]);
  }
  for (; bytes > 0; ++p, --bytes) lanes[0] = mix(lanes[0], static_cast<unsigned char>(*p));
  return mix(mix(mix(lanes[0], lanes[1]), lanes[2]), lanes[3]);
}

Pages pages_of(const void* data, size_t bytes) {
  return {static_cast<char*>(const_cast<void*>(data)) - kZone, rounded(rounded(bytes) + 2 * kZone, kPage)};
}

bool zones_whole(const void* data, size_t bytes) {
  const char* p = static_cast<const char*>(data);
  return all_zone(p - kZone, kZone) && all_zone(p + bytes, rounded(bytes) - bytes + kZone);
}

void* Guard::allocate(size_t bytes) {
  char* base = static_cast<char*>(std::aligned_alloc(kPage, pages_of(nullptr, bytes).bytes));
  if (!base) return nullptr;
  char* data = base + kZone;
  std::memset(base, kZoneByte, kZone);
  std::memset(data + bytes, kZoneByte, rounded(bytes) - bytes + kZone);
  fill(data, bytes);
  return data;
}

void Guard::release(void* data, size_t bytes) noexcept {
  const Block block{static_cast<char*>(data), bytes};
  const bool zones = zones_whole(data, bytes);
  fill(block.data, bytes);
  std::lock_guard lock(mutex_);
  if (!zones) {
    if (found_.empty())
      found_ = "expected writes inside arrays, got one beside an array of " + std::to_string(bytes) +
               " bytes, seen when it was freed. Look at what writes through addresses (ctypes, custom kernels).";
    return free(data);
  }
  freed_.push_back(block);
  bytes_ += pages_of(data, bytes).bytes;
  while (bytes_ > kMost) drop_oldest();
}

bool Guard::whole(const Block& b) const {
  for (size_t i = 0; i * 4 + 4 <= b.bytes; ++i) {
    const uint32_t word = poison(i);
    if (std::memcmp(b.data + i * 4, &word, 4) != 0) return false;
  }
  return zones_whole(b.data, b.bytes);
}

/// Under the lock.
void Guard::drop_oldest() {
  const Block b = freed_.front();
  freed_.pop_front();
  bytes_ -= pages_of(b.data, b.bytes).bytes;
  if (!whole(b) && found_.empty())
    found_ = "expected freed memory to be left alone, got a write to an array of " + std::to_string(b.bytes) +
             " bytes after it was freed. Keep the array as long as something uses its address.";
  free(b.data);
}

void Guard::free(void* data) noexcept { std::free(static_cast<char*>(data) - kZone); }

std::string Guard::look(bool all) {
  std::lock_guard lock(mutex_);
  const size_t first = all || freed_.size() < kLately ? 0 : freed_.size() - kLately;
  for (size_t i = first; i < freed_.size() && found_.empty(); ++i) {
    Block& b = freed_[i];
    if ((!all && b.bytes > kSmall) || whole(b)) continue;
    std::swap(b, freed_.front());
    drop_oldest();
  }
  return std::exchange(found_, {});
}

void Guard::clear() {
  std::lock_guard lock(mutex_);
  while (!freed_.empty()) drop_oldest();
  found_.clear();
}

}  // namespace minimx::checked
