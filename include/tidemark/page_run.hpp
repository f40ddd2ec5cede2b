// SPDX-License-Identifier: Apache-2.0
//
// How pages of RAM blocks are named. Threading: values.

#pragma once

#include <cstdint>

namespace tidemark {

/// Bytes of a page of dirty tracking.
inline constexpr std::uint64_t page_bytes = 4096;

/// Index into address_space::blocks().
using block_index = std::uint32_t;

/// Pages [first_page, first_page + pages) of a RAM block.
struct page_run {
  block_index block = 0;
  std::uint64_t first_page = 0;
  std::uint64_t pages = 0;

  friend bool operator==(const page_run&, const page_run&) = default;
};

}  // namespace tidemark
