// SPDX-License-Identifier: Apache-2.0
//
// How a container is asked for dirty pages: by slices whose bitmaps are not too large, and which do not cut a mapping (the
// kernel refuses that). Pure.

#pragma once

#include <tidemark/error.hpp>

#include <cstdint>
#include <span>

#include "dma/mapping_book.hpp"

namespace tidemark::dma {

/// What of `range` to ask about first: whole mappings, with little or nothing in between, of at most `bytes_max` bytes from
/// the first to the last; one mapping that is larger is a slice of its own. Size 0: nothing is mapped in the range, which
/// cuts no mapping.
iova_range first_slice(const mapping_book& held, iova_range range, std::uint64_t bytes_max);

/// What of `range` is behind a slice of it.
iova_range behind(iova_range range, iova_range slice) noexcept;

/// ORs `count` bits, from the first of `bits` on, to where bit `at` of `into` is.
void place_bits(std::span<std::uint64_t> into, std::uint64_t at, std::span<const std::uint64_t> bits, std::uint64_t count);

}  // namespace tidemark::dma
