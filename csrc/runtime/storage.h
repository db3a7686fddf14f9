// Memory of arrays: Device, Storage and the caching allocator behind it.
// A Storage is a block of memory with the engine Var that orders its use; arrays and their views share it. Freed blocks
// stay in free lists by size class, because imperative code asks for the same sizes again and again.
#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
#include <string>

#include "common/refcount.h"
#include "engine/engine.h"

namespace minimx {

struct Device {
  enum class Kind : uint8_t { kCpu, kGpu };
  Kind kind = Kind::kCpu;
  uint8_t id = 0;
  bool operator==(const Device&) const = default;
  /// All CPU numbers are names of one memory.
  bool shares_memory(const Device& d) const { return *this == d || (kind == Kind::kCpu && d.kind == Kind::kCpu); }
  std::string str() const { return (kind == Kind::kCpu ? "cpu(" : "gpu(") + std::to_string(id) + ")"; }
};

struct DeviceBlock;  // backend.h
/// The streams of a device. What is put on one runs in order; between two, Backend::order makes one wait for the other.
enum class StreamKind : uint8_t { kCompute, kCopy, kCommunication };

/// A block of memory, and the Var that orders its use. The last owner returns the block to the allocator; queued
/// operators are owners too, so memory outlives them without anyone waiting.
class Storage : public engine::Var {
 public:
  /// Uninitialised memory, aligned to 64 bytes (on a GPU 256). Throws Error(kMemory) after emptying the caches in vain.
  /// On a GPU it is memory for work on stream `home`.
  static Ref<Storage> allocate(size_t bytes, Device device, StreamKind home = StreamKind::kCompute);
  /// A block that a deferred call will write (deferred.h): its memory is allocated when that is run.
  static Ref<Storage> promise(size_t bytes, Device device);
  /// Memory of somebody else (NumPy, DLPack); `done` is called when the last owner is gone, on a GPU once its compute
  /// stream has done what is on it by then. `pinned`: main memory from which a GPU copies by itself.
  static Ref<Storage> borrow(void* data, size_t bytes, Device device, std::function<void()> done, bool read_only,
                             bool pinned = false);

  /// Where there is no memory yet because a deferred call makes it, that runs first. A block that queued operators use
  /// has memory, so their threads, which are without Python's lock, never get into that.
  void* data() const {
    if (!data_) [[unlikely]]
      make();
    return data_;
  }
  /// Runs the deferred calls first if they read or write the block. Asked for under Python's lock.
  engine::Var* var() {
    if (slot_ >= 0) [[unlikely]]
      settle();
    return this;
  }
  /// Deferred calls read or write the block.
  bool waits() const { return slot_ >= 0; }
  /// Owners other than the list of deferred calls.
  uint32_t holders() const { return use_count() - (slot_ >= 0 ? 1 : 0); }
  /// As asked for; the block may be larger.
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  /// Names another CPU number as home of a block that nobody else has seen yet: all CPU numbers are one memory.
  void set_device(Device device) { device_ = device; }
  bool read_only() const { return read_only_; }
  bool pinned() const { return pinned_; }
  /// The stream that memory of a GPU was allocated for.
  StreamKind home() const;
  /// On a GPU: no other stream uses it, or has since that one was last in step with the others.
  bool only_on(StreamKind stream) const {
    return streams_.load(std::memory_order_relaxed) == uint8_t{1} << static_cast<int>(stream);
  }
  /// It is memory of checked mode, between red zones (guard.h).
  bool guarded() const { return block_bytes_ & kGuarded; }
  /// Counts writes after creation: the tape compares it to find saved arrays that were written to in place.
  uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }
  /// Others who see the memory may write to it without counting: it is theirs, or it is lent to them.
  bool shared() const { return (done_ && !private_) || lent_.load(std::memory_order_relaxed) > 0; }
  /// Borrowed memory that nobody else uses any more.
  void set_private() { private_ = true; }
  void lend() {
    var();
    lent_.fetch_add(1, std::memory_order_relaxed);
  }
  void take_back() { lent_.fetch_sub(1, std::memory_order_relaxed); }
  /// On a GPU: puts work that uses the block on `stream` behind what other streams did with it. Called before the work
  /// is enqueued, under the Var.
  void use_on(StreamKind stream) {
    const uint8_t own = uint8_t{1} << static_cast<int>(stream);
    const uint8_t before = streams_.load(std::memory_order_relaxed);
    if (before == own) return;
    if (before & ~own) follow(before & ~own, stream);
    streams_.store(own, std::memory_order_relaxed);
  }

  ~Storage() override;

 private:
  friend class Deferred;
  static constexpr int kNoSlot = -1, kUnmade = -2;

  Storage() = default;
  void acquire(StreamKind home);
  void settle() const;  // deferred.cc
  void make() const;
  void follow(uint8_t streams, StreamKind stream);
  void give_back_borrowed() noexcept;
  void guard();
  void give_back_guarded() noexcept;

  static constexpr size_t kGuarded = 1;  // added to block_bytes_, which is even

  void* data_ = nullptr;
  size_t bytes_ = 0, block_bytes_ = 0;
  Device device_;
  bool read_only_ = false, pinned_ = false, private_ = false;
  // Its place in the list of deferred calls that reads or writes it (deferred.h), or kNoSlot. kUnmade: the call that
  // should have written it failed before there was memory. Changed under Python's lock only.
  int slot_ = kNoSlot;
  std::atomic<uint32_t> version_{0};
  std::atomic<int32_t> lent_{0};
  std::atomic<uint8_t> streams_{0};  // bit k: stream k used it since the others were last in step
  DeviceBlock* block_ = nullptr;     // set only on a GPU
  std::function<void()> done_;       // set only for borrowed memory
};

/// Bytes in use, bytes held in free lists, and the peak of the former since start or reset.
struct MemoryInfo {
  size_t used, cached, peak;
};
MemoryInfo memory_info(Device device = {});
void reset_peak_memory(Device device = {});
/// Gives the free lists back to the system.
void empty_memory_cache(Device device = {});

/// The operator that this thread allocates for, for the table of an out-of-memory error; a literal or interned.
inline thread_local const char* allocating_operator = "array";

}  // namespace minimx
