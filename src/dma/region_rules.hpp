// SPDX-License-Identifier: Apache-2.0
//
// What may be a region, what of it an IOMMU can map, and why the rest is not mapped. Pure.
//
// Threading: functions of their arguments.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/error.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

namespace tidemark::dma {

/// IOVAs from here on are beyond the width of every IOMMU. QEMU's guests move a 64-bit BAR there while they size it.
inline constexpr std::uint64_t beyond_address_width = std::uint64_t{1} << 63;

bool wraps(const iova_range& range) noexcept;
bool contains(const iova_range& outer, const iova_range& inner) noexcept;

/// What is wrong with it, wherever it is to be. Its memory is looked at by check_memory().
result<void> check_shape(const region& added);
/// Of ram: the block's part is there.
result<void> check_memory(const region& added, const std::vector<ram_block>& blocks);
/// Of a region with a granule: it suits an IOMMU with this page size. `host`: of its first byte.
result<void> check_granule(const region& added, const std::byte* host, std::uint64_t page_size);

/// Why no container maps it; empty when they do.
std::string why_skipped(const region& added);

/// What an IOMMU with this page size can map of a range, and, when that is nothing, why.
struct fitting_part {
  iova_range mapped;
  std::string reason;
};
fitting_part fit(const iova_range& at, const std::byte* host, std::uint64_t page_size);

}  // namespace tidemark::dma
