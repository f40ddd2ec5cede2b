// SPDX-License-Identifier: Apache-2.0
//
// Groups, memory and mappings of an sPAPR container. Its windows have a file of their own.

#include "kernel/model_spapr.hpp"

#include <linux/vfio.h>

#include <algorithm>
#include <cstddef>

#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr std::uint64_t page = user::page_bytes;

bool aligned(std::uint64_t value, std::uint64_t to) noexcept { return (value & (to - 1)) == 0; }

}  // namespace

// --- registered memory ---

registry::region* registry::get(std::uint64_t vaddr, std::uint64_t pages) noexcept {
  for (region& one : regions_) {
    if (one.vaddr != vaddr || one.pages != pages) continue;
    ++one.uses;
    return &one;
  }
  return nullptr;
}

// Pages are locked and pinned before anything looks whether other regions are met.
int registry::add(std::uint64_t vaddr, std::uint64_t pages, region*& made) {
  if (pages == 0) return -ENOMEM;  // there is nothing to allocate
  if (const int failure = locked_.account(pages)) return failure;
  int failure = user::populate(vaddr, pages * page, true) != 0 ? -EFAULT : 0;
  for (const region& one : regions_) {
    const bool apart = one.vaddr + one.pages * page <= vaddr || vaddr + pages * page <= one.vaddr;
    if (failure == 0 && !apart) failure = -EINVAL;
  }
  if (failure != 0) {
    locked_.pages -= pages;
    return failure;
  }
  made = &regions_.emplace_back(region{.vaddr = vaddr, .pages = pages, .uses = 1, .entries = 0});
  return 0;
}

int registry::put(region& which) noexcept {
  if (which.uses > 1) {
    --which.uses;
    return 0;
  }
  if (which.entries > 0) return -EBUSY;
  locked_.pages -= which.pages;
  regions_.remove_if([&](const region& one) { return &one == &which; });
  return 0;
}

registry::region* registry::around(std::uint64_t vaddr, std::uint64_t bytes) noexcept {
  for (region& one : regions_) {
    if (vaddr >= one.vaddr && vaddr + bytes <= one.vaddr + one.pages * page) return &one;
  }
  return nullptr;
}

int spapr::read_memory(std::uintptr_t argument, vfio_iommu_spapr_register_memory& request) const {
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  return request.argsz < sizeof(request) || request.flags != 0 ? -EINVAL : 0;
}

int spapr::register_memory(std::uintptr_t argument) {
  vfio_iommu_spapr_register_memory request{};
  touched_ = true;
  if (const int failure = read_memory(argument, request)) return failure;
  if (!aligned(request.vaddr | request.size, page) || request.vaddr + request.size < request.vaddr) return -EINVAL;
  registry::region* region = registry_.get(request.vaddr, request.size / page);
  if (region != nullptr && std::find(registered_.begin(), registered_.end(), region) != registered_.end()) {
    registry_.put(*region);
    return -EBUSY;
  }
  if (region == nullptr) {
    if (const int failure = registry_.add(request.vaddr, request.size / page, region)) return failure;
  }
  registered_.push_back(region);
  enabled_ = true;
  return 0;
}

// The driver takes a use for the look-up and drops two. So the last container gets its success even when entries still name
// the memory, which then stays registered for as long as the process lives.
int spapr::unregister_memory(std::uintptr_t argument) {
  vfio_iommu_spapr_register_memory request{};
  if (!touched_) return -EPERM;
  if (const int failure = read_memory(argument, request)) return failure;
  if (!aligned(request.vaddr | request.size, page)) return -EINVAL;
  registry::region* region = registry_.get(request.vaddr, request.size / page);
  if (region == nullptr) return -ENOENT;
  const auto at = std::find(registered_.begin(), registered_.end(), region);
  const int answer = at == registered_.end() ? -ENOENT : registry_.put(*region);
  if (answer == 0) registered_.erase(at);
  registry_.put(*region);
  return answer;
}

// --- groups ---

spapr::~spapr() {
  for (auto& one : windows_) drop(one);
  for (registry::region* one : registered_) registry_.put(*one);
  disable();
}

int spapr::offers(std::uintptr_t extension) noexcept {
  return extension == VFIO_SPAPR_TCE_IOMMU || extension == VFIO_SPAPR_TCE_v2_IOMMU ? 1 : 0;
}

int spapr::attach(const model_group& who) {
  if (!who.iommu_backed) return -ENODEV;
  if (!groups_.empty() && !about_.dynamic_windows) return -EBUSY;
  const bool alone = !who.shares_container || (!groups_.empty() && !groups_.front()->shares_container);
  if (!groups_.empty() && alone) return -EPERM;
  if (v2_ != about_.dynamic_windows) return -EPERM;
  if (groups_.empty() && !v2_) {
    windows_[0] =
        window{.start = 0, .bytes = about_.default_window_bytes, .page_shift = 12, .locked_pages = 0, .entries = {}};
  }
  if (groups_.empty() && v2_ && !windows_[0]) default_pending_ = true;
  groups_.push_back(&who);
  return 0;
}

void spapr::detach(const model_group& who) {
  groups_.erase(std::remove(groups_.begin(), groups_.end(), &who), groups_.end());
  if (!v2_) drop(windows_[0]);  // the window is the group's
}

// --- requests ---

int spapr::ioctl(unsigned long request, std::uintptr_t argument) {
  switch (request) {
    case VFIO_IOMMU_SPAPR_TCE_GET_INFO:
      return get_info(argument);
    case VFIO_IOMMU_MAP_DMA:
      return map(argument);
    case VFIO_IOMMU_UNMAP_DMA:
      return unmap(argument);
    case VFIO_IOMMU_ENABLE:
      return v2_ ? -ENOTTY : enable();
    case VFIO_IOMMU_DISABLE:
      if (!v2_) disable();
      return v2_ ? -ENOTTY : 0;
    case VFIO_IOMMU_SPAPR_REGISTER_MEMORY:
      return v2_ ? register_memory(argument) : -ENOTTY;
    case VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY:
      return v2_ ? unregister_memory(argument) : -ENOTTY;
    case VFIO_IOMMU_SPAPR_TCE_CREATE:
      return v2_ ? create(argument) : -ENOTTY;
    case VFIO_IOMMU_SPAPR_TCE_REMOVE:
      return v2_ ? remove(argument) : -ENOTTY;
    default:
      return -ENOTTY;
  }
}

int spapr::enable() {
  if (enabled_) return -EBUSY;
  const std::uint64_t pages = about_.default_window_bytes / page;
  if (pages == 0) return -EPERM;
  if (const int failure = locked_.account(pages)) return failure;
  enabled_pages_ = pages;
  enabled_ = true;
  return 0;
}

void spapr::disable() noexcept {
  enabled_ = false;
  locked_.pages -= std::exchange(enabled_pages_, 0);
}

int spapr::map(std::uintptr_t argument) {
  constexpr std::uint32_t known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  vfio_iommu_type1_dma_map request{};
  if (!enabled_) return -EPERM;
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (request.argsz < sizeof(request) || (request.flags & ~known) != 0) return -EINVAL;
  if (const int failure = create_default_window()) return failure;
  auto* found = find(request.iova);
  if (found == nullptr) return -ENXIO;
  window& in = **found;
  if (!aligned(request.size | request.vaddr, in.page_bytes())) return -EINVAL;
  if ((request.flags & known) == 0 || !aligned(request.iova, in.page_bytes())) return -EINVAL;
  // The driver checks the first page only, and writes beside its table after that; here the rest is refused.
  if (request.size > in.start + in.bytes - request.iova) return -EINVAL;
  const entry first{.vaddr = request.vaddr,
                    .readable = (request.flags & VFIO_DMA_MAP_FLAG_READ) != 0,
                    .writable = (request.flags & VFIO_DMA_MAP_FLAG_WRITE) != 0};
  return build(in, request.iova, request.size, first);
}

// Entry by entry. After a failure those written by this call are clear, and what they held before is lost.
int spapr::build(window& in, std::uint64_t iova, std::uint64_t size, const entry& first) {
  const bool populated = !v2_ && size > 0 && user::populate(first.vaddr, size, first.writable) == 0;
  for (std::uint64_t done = 0; done < size; done += in.page_bytes()) {
    entry next = first;
    next.vaddr += done;
    const int failure = populated ? 0 : use_memory(in, next.vaddr, next.writable);
    if (failure != 0) {
      clear(in, iova, done);
      return failure;
    }
    const auto [at, made] = in.entries.try_emplace(iova + done, next);
    if (!made) forget(in, std::exchange(at->second, next));
  }
  return 0;
}

int spapr::use_memory(const window& in, std::uint64_t vaddr, bool writable) {
  if (!v2_) return user::populate(vaddr, in.page_bytes(), writable) != 0 ? -EFAULT : 0;
  registry::region* region = registry_.around(vaddr, in.page_bytes());
  if (region == nullptr) return -EINVAL;
  ++region->entries;
  return 0;
}

int spapr::unmap(std::uintptr_t argument) {
  vfio_iommu_type1_dma_unmap request{};
  if (!enabled_) return -EPERM;
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (request.argsz < sizeof(request) || request.flags != 0) return -EINVAL;
  if (const int failure = create_default_window()) return failure;
  auto* found = find(request.iova);
  if (found == nullptr) return -ENXIO;
  window& in = **found;
  if (!aligned(request.size | request.iova, in.page_bytes())) return -EINVAL;
  if (request.size > in.start + in.bytes - request.iova) return -EINVAL;
  clear(in, request.iova, request.size);
  return 0;  // and the size field is not told
}

void spapr::clear(window& in, std::uint64_t iova, std::uint64_t size) noexcept {
  if (size == 0) return;
  const auto end = in.entries.upper_bound(iova + (size - 1));
  for (auto at = in.entries.lower_bound(iova); at != end; at = in.entries.erase(at)) forget(in, at->second);
}

void spapr::forget(const window& in, const entry& what) noexcept {
  if (!v2_) return;
  if (registry::region* region = registry_.around(what.vaddr, in.page_bytes())) --region->entries;
}

// --- facts ---

template <class Visitor>
void spapr::visit_extents(Visitor visit) const {
  for (const auto& one : windows_) {
    if (!one) continue;
    model_mapping open;
    for (const auto& [iova, what] : one->entries) {
      const bool goes_on = open.size > 0 && iova == open.iova + open.size && what.vaddr == open.vaddr + open.size &&
                           what.readable == open.readable && what.writable == open.writable;
      if (goes_on) {
        open.size += one->page_bytes();
        continue;
      }
      if (open.size > 0) visit(open);
      open = {.container = 0,
              .iova = iova,
              .size = one->page_bytes(),
              .vaddr = what.vaddr,
              .readable = what.readable,
              .writable = what.writable,
              .pinned = true,
              .vaddr_invalid = false};
    }
    if (open.size > 0) visit(open);
  }
}

void spapr::list(std::size_t container, std::vector<model_mapping>& to) const {
  visit_extents([&](model_mapping extent) {
    extent.container = container;
    to.push_back(extent);
  });
}

std::size_t spapr::mapping_count() const noexcept {
  std::size_t count = 0;
  visit_extents([&](const model_mapping&) { ++count; });
  return count;
}

}  // namespace tidemark::kernel::modelled
