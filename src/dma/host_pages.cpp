// SPDX-License-Identifier: Apache-2.0

#include "dma/host_pages.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace tidemark::dma {

namespace {

constexpr std::uint64_t slice_bytes = 16ULL << 20;  // for one thread at a time: many faults, and an even share
constexpr unsigned threads_max = 4;

std::uint64_t host_page() noexcept {
  static const auto size = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

/// All but one, on which the program's loop goes on.
unsigned processors() noexcept { return std::clamp(std::thread::hardware_concurrency(), 2U, threads_max + 1) - 1; }

}  // namespace

bool is_resident(const void* at, std::uint64_t bytes) noexcept {
  std::array<unsigned char, slice_bytes / 4096> there;  // of one slice, in the smallest pages; mincore fills it
  for (std::uint64_t from = 0; from < bytes; from += slice_bytes) {
    const auto size = std::min(slice_bytes, bytes - from);
    if (::mincore(static_cast<std::byte*>(const_cast<void*>(at)) + from, size, there.data()) != 0) return false;
    const auto end = there.begin() + static_cast<std::ptrdiff_t>((size + host_page() - 1) / host_page());
    if (!std::all_of(there.begin(), end, [](unsigned char page) { return (page & 1U) != 0; })) return false;
  }
  return true;
}

// Memory that is there takes longer to populate than to pin (some 200 ns a page of 4 KiB), and 2 ns a page to be asked for.
void populate(void* at, std::uint64_t bytes, bool writable) {
  std::vector<std::byte*> slices;
  for (std::uint64_t from = 0; from < bytes; from += slice_bytes) {
    auto* const slice = static_cast<std::byte*>(at) + from;
    if (!is_resident(slice, std::min(slice_bytes, bytes - from))) slices.push_back(slice);
  }
  auto* const end = static_cast<std::byte*>(at) + bytes;
  std::atomic<std::size_t> next = 0;
  const auto take_slices = [&] {
    for (auto which = next++; which < slices.size(); which = next++) {
      const auto size = std::min<std::uint64_t>(slice_bytes, static_cast<std::uint64_t>(end - slices[which]));
      if (::madvise(slices[which], size, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) != 0) return;
    }
  };
  std::vector<std::jthread> helpers;
  try {
    while (helpers.size() + 1 < std::min<std::size_t>(processors(), slices.size())) helpers.emplace_back(take_slices);
  } catch (const std::system_error&) {
    // fewer threads do it, too
  }
  take_slices();
}

}  // namespace tidemark::dma
