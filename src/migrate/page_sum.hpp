// SPDX-License-Identifier: Apache-2.0
//
// The keyed checksum of a page (XXH3, 128 bits), by which pages are checked and found to repeat each other. Pure.

#pragma once

#include <tidemark/page_run.hpp>

// Debian's library is built for the least processor; this picks by run time what the processor has.
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <array>
#include <cstddef>

namespace tidemark::migrate {

using page_key = std::array<std::byte, 192>;
using page_sum = XXH128_hash_t;

inline page_sum sum_of_page(const std::byte* page, const page_key& key) noexcept {
  return XXH3_128bits_withSecret(page, page_bytes, key.data(), key.size());
}

}  // namespace tidemark::migrate
