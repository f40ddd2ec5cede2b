// SPDX-License-Identifier: Apache-2.0
//
// Groups coming and going, mapping, look-up and DMA. Unmap, dirty tracking and GET_INFO have files of their own.

#include "kernel/model_type1.hpp"

#include <linux/vfio.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <iterator>

#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr std::uint64_t top = ~std::uint64_t{0};
constexpr std::uint32_t access_flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

std::uint64_t last_of(std::uint64_t iova, const mapping& what) noexcept { return iova + what.size - 1; }

bool inside(const std::vector<model_window>& windows, std::uint64_t first, std::uint64_t last) noexcept {
  return std::any_of(windows.begin(), windows.end(),
                     [&](const model_window& w) { return first >= w.first && last <= w.last; });
}

bool overflows(std::uint64_t first, std::uint64_t size) noexcept { return first + size - 1 < first; }

}  // namespace

type1::type1(bool v2, const model_options& options, locked_memory& locked) noexcept
    : v2_(v2), options_(options), locked_(locked), budget_(options.mapping_budget) {}

type1::~type1() {
  for (auto& [iova, what] : mappings_) unpin(what);
}

int type1::offers(std::uintptr_t extension, const model_options& options) noexcept {
  const auto since = [&](unsigned major, unsigned minor) { return options.version >= kernel_version{major, minor}; };
  switch (extension) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
      return 1;
    case VFIO_TYPE1_NESTING_IOMMU:
      return since(6, 13) ? 0 : 1;
    case VFIO_UNMAP_ALL:
      return since(5, 12) ? 1 : 0;
    default:
      return 0;  // VFIO_UPDATE_VADDR and VFIO_DMA_CC_IOMMU depend on the groups, so nobody can say before they are there
  }
}

int type1::check_extension(std::uintptr_t extension) const noexcept {
  if (extension == VFIO_UPDATE_VADDR) return since(5, 12) && emulated_groups_ == 0 ? 1 : 0;
  if (extension == VFIO_DMA_CC_IOMMU) return !backed() || options_.cache_coherent ? 1 : 0;
  return offers(extension, options_);
}

// --- groups ---

int type1::attach(const model_group& who) {
  if (invalid_vaddrs_ > 0) return -EBUSY;  // there is no memory to pin now
  const bool first = backed_groups_ + emulated_groups_ == 0;
  if (!first && (!who.shares_container || unsharing_groups_ > 0)) return -EINVAL;
  if (!who.iommu_backed) {
    ++emulated_groups_;
    unsharing_groups_ += who.shares_container ? 0 : 1;
    return 0;
  }
  if (!backed()) {
    if (const int failure = check_windows_of_mappings()) return failure;
    if (const int failure = pin_all()) return failure;
    windows_ = options_.windows;
  }
  ++backed_groups_;
  unsharing_groups_ += who.shares_container ? 0 : 1;
  return 0;
}

void type1::detach(const model_group& who) {
  const bool iommu_backed = who.iommu_backed;
  unsharing_groups_ -= who.shares_container ? 0 : 1;
  --(iommu_backed ? backed_groups_ : emulated_groups_);
  if (backed_groups_ + emulated_groups_ == 0) {
    while (!mappings_.empty()) remove(mappings_.begin());
  } else if (iommu_backed && !backed()) {
    for (auto& [iova, what] : mappings_) unpin(what);
    windows_ = {{0, top}};  // not "no windows": the list once made stays, with nothing reserved in it
  }
  // The group may have written anything until now; those that stay report only what they write.
  if (iommu_backed && tracking_) {
    for (auto& [iova, what] : mappings_) what.dirty.mark_all();
  }
}

// Whether an IOMMU-backed group can take over what is mapped. Reserved ranges (the gaps between windows) are compared with
// the mappings; the width of the IOMMU only when an earlier one left its windows, else the mapping itself fails.
int type1::check_windows_of_mappings() const {
  if (options_.windows.empty()) return 0;
  const std::uint64_t lowest = options_.windows.front().first;
  const std::uint64_t highest = options_.windows.back().last;
  bool beyond = false;
  for (const auto& entry : mappings_) {
    const std::uint64_t first = entry.first;
    const std::uint64_t last = last_of(first, entry.second);
    if (inside(options_.windows, first, last)) continue;
    if (first >= lowest && last <= highest) return -EINVAL;
    beyond = true;
  }
  if (!beyond) return 0;
  return windows_.empty() ? -EFAULT : -EINVAL;
}

bool type1::inside_window(std::uint64_t first, std::uint64_t last) const noexcept {
  return windows_.empty() || inside(windows_, first, last);
}

std::uint64_t type1::page_sizes() const noexcept { return backed() ? options_.page_sizes : ~(user::page_bytes - 1); }

// --- pinning ---

int type1::pin(mapping& what) {
  const std::uint64_t pages = what.size / user::page_bytes;
  const std::uint64_t allowed = std::min(pages, locked_.room());
  // Pages are pinned one after the other, so memory that is not there answers before a limit that lies behind it.
  if (allowed > 0) {
    if (const int failure = user::populate(what.vaddr, allowed * user::page_bytes, what.writable)) return failure;
  }
  if (allowed < pages) return -ENOMEM;
  locked_.pages += pages;
  what.pinned = true;
  return 0;
}

void type1::unpin(mapping& what) noexcept {
  if (!what.pinned) return;
  locked_.pages -= what.size / user::page_bytes;
  what.pinned = false;
}

int type1::pin_all() {
  for (auto& [iova, what] : mappings_) {
    if (const int failure = pin(what)) {
      for (auto& entry : mappings_) unpin(entry.second);
      return failure;
    }
  }
  return 0;
}

type1::table::iterator type1::remove(table::iterator at) {
  unpin(at->second);
  if (at->second.vaddr_invalid) --invalid_vaddrs_;
  ++budget_;
  return mappings_.erase(at);
}

// --- look-up ---

bool type1::hidden(const table::value_type& entry) const noexcept {
  return !since(6, 18) && entry.first + entry.second.size == 0;
}

type1::table::const_iterator type1::first_ending_at_or_after(std::uint64_t iova) const {
  auto at = mappings_.upper_bound(iova);
  if (at != mappings_.begin()) {
    const auto before = std::prev(at);
    if (!hidden(*before) && last_of(before->first, before->second) >= iova) return before;
  }
  return at == mappings_.end() || hidden(*at) ? mappings_.end() : at;
}

type1::table::iterator type1::first_ending_at_or_after(std::uint64_t iova) {
  const auto found = std::as_const(*this).first_ending_at_or_after(iova);
  return mappings_.erase(found, found);  // erases nothing: a const_iterator made mutable
}

const type1::table::value_type* type1::meeting(std::uint64_t first, std::uint64_t last) const {
  const bool to_the_top = last == top && first != top;
  if (to_the_top && !since(6, 18)) return nullptr;  // the sum wraps to 0, below every mapping
  const auto at = first_ending_at_or_after(first);
  return at != mappings_.end() && at->first <= last ? &*at : nullptr;
}

bool type1::bisects(std::uint64_t first, std::uint64_t last) const {
  const auto* at_first = meeting(first, first);
  if (at_first != nullptr && at_first->first != first) return true;
  const auto* at_last = meeting(last, last);
  return at_last != nullptr && last_of(at_last->first, at_last->second) != last;
}

bool type1::wraps(std::uint64_t first, std::uint64_t size) const noexcept { return overflows(first, size); }

int type1::wrap_errno() const noexcept { return since(6, 18) ? -EOVERFLOW : -EINVAL; }

// --- requests ---

int type1::ioctl(unsigned long request, std::uintptr_t argument) {
  switch (request) {
    case VFIO_IOMMU_GET_INFO:
      return get_info(argument);
    case VFIO_IOMMU_MAP_DMA:
      return map(argument);
    case VFIO_IOMMU_UNMAP_DMA:
      return unmap(argument);
    case VFIO_IOMMU_DIRTY_PAGES:
      return since(5, 8) ? dirty_pages(argument) : -ENOTTY;
    default:
      return -ENOTTY;
  }
}

int type1::map(std::uintptr_t argument) {
  vfio_iommu_type1_dma_map request{};
  const std::uint32_t known = access_flags | (since(5, 12) ? VFIO_DMA_MAP_FLAG_VADDR : 0U);
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (request.argsz < sizeof(request) || (request.flags & ~known) != 0) return -EINVAL;
  if (const int failure = check_map(request)) return failure;
  return (request.flags & VFIO_DMA_MAP_FLAG_VADDR) != 0 ? change_vaddr(request) : insert(request);
}

int type1::check_map(const vfio_iommu_type1_dma_map& request) const {
  if (request.size == 0) return -EINVAL;
  if (wraps(request.iova, request.size) || wraps(request.vaddr, request.size)) return wrap_errno();
  const bool access = (request.flags & access_flags) != 0;
  const bool vaddr = (request.flags & VFIO_DMA_MAP_FLAG_VADDR) != 0;
  if (access == vaddr) return -EINVAL;
  if (((request.size | request.iova | request.vaddr) & (page_bytes() - 1)) != 0) return -EINVAL;
  return 0;
}

int type1::change_vaddr(const vfio_iommu_type1_dma_map& request) {
  const auto* met = meeting(request.iova, request.iova + request.size - 1);
  if (met == nullptr) return -ENOENT;
  if (!met->second.vaddr_invalid || met->first != request.iova || met->second.size != request.size) return -EINVAL;
  mapping& what = mappings_.find(request.iova)->second;
  what.vaddr = request.vaddr;
  what.vaddr_invalid = false;
  --invalid_vaddrs_;
  return 0;
}

int type1::insert(const vfio_iommu_type1_dma_map& request) {
  const std::uint64_t last = request.iova + request.size - 1;
  if (meeting(request.iova, last) != nullptr) return -EEXIST;
  if (budget_ == 0) return -ENOSPC;
  if (!inside_window(request.iova, last)) return -EINVAL;
  mapping what;
  what.size = request.size;
  what.vaddr = request.vaddr;
  what.readable = (request.flags & VFIO_DMA_MAP_FLAG_READ) != 0;
  what.writable = (request.flags & VFIO_DMA_MAP_FLAG_WRITE) != 0;
  if (backed()) {
    if (const int failure = pin(what)) return failure;
  }
  if (tracking_ && !bitmap_possible(what.size)) {
    unpin(what);
    return -EINVAL;
  }
  mappings_.emplace(request.iova, std::move(what));
  --budget_;
  return 0;
}

int type1::write(std::uint64_t iova, const void* from, std::size_t bytes) {
  const auto* data = static_cast<const std::byte*>(from);
  if (invalid_vaddrs_ > 0) return -EBUSY;
  while (bytes > 0) {
    if (meeting(iova, iova) == nullptr) return -EINVAL;
    auto& [start, what] = *first_ending_at_or_after(iova);
    if (!what.writable || !what.readable) return -EPERM;  // the driver asks for both to write
    const std::uint64_t offset = iova - start;
    const std::size_t now = std::min<std::uint64_t>(bytes, what.size - offset);
    if (!user::write(what.vaddr + offset, data, now)) return -EFAULT;
    if (tracking_) what.dirty.mark(offset / page_bytes(), (offset + now - 1) / page_bytes(), what.size / page_bytes());
    iova += now;
    data += now;
    bytes -= now;
  }
  return 0;
}

void type1::list(std::size_t container, std::vector<model_mapping>& to) const {
  for (const auto& [iova, what] : mappings_) {
    to.push_back({.container = container,
                  .iova = iova,
                  .size = what.size,
                  .vaddr = what.vaddr,
                  .readable = what.readable,
                  .writable = what.writable,
                  .pinned = what.pinned,
                  .vaddr_invalid = what.vaddr_invalid});
  }
}

}  // namespace tidemark::kernel::modelled
