// SPDX-License-Identifier: Apache-2.0
//
// Whether a page is zero. Pure; the page may be written meanwhile: then the answer is of some moment in between, for each
// word of it.

#pragma once

#include <tidemark/page_run.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/bitmap_words.hpp"

namespace tidemark::migrate {

inline bool is_zero_page(const std::byte* page) noexcept {
  constexpr std::size_t words = page_bytes / sizeof(std::uint64_t);
  std::uint64_t first = 0;  // decides for nearly all pages that are not zero
  std::memcpy(&first, page, sizeof first);
  return first == 0 && core::bitmap_words::first_nonzero(reinterpret_cast<const std::uint64_t*>(page), words) == words;
}

}  // namespace tidemark::migrate
