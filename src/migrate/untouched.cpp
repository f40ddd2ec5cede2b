// SPDX-License-Identifier: Apache-2.0

#include "migrate/untouched.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace tidemark::migrate {

namespace {

std::uint64_t pages_of(off_t bytes) noexcept { return (static_cast<std::uint64_t>(bytes) + page_bytes - 1) / page_bytes; }

/// A file that cannot say it holds something everywhere.
std::uint64_t hole_at(const ram_block& block, std::uint64_t page, std::uint64_t most) noexcept {
  if (block.memory_file < 0) return 0;
  const auto data = lseek(block.memory_file, static_cast<off_t>(page * page_bytes), SEEK_DATA);
  if (data < 0) return errno == ENXIO ? most : 0;  // ENXIO: nothing but a hole behind here
  return std::min(most, static_cast<std::uint64_t>(data) / page_bytes - page);
}

}  // namespace

std::uint64_t untouched_pages::count(block_index index, const ram_block& block, std::uint64_t page, std::uint64_t most) {
  if (block.memory_file < 0) return 0;
  if (index >= known_.size()) known_.resize(index + 1);
  auto& known = known_[index];
  const bool is_known = page >= known.from && page < known.to && (how_ == holes::remembered || !known.is_hole);
  if (!is_known) known = ask(block, page);
  return known.is_hole ? std::min(most, known.to - page) : 0;
}

// To look for the end of what is there takes as long as there is much of it: not where all of it is.
untouched_pages::stretch untouched_pages::ask(const ram_block& block, std::uint64_t page) noexcept {
  struct stat about {};
  constexpr std::uint64_t st_blocks_bytes = 512;
  const bool known = fstat(block.memory_file, &about) == 0;
  if (known && static_cast<std::uint64_t>(about.st_blocks) * st_blocks_bytes >= static_cast<std::uint64_t>(about.st_size))
    return {0, block.pages(), false};
  if (const auto hole = hole_at(block, page, block.pages() - page); hole != 0) return {page, page + hole, true};
  const auto end = lseek(block.memory_file, static_cast<off_t>(page * page_bytes), SEEK_HOLE);
  return {page, end < 0 ? block.pages() : std::max(pages_of(end), page + 1), false};
}

}  // namespace tidemark::migrate
