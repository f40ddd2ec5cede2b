// SPDX-License-Identifier: Apache-2.0

#include "dma/region_rules.hpp"

#include <bit>

#include "core/words.hpp"

namespace tidemark::dma {

namespace {

std::uint64_t address_of(const std::byte* host) noexcept { return reinterpret_cast<std::uintptr_t>(host); }

result<void> misaligned(const region& added, std::string why) {
  return make_error(operation::add_region, errc::region_misaligned, added.at, std::move(why));
}

result<void> unknown(const region& added, std::string why) {
  return make_error(operation::add_region, errc::region_unknown, added.at, std::move(why));
}

}  // namespace

bool wraps(const iova_range& range) noexcept { return range.size != 0 && range.iova + (range.size - 1) < range.iova; }

bool contains(const iova_range& outer, const iova_range& inner) noexcept {
  return inner.iova >= outer.iova && inner.iova - outer.iova <= outer.size &&
         inner.size <= outer.size - (inner.iova - outer.iova);
}

result<void> check_shape(const region& added) {
  if (added.at.size == 0) return misaligned(added, "the size is 0");
  if (wraps(added.at)) return misaligned(added, "the range wraps");
  if (added.granule == 0) return {};
  if (added.kind != region_kind::ram) return misaligned(added, "a granule is for RAM, which alone is discarded");
  if (!std::has_single_bit(added.granule) || added.granule < page_bytes)
    return misaligned(added, "a granule is a power of two of at least 4096 bytes");
  if (added.at.iova % added.granule != 0 || added.at.size % added.granule != 0)
    return misaligned(added, "the range is no whole granules of " + std::to_string(added.granule) + " bytes");
  if (added.offset % page_bytes != 0) return misaligned(added, "granules begin at a page of their RAM block");
  return {};
}

result<void> check_memory(const region& added, const std::vector<ram_block>& blocks) {
  if (added.kind == region_kind::device_memory && added.host == nullptr)
    return unknown(added, "device memory needs the address at which this process sees it");
  if (added.kind != region_kind::ram) return {};
  if (added.block >= blocks.size()) return unknown(added, "no RAM block " + std::to_string(added.block));
  const auto& block = blocks[added.block];
  if (added.offset > block.size || added.at.size > block.size - added.offset)
    return unknown(added, "the region leaves RAM block " + block.name);
  return {};
}

result<void> check_granule(const region& added, const std::byte* host, std::uint64_t page_size) {
  if (added.granule == 0 || !why_skipped(added).empty()) return {};
  if (added.granule % page_size == 0 && address_of(host) % page_size == 0) return {};
  return misaligned(added, "granules of " + std::to_string(added.granule) + " bytes at address " +
                               core::words(address_of(host)) + " are no whole IOMMU pages of " + std::to_string(page_size) +
                               " bytes");
}

std::string why_skipped(const region& added) {
  switch (added.kind) {
    case region_kind::io:
      return "it is no memory: devices cannot reach registers that trap";
    case region_kind::protected_memory:
      return "the memory is protected: only its owner may map it";
    case region_kind::ram:
    case region_kind::device_memory:
      break;
  }
  if (added.at.iova >= beyond_address_width) return "it lies beyond the address width: no IOMMU reaches 2^63";
  return {};
}

fitting_part fit(const iova_range& at, const std::byte* host, std::uint64_t page_size) {
  if ((at.iova - address_of(host)) % page_size != 0)
    return {{},
            "IOVA and address " + core::words(address_of(host)) + " do not lie alike within IOMMU pages of " +
                std::to_string(page_size) + " bytes"};
  const auto front = (page_size - at.iova % page_size) % page_size;
  const auto rest = at.size > front ? at.size - front : 0;
  const iova_range whole{at.iova + front, rest - rest % page_size};
  if (whole.size == 0) return {{}, "it holds no whole IOMMU page of " + std::to_string(page_size) + " bytes"};
  return {whole, {}};
}

}  // namespace tidemark::dma
