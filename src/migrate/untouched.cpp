// SPDX-License-Identifier: Apache-2.0

#include "migrate/untouched.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace tidemark::migrate {

namespace {

constexpr std::uint64_t to_the_end = std::numeric_limits<std::uint64_t>::max();

std::uint64_t pages_of(off_t bytes) noexcept { return (static_cast<std::uint64_t>(bytes) + page_bytes - 1) / page_bytes; }

}  // namespace

std::uint64_t untouched_pages::count(block_index block, std::uint64_t page, std::uint64_t most) {
  if (block >= files_.size()) return 0;
  auto& known = known_[block];
  if (page < known.from || page >= known.to) known = ask(files_[block], page);
  return known.is_hole ? std::min(most, known.to - page) : 0;
}

/// A file that cannot say it holds something everywhere.
untouched_pages::stretch untouched_pages::ask(int file, std::uint64_t page) noexcept {
  const auto at = static_cast<off_t>(page * page_bytes);
  const auto data = lseek(file, at, SEEK_DATA);
  if (data < 0) return {page, to_the_end, errno == ENXIO};  // ENXIO: nothing but a hole behind here
  const auto data_page = static_cast<std::uint64_t>(data) / page_bytes;
  if (data_page > page) return {page, data_page, true};
  const auto hole = lseek(file, at, SEEK_HOLE);
  return {page, hole < 0 ? to_the_end : std::max(pages_of(hole), page + 1), false};
}

}  // namespace tidemark::migrate
