// SPDX-License-Identifier: Apache-2.0
//
// VFIO_IOMMU_DIRTY_PAGES, and how a mapping's record becomes words of the program's bitmap.

#include <linux/vfio.h>

#include <bit>
#include <cerrno>
#include <cstddef>

#include "kernel/model_type1.hpp"
#include "kernel/user_bitmap.hpp"
#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr std::uint64_t bits = 64;

std::uint64_t words_of(std::uint64_t pages) noexcept { return pages / bits + (pages % bits != 0 ? 1 : 0); }

/// A word in which the mapping's pages are all dirty, and what lies beyond its end is not.
std::uint64_t full_word(std::uint64_t index, std::uint64_t pages) noexcept {
  if ((index + 1) * bits <= pages) return ~std::uint64_t{0};
  if (index * bits >= pages) return 0;
  return (std::uint64_t{1} << (pages % bits)) - 1;
}

}  // namespace

// --- the record of one mapping ---

void dirty_record::mark(std::uint64_t first_page, std::uint64_t last_page, std::uint64_t pages_of_mapping) {
  if (all_) return;
  if (words_.empty()) words_.resize(words_of(pages_of_mapping));
  for (std::uint64_t page = first_page; page <= last_page; ++page) words_[page / bits] |= std::uint64_t{1} << (page % bits);
}

void dirty_record::forget() noexcept {
  all_ = false;
  words_ = {};  // gives the memory back: most mappings stay clean
}

void dirty_record::clear() noexcept {
  forget();
  stale_ = {};
}

std::uint64_t dirty_record::word(std::uint64_t index, std::uint64_t pages_of_mapping) const noexcept {
  std::uint64_t value = all_ ? full_word(index, pages_of_mapping) : 0;
  if (index < words_.size()) value |= words_[index];
  const std::uint64_t last = pages_of_mapping / bits;
  if (index >= last && index - last < stale_.size()) value |= stale_[index - last];
  return value;
}

void dirty_record::keep_stale(std::uint64_t index, std::uint64_t value, std::uint64_t pages_of_mapping) noexcept {
  const std::uint64_t last = pages_of_mapping / bits;
  if (index >= last) stale_[index - last] = value & ~full_word(index, pages_of_mapping);
}

// --- requests ---

int type1::dirty_pages(std::uintptr_t argument) {
  constexpr std::uint32_t start = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
  constexpr std::uint32_t stop = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
  constexpr std::uint32_t get = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
  if (!v2_) return -EACCES;
  vfio_iommu_type1_dirty_bitmap request{};
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (request.argsz < sizeof(request)) return -EINVAL;
  switch (request.flags) {
    case start:
      return start_tracking();
    case stop:
      return stop_tracking();
    case get:
      return get_bitmap(argument + sizeof(request), request.argsz);
    default:
      return -EINVAL;  // none, several, or unknown ones
  }
}

int type1::start_tracking() {
  if (tracking_) return 0;
  for (const auto& [iova, what] : mappings_) {
    if (!bitmap_possible(what.size)) return -EINVAL;
  }
  tracking_ = true;
  return 0;
}

int type1::stop_tracking() noexcept {
  if (!tracking_) return 0;
  tracking_ = false;
  for (auto& [iova, what] : mappings_) what.dirty.clear();
  return 0;
}

int type1::get_bitmap(std::uintptr_t argument, std::uint32_t argsz) {
  vfio_iommu_type1_dirty_bitmap_get request{};
  if (argsz - sizeof(vfio_iommu_type1_dirty_bitmap) < sizeof(request)) return -EINVAL;
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (const int failure = check_get(request.iova, request.size, request.bitmap)) return failure;

  const std::uint64_t last = request.iova + request.size - 1;
  user_bitmap out(request.bitmap);
  for (auto at = mappings_.lower_bound(request.iova); at != mappings_.end() && at->first <= last; ++at) {
    if (!report(*at, request.iova, out)) return -EFAULT;
    at->second.dirty.forget();
  }
  return out.flush() ? 0 : -EFAULT;
}

int type1::check_get(std::uint64_t iova, std::uint64_t size, const vfio_bitmap& bitmap) const {
  if (size == 0) return -EINVAL;
  // Before 6.18 a range that ends exactly at 2^64 counted as wrapping, too.
  if (wraps(iova, size) || (!since(6, 18) && iova + size == 0)) return wrap_errno();
  if (const int failure = check_bitmap(size, bitmap)) return failure;
  if (bitmap.pgsize != page_bytes() || ((iova | size) & (page_bytes() - 1)) != 0) return -EINVAL;
  if (!tracking_ || bisects(iova, iova + size - 1)) return -EINVAL;
  return 0;
}

int type1::check_bitmap(std::uint64_t size, const vfio_bitmap& bitmap) const {
  if (!user::plausible(reinterpret_cast<std::uintptr_t>(bitmap.data), bitmap.size)) return -EINVAL;
  if (bitmap.pgsize == 0) return -EINVAL;
  const std::uint64_t pages = size >> std::countr_zero(std::uint64_t{bitmap.pgsize});
  if (pages == 0 || bitmap.size == 0 || bitmap.size > options_.bitmap_bytes_max) return -EINVAL;
  return bitmap.size < words_of(pages) * sizeof(std::uint64_t) ? -EINVAL : 0;
}

// One page fewer than the bits of the largest bitmap: the driver counts pages in an int.
bool type1::bitmap_possible(std::uint64_t size) const noexcept {
  return size / page_bytes() < options_.bitmap_bytes_max * 8;
}

// Writes the words the mapping covers. The first is ORed with what the program has there when the mapping begins within a
// word; every other is overwritten, the last one's bits beyond the mapping with what is stale: 0, as a rule.
bool type1::report(table::value_type& entry, std::uint64_t base_iova, user_bitmap& out) const {
  auto& [iova, what] = entry;
  const std::uint64_t pages = what.size / page_bytes();
  const std::uint64_t offset = (iova - base_iova) / page_bytes();
  const std::uint64_t shift = offset % bits;
  const std::uint64_t words = words_of(pages + shift);
  if (backed() && what.pinned) what.dirty.mark_all();  // the IOMMU does not tell what its devices write
  std::uint64_t carried = 0;
  if (shift != 0 && !out.load(offset / bits, carried)) return false;
  for (std::uint64_t index = 0; index < words; ++index) {
    const std::uint64_t word = what.dirty.word(index, pages);
    const std::uint64_t shifted = carried | (word << shift);
    if (!out.store(offset / bits + index, shifted)) return false;
    if (shift == 0) continue;
    what.dirty.keep_stale(index, shifted, pages);
    carried = word >> (bits - shift);
  }
  return true;
}

}  // namespace tidemark::kernel::modelled
