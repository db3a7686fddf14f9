// Runs CUDA kernels on the CPU, one block after another, every thread of a block on a stack of its own (a fiber).
//
// Threads take turns: one runs until it waits at a barrier or a shuffle, then the next. So barriers and exchanges are
// exact, and what goes wrong is told: threads that wait for ones that never come, accesses outside of an operand
// (which lies between pages that fault, emulator.py), misaligned accesses of vectors, indices beyond a __shared__
// array. Not here: time, caches, races between two barriers (emulator.py runs threads in both orders to find those).
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "include/device.h"

extern "C" {
__attribute__((visibility("hidden"))) dim3 threadIdx, blockIdx, blockDim, gridDim;
}

namespace emulator {

constexpr int kMaxThreads = 1024, kStack = 96 << 10, kMaxShared = 227 << 10;

alignas(1024) char dynamic_shared[kMaxShared + 4096];

// ---- a kernel, as the file made of it registers it ------------------------------------------------------------------

struct KernelEntry {
  const char* name;
  void (*call)(void** args);
  int count;
  int most;                         // threads that a block may have
  const char* kinds;                // of its parameters: p a pointer, f a float, i an integer or bool, s a struct
  const unsigned char* sizes;       // of its parameters, in bytes; of a struct in words of 8
  char *shared_begin, *shared_end;  // its __shared__ arrays
};

template <class T>
struct KindOf {
  static constexpr char value = 's';
};
template <class T>
  requires std::is_arithmetic_v<T>
struct KindOf<T> {
  static constexpr char value = (static_cast<T>(0.5) != static_cast<T>(0)) && sizeof(T) > 1 ? 'f' : 'i';
};
template <class T>
struct KindOf<T*> {
  static constexpr char value = 'p';
};
template <>
struct KindOf<__half> {
  static constexpr char value = 'f';
};
template <>
struct KindOf<__nv_bfloat16> {
  static constexpr char value = 'f';
};

template <auto kFunction>
struct KernelOf;
template <class... Ps, void (*kFunction)(Ps...)>
struct KernelOf<kFunction> {
  static constexpr char kKinds[] = {KindOf<Ps>::value..., 0};
  static constexpr unsigned char kSizes[] = {(KindOf<Ps>::value == 's' ? sizeof(Ps) / 8 : sizeof(Ps))..., 0};
  static void call(void** args) {
    int i = 0;
    // Braces evaluate from left to right.
    struct Run {
      Run(Ps... ps) { kFunction(ps...); }
    };
    Run{*static_cast<Ps*>(args[i++])...};
  }
  static constexpr KernelEntry entry(const char* name, int most, char* begin, char* end) {
    return {name, call, sizeof...(Ps), most, kKinds, kSizes, begin, end};
  }
};

// ---- fibers ---------------------------------------------------------------------------------------------------------

/// Where threads wait for each other: each raises `arrived`, the last one begins a new generation.
struct Meeting {
  unsigned long long generation = 0;
  int arrived = 0;
  const char* what = "";  // the function that they call
  unsigned mask = 0;      // of lanes; of a warp's meetings only
  unsigned long long given[2][32];
};

struct Fiber {
  ucontext_t context;
  jmp_buf at;
  bool started = false;
  int thread = -1;  // which it runs, or -1
  Meeting* meeting = nullptr;
  unsigned long long generation = 0;  // that it waits to end
  const char* what = "";
  bool ready() const { return meeting == nullptr || meeting->generation != generation; }
};

struct Warp {
  unsigned alive = 0;  // lanes that have not returned
  int meetings = 0;
  Meeting meeting[8];  // one for each mask in use
};

struct Machine {
  const KernelEntry* kernel;
  void** args;
  bool backwards;  // the order of threads, and of blocks
  int garbage;     // what memory is full of that nobody wrote
  int threads, begun, alive;
  Fiber* fibers[kMaxThreads];
  int made;     // fibers that exist
  Fiber* turn;  // the one that runs
  Warp warps[kMaxThreads / 32];
  Meeting block;
  jmp_buf scheduler, failed;
  char* message;
  int message_size;
  const void* fault;
};
Machine m;

[[noreturn]] void fail(const char* text) {
  snprintf(m.message, static_cast<size_t>(m.message_size), "%s: block (%u, %u, %u), thread (%u, %u, %u): %s",
           m.kernel->name, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, text);
  _longjmp(m.failed, 1);
}

int thread_number() { return m.turn->thread; }
int lane() { return thread_number() % 32; }

void place_of(int thread) {
  const unsigned t = static_cast<unsigned>(thread);
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
}

void wait_at(Meeting& at, const char* what) {
  Fiber& f = *m.turn;
  f.meeting = &at;
  f.generation = at.generation;
  f.what = what;
  if (_setjmp(f.at) == 0) _longjmp(m.scheduler, 1);
  f.meeting = nullptr;
}

void end(Meeting& at) {
  at.arrived = 0;
  ++at.generation;
}

void meet(Meeting& at, int wanted, const char* what) {
  if (at.arrived == 0) at.what = what;
  if (strcmp(at.what, what) != 0) {
    static char text[128];
    snprintf(text, sizeof text, "calls %s where threads of its warp call %s", what, at.what);
    fail(text);
  }
  if (++at.arrived >= wanted)
    end(at);
  else
    wait_at(at, what);
}

int wanted_of(const Warp& w, unsigned mask) { return __builtin_popcount(mask & w.alive); }

Meeting& meeting_of(Warp& w, unsigned mask) {
  for (int i = 0; i < w.meetings; ++i)
    if (w.meeting[i].mask == mask) return w.meeting[i];
  if (w.meetings == 8) fail("expected at most 8 masks for the exchanges of a warp");
  w.meeting[w.meetings].mask = mask;
  return w.meeting[w.meetings++];
}

const unsigned long long* exchange(unsigned long long value, unsigned mask, const char* what) {
  Warp& w = m.warps[thread_number() / 32];
  if (!(mask >> lane() & 1)) fail("expected the lane in the mask of its own exchange");
  Meeting& at = meeting_of(w, mask);
  const int half = at.generation & 1;
  if (at.arrived == 0) memset(at.given[half], m.garbage, sizeof at.given[half]);
  at.given[half][lane()] = value;
  meet(at, wanted_of(w, mask), what);
  return at.given[half];
}

/// A thread has returned: others of its warp may have waited for nobody else. A barrier of the block wants all threads.
void leave() {
  const int t = thread_number();
  Warp& w = m.warps[t / 32];
  --m.alive;
  w.alive &= ~(1u << t % 32);
  for (int i = 0; i < w.meetings; ++i)
    if (w.meeting[i].arrived > 0 && w.meeting[i].arrived >= wanted_of(w, w.meeting[i].mask)) end(w.meeting[i]);
}

/// What a fiber does: threads that have not begun, as long as there are any; then it leaves the turn to others.
void fiber_main() {
  for (;;) {
    Fiber* self = m.turn;
    while (m.begun < m.threads) {
      const int n = m.begun++;
      self->thread = m.backwards ? m.threads - 1 - n : n;
      place_of(self->thread);
      m.kernel->call(m.args);
      leave();
    }
    self->thread = -1;
    if (_setjmp(self->at) == 0) _longjmp(m.scheduler, 1);
  }
}

Fiber* new_fiber() {
  if (m.fibers[m.made] == nullptr) {
    m.fibers[m.made] = new Fiber;
    m.fibers[m.made]->context.uc_stack.ss_sp = nullptr;
  }
  Fiber* f = m.fibers[m.made++];
  void* stack = f->context.uc_stack.ss_sp;
  if (stack == nullptr) stack = malloc(kStack);
  *f = Fiber{};
  getcontext(&f->context);
  f->context.uc_stack = {stack, 0, kStack};
  f->context.uc_link = nullptr;
  makecontext(&f->context, fiber_main, 0);
  return f;
}

/// The fiber whose turn is next, round robin; null where none can go on.
Fiber* next_fiber(int& after) {
  for (int i = 1; i <= m.made; ++i) {
    const int k = m.backwards ? (after - i + 2 * m.made) % m.made : (after + i) % m.made;
    Fiber* f = m.fibers[k];
    if (f->thread < 0 ? m.begun < m.threads : f->ready()) {
      after = k;
      return f;
    }
  }
  if (m.begun == m.threads) return nullptr;
  after = m.made;
  return new_fiber();
}

[[noreturn]] void deadlock() {
  static char text[256];
  for (int i = 0; i < m.made; ++i)
    if (m.fibers[i]->thread >= 0) {
      m.turn = m.fibers[i];
      place_of(m.turn->thread);
      snprintf(text, sizeof text, "waits at %s for threads that do not come (%d of the block's %d have not returned)",
               m.turn->what, m.alive, m.threads);
      fail(text);
    }
  fail("no thread can go on");
}

void run_block() {
  static int after;
  m.begun = 0;
  m.alive = m.threads;
  m.block = Meeting{};
  for (int w = 0; w * 32 < m.threads; ++w) {
    const int lanes = m.threads - w * 32;
    m.warps[w].alive = lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1;
    for (int i = 0; i < m.warps[w].meetings; ++i) m.warps[w].meeting[i].arrived = 0;
    m.warps[w].meetings = 0;
  }
  after = -1;
  while (m.alive > 0) {
    m.turn = next_fiber(after);
    if (m.turn == nullptr) deadlock();
    if (_setjmp(m.scheduler) == 0) {
      if (m.turn->thread >= 0) place_of(m.turn->thread);
      if (!m.turn->started) {
        m.turn->started = true;
        setcontext(&m.turn->context);
      }
      _longjmp(m.turn->at, 1);
    }
  }
}

// ---- faults ---------------------------------------------------------------------------------------------------------

void on_signal(int number, siginfo_t* info, void*) {
  m.fault = info->si_addr;
  fail(number == SIGFPE ? "division by zero of an integer" : "access outside of the operands");
}

const int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE};
struct sigaction old_actions[3];

void catch_signals() {
  struct sigaction action{};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &action, &old_actions[i]);
}
void release_signals() {
  for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &old_actions[i], nullptr);
}

// ---- a launch -------------------------------------------------------------------------------------------------------

void fill_shared(size_t dynamic) {
  memset(dynamic_shared, m.garbage, dynamic + 64);
  memset(m.kernel->shared_begin, m.garbage, static_cast<size_t>(m.kernel->shared_end - m.kernel->shared_begin));
}

void check_shared(size_t dynamic) {
  for (size_t i = dynamic; i < dynamic + 64; ++i)
    if (dynamic_shared[i] != static_cast<char>(m.garbage)) fail("wrote beyond the dynamic shared memory of its launch");
}

/// Runs a grid. Returns 0, or 1 with a sentence in `message` and, where memory faulted, the address in `fault`.
int run_grid(const KernelEntry& kernel, void** args, const unsigned* grid, const unsigned* block, size_t dynamic,
             bool backwards, int garbage, char* message, int message_size, const void** fault) {
  m.kernel = &kernel;
  m.args = args;
  m.backwards = backwards;
  m.garbage = garbage;
  m.message = message;
  m.message_size = message_size;
  m.fault = nullptr;
  m.made = 0;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  m.threads = static_cast<int>(block[0] * block[1] * block[2]);
  static unsigned long long b, blocks;
  blocks = 1ULL * grid[0] * grid[1] * grid[2];
  catch_signals();
  if (_setjmp(m.failed) != 0) {
    release_signals();
    *fault = m.fault;
    return 1;
  }
  if (m.threads > kernel.most) fail("launched with more threads than its __launch_bounds__");
  for (b = 0; b < blocks; ++b) {
    const unsigned long long n = m.backwards ? blocks - 1 - b : b;
    blockIdx = {static_cast<unsigned>(n % grid[0]), static_cast<unsigned>(n / grid[0] % grid[1]),
                static_cast<unsigned>(n / grid[0] / grid[1])};
    fill_shared(dynamic);
    run_block();
    check_shared(dynamic);
  }
  release_signals();
  return 0;
}

}  // namespace emulator

void __syncthreads() { emulator::meet(emulator::m.block, emulator::m.threads, "__syncthreads"); }
void __syncwarp(unsigned mask) { emulator::exchange(0, mask, "__syncwarp"); }
[[noreturn]] void __trap() { emulator::fail("__trap()"); }

// What -fsanitize=alignment,bounds calls, in place of a library.
extern "C" {
[[noreturn]] void __ubsan_handle_type_mismatch_v1_abort(void*, void* at) {
  emulator::m.fault = at;
  emulator::fail("access that is not aligned to its type");
}
[[noreturn]] void __ubsan_handle_alignment_assumption_abort(void*, void*, void*, void*) {
  emulator::fail("access that is not aligned to its type");
}
[[noreturn]] void __ubsan_handle_out_of_bounds_abort(void*, void*) { emulator::fail("index outside of an array"); }
}
