// SPDX-License-Identifier: Apache-2.0
//
// Host addresses that are released and renewed (R24), for memory that moves in this process while devices go on reaching it.
// The kernel's mappings are the book's entries: each gets its address by an ioctl of its own, whatever was asked for as one.
//
// Invariant: an entry is `released` in the book exactly while it is in the kernel, whatever the kernel answers: a release is
// taken back if a part of it fails, and a renewal that fails has done all that lies below.
//
// Threading: one thread at a time, whoever is in the lane.

#pragma once

#include <tidemark/container.hpp>

#include <atomic>
#include <cstdint>
#include <vector>

#include "backend/iommu.hpp"
#include "dma/mapping_book.hpp"

namespace tidemark::dma {

/// A mapping of the kernel and the address it is to have.
struct renewal {
  iova_range at;
  std::byte* host = nullptr;
};

/// What there is to do after the memory moved, ascending; refused as container::async_renew_addresses says. Pure.
result<std::vector<renewal>> plan_renewals(const mapping_book& now, std::vector<moved_memory> all, std::uint64_t page_size);

/// Of every mapping that has its address: all of them or none.
result<void> release_addresses(mapping_book& book, backend::iommu& driver, const container_info& info);

/// In ascending order, up to the first that fails. Once `closing` is true what is left fails as aborted.
result<void> renew_addresses(mapping_book& book, backend::iommu& driver, const container_info& info,
                             std::vector<moved_memory> all, const std::atomic<bool>& closing);

/// errc::addresses_released if a mapping has no address, and something cannot be done for it.
result<void> all_have_addresses(const mapping_book& book, operation what);

}  // namespace tidemark::dma
