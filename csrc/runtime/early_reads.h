// Early reads: the host looks, through memory that was lent to it (NumPy, DLPack), at what a queued operator is yet to
// write. While such an operator waits for its turn the pages are closed to everybody; who reads them outside an
// operator is noted, and gets them opened. A part of checked mode (checked.cc), on Linux.
#pragma once
#include <cstddef>
#include <string>

namespace minimx::checked {

/// Blocks of this alignment, and of a multiple of it, can be closed.
constexpr size_t kPage = 4096;

/// Takes over what happens at a page that is closed, until `stop_watching`, which opens all.
void watch_early_reads();
void stop_watching();

/// Closes the pages [begin, begin + bytes). `blame`: what is said of who reads there. Nothing where too many are
/// closed.
void close_pages(void* begin, size_t bytes, std::string blame);
/// Opens them; true if they were closed.
bool open_pages(void* begin) noexcept;
/// Opens them before they are given back: who comes there later comes too late.
void forget_pages(void* begin) noexcept;
/// What was noted since the last call, the first of it; empty if nothing was.
std::string early_read();

}  // namespace minimx::checked
