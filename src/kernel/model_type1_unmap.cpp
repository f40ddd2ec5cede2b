// SPDX-License-Identifier: Apache-2.0
//
// VFIO_IOMMU_UNMAP_DMA: whole ranges, everything, or just the addresses; with or without the dirty bitmap of what goes.

#include <linux/vfio.h>

#include <cerrno>

#include "kernel/model_type1.hpp"
#include "kernel/user_bitmap.hpp"
#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr std::uint64_t top = ~std::uint64_t{0};
constexpr std::uint32_t dirty_flag = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
constexpr std::uint32_t all_flag = VFIO_DMA_UNMAP_FLAG_ALL;
constexpr std::uint32_t vaddr_flag = VFIO_DMA_UNMAP_FLAG_VADDR;

}  // namespace

int type1::unmap(std::uintptr_t argument) {
  vfio_iommu_type1_dma_unmap request{};
  vfio_bitmap bitmap{};
  if (const int failure = read_unmap(argument, request, bitmap)) return failure;
  if (const int failure = check_unmap(request, bitmap)) return failure;
  if (const int failure = remove_range(request, bitmap)) return failure;  // the size is not told on failure
  return user::copy_argument_out(argument, &request, sizeof(request)) ? 0 : -EFAULT;
}

// What can be checked without looking at the container.
int type1::read_unmap(std::uintptr_t argument, vfio_iommu_type1_dma_unmap& request, vfio_bitmap& bitmap) const {
  const std::uint32_t known = (since(5, 8) ? dirty_flag : 0U) | (since(5, 12) ? all_flag | vaddr_flag : 0U);
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (request.argsz < sizeof(request) || (request.flags & ~known) != 0) return -EINVAL;
  if ((request.flags & dirty_flag) == 0) return 0;
  if ((request.flags & (all_flag | vaddr_flag)) != 0) return -EINVAL;
  if (request.argsz < sizeof(request) + sizeof(bitmap)) return -EINVAL;
  if (!user::copy_argument_in(argument + sizeof(request), &bitmap, sizeof(bitmap))) return -EFAULT;
  return check_bitmap(request.size, bitmap);
}

int type1::check_unmap(const vfio_iommu_type1_dma_unmap& request, const vfio_bitmap& bitmap) const {
  if ((request.flags & vaddr_flag) != 0 && emulated_groups_ > 0) return -EBUSY;
  if ((request.iova & (page_bytes() - 1)) != 0) return -EINVAL;
  if ((request.flags & all_flag) != 0) return request.iova != 0 || request.size != 0 ? -EINVAL : 0;
  if (request.size == 0 || (request.size & (page_bytes() - 1)) != 0) return -EINVAL;
  if (wraps(request.iova, request.size)) return wrap_errno();
  // For three years the check was off by one: a range that ends exactly at 2^64 counted as wrapping.
  const bool off_by_one = since(4, 15) && !since(5, 0);
  if (off_by_one && request.iova + request.size == 0) return -EINVAL;
  if ((request.flags & dirty_flag) != 0 && (!tracking_ || bitmap.pgsize != page_bytes())) return -EINVAL;
  if (v2_ && bisects(request.iova, request.iova + request.size - 1)) return -EINVAL;
  return 0;
}

int type1::remove_range(vfio_iommu_type1_dma_unmap& request, const vfio_bitmap& bitmap) {
  const bool all = (request.flags & all_flag) != 0;
  const std::uint64_t last = all ? top : request.iova + request.size - 1;
  const bool lost = !all && last == top && !since(6, 18);  // the end wraps to 0, and nothing lies below
  auto at = lost ? mappings_.end() : first_ending_at_or_after(request.iova);
  if ((request.flags & vaddr_flag) != 0) return invalidate(at, last, request);

  user_bitmap out(bitmap);
  std::uint64_t removed = 0;
  while (at != mappings_.end() && at->first <= last) {
    if (!v2_ && at->first < request.iova) break;
    if ((request.flags & dirty_flag) != 0) {
      if (!report(*at, request.iova, out) || !out.flush()) return -EFAULT;  // those before are gone all the same
    }
    removed += at->second.size;
    at = remove(at);
  }
  request.size = removed;
  return 0;
}

// All or nothing: meeting an address that is already invalid makes those before it valid again.
int type1::invalidate(table::iterator first, std::uint64_t last, vfio_iommu_type1_dma_unmap& request) {
  std::uint64_t invalidated = 0;
  for (auto at = first; at != mappings_.end() && at->first <= last; ++at) {
    if (!v2_ && at->first < request.iova) break;
    if (at->second.vaddr_invalid) {
      for (auto back = first; back != at; ++back) back->second.vaddr_invalid = false, --invalid_vaddrs_;
      return -EINVAL;
    }
    at->second.vaddr_invalid = true;
    ++invalid_vaddrs_;
    invalidated += at->second.size;
  }
  request.size = invalidated;
  return 0;
}

}  // namespace tidemark::kernel::modelled
