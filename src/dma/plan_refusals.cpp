// SPDX-License-Identifier: Apache-2.0

#include "dma/plan_refusals.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <iterator>
#include <string>
#include <utility>

#include "core/words.hpp"
#include "dma/soundness.hpp"

namespace tidemark::dma {

namespace {

operation operation_of(const change& what) { return what.what == change::kind::map ? operation::map : operation::unmap; }

}  // namespace

error malformed(const change& what, std::uint64_t page_size) {
  const char* why = "the range wraps past 2^64";
  std::uint64_t offset = what.at.iova | what.at.size;
  if (what.what == change::kind::map) offset |= std::bit_cast<std::uintptr_t>(what.host);
  if (what.at.size == 0) {
    why = "the range is empty";
  } else if ((offset & (page_size - 1)) != 0) {
    return kernel_error(
        operation_of(what), EINVAL, what.at,
        "address and size have to be multiples of the IOMMU's page of " + std::to_string(page_size) + " bytes");
  }
  return kernel_error(operation_of(what), EINVAL, what.at, why);
}

error already_mapped(const change& what, const iova_range& there, bool by_batch) {
  return kernel_error(operation::map, EEXIST, what.at,
                      core::words(there) + (by_batch ? " is mapped by an earlier change of the batch" : " is mapped there"));
}

error would_cut(const change& what, const iova_range& there) {
  return kernel_error(operation::unmap, EINVAL, what.at,
                      core::words(there) + " was mapped as one, or is part of what was, and cannot be unmapped in part");
}

error outside_window(const change& what, std::span<const iova_range> windows) {
  const auto after = std::upper_bound(windows.begin(), windows.end(), what.at.iova,
                                      [](std::uint64_t iova, const iova_range& window) { return iova < window.iova; });
  std::string why = "no window holds its beginning";
  if (after != windows.begin() && what.at.iova <= last_of(*std::prev(after)))
    why = "the window " + core::words(*std::prev(after)) + " ends too early";
  else if (after != windows.end())
    why += "; the next one is " + core::words(*after);
  else if (after != windows.begin())
    why += "; the last one is " + core::words(*std::prev(after));
  return make_error(operation::map, errc::outside_window, what.at, std::move(why));
}

error no_mapping_left(const change& what, std::uint64_t wanted, std::size_t held, const plan_limits& limits) {
  return make_error(operation::map, errc::no_mapping_left, what.at,
                    "needs 1 mapping at least (" + std::to_string(wanted) + " of the usual size), 0 are left: " +
                        std::to_string(held) + " are held, the kernel allows " + std::to_string(limits.mappings_available) +
                        " more, and this batch uses them up; raise vfio_iommu_type1.dma_entry_limit");
}

error all_or_none(const change& what, const error& first) {
  return {first.code, operation_of(what), what.at, "in one transaction with: " + first.message(),
          "nothing of the transaction was carried out: it is all or none"};
}

}  // namespace tidemark::dma
