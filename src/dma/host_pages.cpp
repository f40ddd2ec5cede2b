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

unsigned processors() noexcept { return std::clamp(std::thread::hardware_concurrency(), 1U, threads_max); }

}  // namespace

bool is_resident(const void* at, std::uint64_t bytes) noexcept {
  std::array<unsigned char, 64> there{};
  const auto pages = (bytes + host_page() - 1) / host_page();
  if (pages > there.size() || ::mincore(const_cast<void*>(at), bytes, there.data()) != 0) return false;
  return std::all_of(there.begin(), there.begin() + static_cast<std::ptrdiff_t>(pages),
                     [](unsigned char page) { return (page & 1U) != 0; });
}

void populate(void* at, std::uint64_t bytes, bool writable) {
  std::atomic<std::uint64_t> next = 0;
  const auto take_slices = [&] {
    for (auto from = next.fetch_add(slice_bytes); from < bytes; from = next.fetch_add(slice_bytes)) {
      auto* const slice = static_cast<std::byte*>(at) + from;
      if (::madvise(slice, std::min(slice_bytes, bytes - from), writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) != 0)
        return;
    }
  };
  std::vector<std::jthread> helpers;
  try {
    while (helpers.size() + 1 < std::min<std::uint64_t>(processors(), bytes / slice_bytes))
      helpers.emplace_back(take_slices);
  } catch (const std::system_error&) {
    // fewer threads do it, too
  }
  take_slices();
}

}  // namespace tidemark::dma
