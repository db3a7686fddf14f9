#include "runtime/early_reads.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <mutex>

#include "engine/op.h"

namespace minimx::checked {
namespace {

/// Pages that are closed, or were: who comes to them as they are opened finds them here all the same. The handler of
/// the signal reads this without a lock.
struct Closed {
  std::atomic<char*> begin{nullptr};
  std::atomic<size_t> bytes{0};
  std::atomic<bool> shut{false};
  std::string blame;
};

std::array<Closed, 64> g_closed;
std::mutex g_mutex;  // of who closes and who opens outside the handler
size_t g_next = 0;   // the slot to try: the one that was used longest ago
std::atomic<int> g_noted{-1};
struct sigaction g_before;

void open(char* begin, size_t bytes) { mprotect(begin, bytes, PROT_READ | PROT_WRITE); }

bool is_write([[maybe_unused]] const void* context) {
#ifdef __x86_64__
  return static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & 2;
#else
  return false;
#endif
}

/// Opens the pages and lets the access be made again. Operators may have begun before the one that is to write was
/// queued; writes are found by fingerprints.
void at_fault(int signal, siginfo_t* info, void* context) {
  auto* at = static_cast<char*>(info->si_addr);
  bool ours = false;
  for (size_t i = 0; i < g_closed.size(); ++i) {
    char* begin = g_closed[i].begin.load();
    const size_t bytes = g_closed[i].bytes.load();
    if (!begin || at < begin || at >= begin + bytes) continue;
    ours = true;
    if (!g_closed[i].shut.load()) continue;
    int none = -1;
    if (!is_write(context) && engine::t_running == nullptr) g_noted.compare_exchange_strong(none, static_cast<int>(i));
    return open(begin, bytes);
  }
  if (ours) return;  // somebody has opened them meanwhile
  if (g_before.sa_flags & SA_SIGINFO) return g_before.sa_sigaction(signal, info, context);
  if (g_before.sa_handler != SIG_DFL && g_before.sa_handler != SIG_IGN) return g_before.sa_handler(signal);
  sigaction(SIGSEGV, &g_before, nullptr);  // the access is made again, and ends as it would have
}

}  // namespace

void watch_early_reads() {
  struct sigaction mine = {};
  mine.sa_sigaction = at_fault;
  mine.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &mine, &g_before);
}

void stop_watching() {
  for (Closed& c : g_closed)
    if (char* begin = c.begin.load()) forget_pages(begin);
  sigaction(SIGSEGV, &g_before, nullptr);
}

void close_pages(void* begin, size_t bytes, std::string blame) {
  std::lock_guard lock(g_mutex);
  for (size_t tried = 0; tried < g_closed.size(); ++tried) {
    const size_t i = g_next++ % g_closed.size();
    Closed& c = g_closed[i];
    if (c.shut.load() || g_noted.load() == static_cast<int>(i)) continue;
    c.begin = nullptr;
    c.blame = std::move(blame);
    c.bytes = bytes;
    c.shut = true;
    c.begin = static_cast<char*>(begin);
    mprotect(begin, bytes, PROT_NONE);
    return;
  }
}

bool open_pages(void* begin) noexcept {
  std::lock_guard lock(g_mutex);
  for (Closed& c : g_closed) {
    if (c.begin.load() != begin || !c.shut.load()) continue;
    open(static_cast<char*>(begin), c.bytes);
    c.shut = false;
    return true;
  }
  return false;
}

void forget_pages(void* begin) noexcept {
  open_pages(begin);
  std::lock_guard lock(g_mutex);
  for (Closed& c : g_closed)
    if (c.begin.load() == begin) c.begin = nullptr;
}

std::string early_read() {
  std::lock_guard lock(g_mutex);
  const int noted = g_noted.load();
  if (noted < 0) return {};
  std::string blame = g_closed[noted].blame;
  g_noted = -1;
  return blame;
}

}  // namespace minimx::checked
