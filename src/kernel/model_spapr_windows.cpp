// SPDX-License-Identifier: Apache-2.0
//
// The windows of an sPAPR container: what there is, and making and removing them (version 2).

#include <linux/vfio.h>

#include <algorithm>
#include <bit>
#include <cstddef>

#include "kernel/model_spapr.hpp"
#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr std::uint64_t second_window_start = 1ULL << 59;  // where powernv has the window beside the default one
constexpr unsigned table_shift_min = 12;                   // a level of a table is a page at least

/// The bytes of a table of so many levels, or 0 for a window that cannot be, as powernv counts them.
std::uint64_t table_bytes(unsigned page_shift, std::uint64_t window_bytes, std::uint32_t levels,
                          std::uint32_t levels_max) noexcept {
  if (levels == 0 || levels > levels_max || !std::has_single_bit(window_bytes)) return 0;
  const auto window_shift = static_cast<unsigned>(std::countr_zero(window_bytes));
  if (window_shift < page_shift) return 0;
  const unsigned entries_shift = (window_shift - page_shift + levels - 1) / levels;
  const std::uint64_t level_bytes = std::uint64_t{1} << std::max(entries_shift + 3, table_shift_min);
  std::uint64_t left = (window_bytes >> page_shift) * sizeof(std::uint64_t);
  std::uint64_t bytes = 0;
  for (std::uint32_t level = 0; level < levels; ++level) {
    bytes += (left + level_bytes - 1) / level_bytes * level_bytes;
    left = std::max((left + level_bytes - 1) / level_bytes * sizeof(std::uint64_t), level_bytes);
  }
  return bytes;
}

}  // namespace

int spapr::get_info(std::uintptr_t argument) const {
  constexpr std::size_t without_windows = offsetof(vfio_iommu_spapr_tce_info, ddw);
  vfio_iommu_spapr_tce_info info{};
  if (groups_.empty()) return -ENXIO;
  if (!user::copy_argument_in(argument, &info, without_windows)) return -EFAULT;
  if (info.argsz < without_windows) return -EINVAL;
  info.dma32_window_start = 0;
  info.dma32_window_size = static_cast<std::uint32_t>(about_.default_window_bytes);
  info.flags = 0;
  if (v2_) {
    info.flags = VFIO_IOMMU_SPAPR_INFO_DDW;
    info.ddw.pgsizes = about_.page_sizes;
    info.ddw.max_dynamic_windows_supported = static_cast<std::uint32_t>(windows_.size());
    info.ddw.levels = about_.levels;
  }
  const std::size_t told = info.argsz >= sizeof(info) ? sizeof(info) : without_windows;
  return user::copy_argument_out(argument, &info, told) ? 0 : -EFAULT;
}

int spapr::create(std::uintptr_t argument) {
  vfio_iommu_spapr_tce_create request{};
  touched_ = true;
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (request.argsz < sizeof(request) || request.flags != 0) return -EINVAL;
  if (const int failure = create_default_window()) return failure;
  std::uint64_t start = 0;
  if (const int failure = create_window(request.page_shift, request.window_size, request.levels, start)) return failure;
  request.start_addr = start;
  return user::copy_argument_out(argument, &request, sizeof(request)) ? 0 : -EFAULT;
}

int spapr::create_window(unsigned page_shift, std::uint64_t bytes, std::uint32_t levels, std::uint64_t& start) {
  const auto free = std::find_if(windows_.begin(), windows_.end(), [](const auto& one) { return !one; });
  if (free == windows_.end()) return -ENOSPC;
  if (page_shift >= 64 || (about_.page_sizes >> page_shift & 1) == 0) return -EINVAL;
  const std::uint64_t table = table_bytes(page_shift, bytes, levels, about_.levels);
  if (table == 0) return -EINVAL;
  if (const int failure = locked_.account(table / user::page_bytes)) return failure;
  start = free == windows_.begin() ? 0 : second_window_start;
  *free = window{
      .start = start, .bytes = bytes, .page_shift = page_shift, .locked_pages = table / user::page_bytes, .entries = {}};
  return 0;
}

int spapr::create_default_window() {
  if (!default_pending_) return 0;
  std::uint64_t start = 0;
  const int answer = create_window(12, about_.default_window_bytes, 1, start);
  default_pending_ = answer != 0;
  return answer;
}

int spapr::remove(std::uintptr_t argument) {
  vfio_iommu_spapr_tce_remove request{};
  touched_ = true;
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (request.argsz < sizeof(request) || request.flags != 0) return -EINVAL;
  if (default_pending_ && request.start_addr == 0) {
    default_pending_ = false;
    return 0;
  }
  auto* found = find(request.start_addr);
  if (found == nullptr) return -EINVAL;
  drop(*found);
  return 0;
}

void spapr::drop(std::optional<window>& which) noexcept {
  if (!which) return;
  for (const auto& [iova, what] : which->entries) forget(*which, what);
  locked_.pages -= which->locked_pages;
  which.reset();
}

std::optional<spapr::window>* spapr::find(std::uint64_t iova) noexcept {
  const auto at = std::find_if(windows_.begin(), windows_.end(), [&](const auto& one) { return one && one->holds(iova); });
  return at == windows_.end() ? nullptr : &*at;
}

}  // namespace tidemark::kernel::modelled
