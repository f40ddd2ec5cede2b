// SPDX-License-Identifier: Apache-2.0

#include "backend/spapr.hpp"

#include <linux/vfio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "backend/map_request.hpp"
#include "core/words.hpp"

namespace tidemark::backend {

namespace {

constexpr std::uint64_t default_page_bytes = 4096;  // of the default window, on every platform
constexpr std::uint64_t window_bytes_max = std::uint64_t{1} << 63;

std::uint64_t host_page_size() noexcept {
  static const auto size = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return size;
}

std::uint64_t last_of(std::uint64_t iova, std::uint64_t size) noexcept { return iova + (size - 1); }

/// Not empty, and up to the end of the address space at most.
bool is_range(iova_range range) noexcept { return range.size != 0 && last_of(range.iova, range.size) >= range.iova; }

bool holds(iova_range window, iova_range what) noexcept {
  return what.iova >= window.iova && what.size <= window.size && what.iova - window.iova <= window.size - what.size;
}

/// Of MAP and UNMAP; 0 when it was done. The driver takes its check of the IOVA for a truth value, so what ought to be
/// EINVAL comes as 1, which a caller of ioctl(2) would take for success.
int errno_of(int answer) noexcept { return answer > 0 ? EINVAL : -answer; }

using core::words;

const char* const raise_the_limit = "raise it (ulimit -l unlimited, or LimitMEMLOCK=infinity)";

std::string why_enable_fails(int errno_value, std::uint64_t window_bytes) {
  if (errno_value != ENOMEM) return "VFIO_IOMMU_ENABLE";
  return "VFIO_IOMMU_ENABLE: the default window counts as locked memory whole, " + std::to_string(window_bytes) +
         " bytes, which is over the limit: " + raise_the_limit;
}

std::string why_create_fails(int errno_value, std::uint64_t window_bytes) {
  const auto request = "VFIO_IOMMU_SPAPR_TCE_CREATE of a window of " + std::to_string(window_bytes) + " bytes: ";
  switch (errno_value) {
    case ENOSPC:
    case EPERM:
      return request + "the container has all the windows the platform gives it";
    case ENOMEM:
      return request + "no memory for its table, or the table is over the locked-memory limit: " + raise_the_limit;
    default:
      return request + "the platform cannot make it";
  }
}

std::string why_register_fails(int errno_value) {
  std::string request = "VFIO_IOMMU_SPAPR_REGISTER_MEMORY";
  switch (errno_value) {
    case ENOMEM:
      return request + ": pinning is over the locked-memory limit: " + raise_the_limit;
    case EFAULT:
      return request + ": the host memory cannot be pinned for writing, which it has to be for any mapping";
    case EINVAL:
    case EBUSY:
      return request + ": the memory meets other memory that this process has registered";
    default:
      return request;
  }
}

std::string why_map_fails(int errno_value) {
  switch (errno_value) {
    case ENOMEM:
      return std::string("the default window's table is over the locked-memory limit: ") + raise_the_limit;
    case EFAULT:
      return "the host memory cannot be pinned with the access asked for";
    case EPERM:
      return "the host memory's pages are smaller than the window's";
    default:
      return {};
  }
}

}  // namespace

// --- what there is ---

result<void> spapr::read_platform(vfio_iommu_spapr_tce_info& told) {
  told = {};
  told.argsz = sizeof told;
  if (const int answer = kernel_.ioctl(file_, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &told); answer < 0)
    return kernel_error(operation::get_info, -answer, {}, "VFIO_IOMMU_SPAPR_TCE_GET_INFO");
  // The kernel makes the default window as large as one of the groups has it, when it is first needed. So what any of them
  // told is never exceeded.
  if (windows_.empty()) windows_.push_back({{told.dma32_window_start, told.dma32_window_size}, 0});
  auto& default_bytes = windows_.front().at.size;
  default_bytes = std::min<std::uint64_t>(default_bytes, told.dma32_window_size);
  if (!v2_) return {};

  const bool makes_windows = (told.flags & VFIO_IOMMU_SPAPR_INFO_DDW) != 0;
  const std::uint64_t sizes = makes_windows ? told.ddw.pgsizes & ~(default_page_bytes - 1) : 0;
  window_page_shift_ = sizes != 0 ? static_cast<unsigned>(std::countr_zero(sizes)) : 0;
  levels_max_ = makes_windows ? std::max(told.ddw.levels, 1U) : 1;
  granule_ = std::max(host_page_size(), std::uint64_t{1} << std::max(window_page_shift_, 12U));
  page_sizes_ = granule_ | (sizes & ~(granule_ - 1));
  return {};
}

result<void> spapr::begin() {
  vfio_iommu_spapr_tce_info told;
  if (auto read = read_platform(told); !read) return read;
  if (v2_) return {};
  if (const int answer = kernel_.ioctl(file_, VFIO_IOMMU_ENABLE); answer < 0)
    return kernel_error(operation::connect_container, -answer, {}, why_enable_fails(-answer, told.dma32_window_size));
  return {};
}

result<container_info> spapr::read_info() {
  vfio_iommu_spapr_tce_info told;
  if (auto read = read_platform(told); !read) return read.error();
  container_info info;
  info.type = v2_ ? iommu_type::spapr_v2 : iommu_type::spapr_v1;
  info.can_cut_maps = false;
  info.can_unmap_gaps = false;
  info.page_sizes = page_sizes_;
  info.mappings_available = std::numeric_limits<std::uint64_t>::max();
  info.tells_mappings_available = true;
  if (!v2_) info.windows.push_back(windows_.front().at);
  return info;
}

// --- what the driver does not refuse ---

/// The last mapping that begins at or before an IOVA.
spapr::held_map::const_iterator spapr::latest(std::uint64_t iova) const {
  const auto after = mappings_.upper_bound(iova);
  return after == mappings_.begin() ? mappings_.end() : std::prev(after);
}

result<void> spapr::check(const mapping& what) const {
  const auto address = reinterpret_cast<std::uintptr_t>(what.host);
  if (!is_range(what.at) || ((what.at.iova | what.at.size | address) & (granule_ - 1)) != 0)
    return kernel_error(operation::map, EINVAL, what.at,
                        "empty, or address, IOVA and size are not multiples of " + std::to_string(granule_) + " bytes");
  const auto before = latest(last_of(what.at.iova, what.at.size));
  if (before != mappings_.end() && last_of(before->first, before->second.size) >= what.at.iova)
    return kernel_error(operation::map, EEXIST, what.at,
                        "the range meets a mapping that is already there: " + words({before->first, before->second.size}));
  return {};
}

result<void> spapr::check_whole(iova_range range) const {
  if (!is_range(range)) return kernel_error(operation::unmap, EINVAL, range, "empty, or over the end of the address space");
  const auto last = last_of(range.iova, range.size);
  auto cut = latest(last);
  const bool at_end = cut != mappings_.end() && last_of(cut->first, cut->second.size) > last;
  if (!at_end) cut = range.iova == 0 ? mappings_.end() : latest(range.iova - 1);
  if (cut == mappings_.end() || last_of(cut->first, cut->second.size) < range.iova) return {};
  return kernel_error(operation::unmap, EINVAL, range,
                      "the range cuts the mapping " + words({cut->first, cut->second.size}));
}

// --- windows ---

spapr::window* spapr::window_around(iova_range at) noexcept {
  const auto found = std::find_if(windows_.begin(), windows_.end(), [&](const window& one) { return holds(one.at, at); });
  return found == windows_.end() ? nullptr : &*found;
}

spapr::window* spapr::window_from(std::uint64_t start) noexcept {
  const auto found = std::find_if(windows_.begin(), windows_.end(), [&](const window& one) { return one.at.iova == start; });
  return found == windows_.end() ? nullptr : &*found;
}

error spapr::no_window(iova_range at, iova_range given) const {
  auto why = "the mapping is in no window: the default one is " + words(windows_.front().at);
  if (given.size != 0) why += ", and the one that the platform would give is " + words(given);
  return kernel_error(operation::map, v2_ ? ENOSPC : ENXIO, at, std::move(why));
}

// Where a window begins is the platform's choice, and known only when it was made.
result<void> spapr::provide_window(iova_range at) {
  if (window_around(at) != nullptr) return {};
  if (window_page_shift_ == 0) return no_window(at, {});
  iova_range given;
  std::uint64_t bytes = at.size;
  for (const bool last_try : {false, true}) {
    if (bytes == 0 || bytes > window_bytes_max) break;
    if (auto created = create_window(bytes, at); !created) return created;
    given = windows_.back().at;
    if (holds(given, at)) return {};
    if (const int answer = remove_window(windows_.size() - 1); answer < 0)
      return kernel_error(operation::map, -answer, at, "VFIO_IOMMU_SPAPR_TCE_REMOVE of the window " + words(given));
    if (last_try || given.iova > at.iova) break;
    bytes = at.iova - given.iova + at.size;
  }
  return no_window(at, given);
}

// A table of one level needs contiguous memory, which large windows do not get (ENOMEM, or EINVAL when it could never be
// had); more levels make every DMA slower. Only those two answers are worth another try.
result<void> spapr::create_window(std::uint64_t bytes, iova_range wanted) {
  vfio_iommu_spapr_tce_create request{};
  request.argsz = sizeof request;
  request.page_shift = window_page_shift_;
  request.window_size = std::bit_ceil(bytes);
  int refused = 0;
  for (request.levels = 1; request.levels <= levels_max_; ++request.levels) {
    const int answer = kernel_.ioctl(file_, VFIO_IOMMU_SPAPR_TCE_CREATE, &request);
    if (answer >= 0) {
      windows_.push_back({{request.start_addr, request.window_size}, 0});
      return {};
    }
    if (refused == 0 || answer != -EINVAL) refused = answer;
    if (answer != -ENOMEM && answer != -EINVAL) break;
  }
  return kernel_error(operation::map, -refused, wanted, why_create_fails(-refused, request.window_size));
}

int spapr::remove_window(std::size_t index) {
  const auto which = windows_.begin() + static_cast<std::ptrdiff_t>(index);
  vfio_iommu_spapr_tce_remove request{};
  request.argsz = sizeof request;
  request.start_addr = which->at.iova;
  const int answer = kernel_.ioctl(file_, VFIO_IOMMU_SPAPR_TCE_REMOVE, &request);
  if (answer >= 0) windows_.erase(which);
  return answer;
}

// --- memory ---

int spapr::memory_request(unsigned long request, std::uint64_t address, std::uint64_t size) {
  vfio_iommu_spapr_register_memory what{};
  what.argsz = sizeof what;
  what.vaddr = address;
  what.size = size;
  return kernel_.ioctl(file_, request, &what);
}

spapr::registrations::iterator spapr::registration_around(std::uint64_t address, std::uint64_t size) {
  const auto after = memory_.upper_bound(address);
  if (after == memory_.begin()) return memory_.end();
  const auto before = std::prev(after);
  return holds({before->first, before->second.size}, {address, size}) ? before : memory_.end();
}

// Each container registers what it maps, even when another one of this process has: its own use keeps the kernel from
// letting the memory go in the middle of a map, which the driver would then take for a success.
result<void> spapr::provide_memory(const mapping& what) {
  const auto address = reinterpret_cast<std::uintptr_t>(what.host);
  if (!v2_ || registration_around(address, what.at.size) != memory_.end()) return {};
  if (const int answer = memory_request(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, address, what.at.size); answer < 0)
    return kernel_error(operation::map, -answer, what.at, why_register_fails(-answer));
  unused_.insert_or_assign(address, registration{what.at.size, 0});
  return {};
}

// --- map and unmap ---

result<void> spapr::map(const mapping& what) {
  if (auto allowed = check(what); !allowed) return allowed;
  drop_unused();  // what was left is not used again: the memory at that address may be another by now
  auto mapped = provide_window(what.at);
  if (mapped) mapped = provide_memory(what);
  if (mapped) mapped = write_entries(what);
  if (!mapped) return taken_back(mapped.error());
  keep(what);
  return {};
}

// When it fails half-way the driver has cleared what it had written, so there is nothing to unmap.
result<void> spapr::write_entries(const mapping& what) {
  auto request = map_request(what);
  if (const int failure = errno_of(kernel_.ioctl(file_, VFIO_IOMMU_MAP_DMA, &request)); failure != 0)
    return kernel_error(operation::map, failure, what.at, why_map_fails(failure));
  return {};
}

void spapr::keep(const mapping& what) {
  held made{.size = what.at.size, .memory = 0, .window = 0};
  window& in = *window_around(what.at);
  ++in.uses;
  made.window = in.at.iova;
  if (v2_) {
    const auto address = reinterpret_cast<std::uintptr_t>(what.host);
    auto of = registration_around(address, what.at.size);
    if (of == memory_.end()) of = memory_.insert(unused_.extract(address)).position;
    ++of->second.uses;
    made.memory = of->first;
  }
  mappings_.emplace(what.at.iova, made);
}

error spapr::taken_back(error failure) {
  const auto prepared = unused_.size() + windows_.size();
  const int refused = drop_unused();
  if (refused < 0)
    failure.undone = "not all that was prepared could be taken back: " +
                     boost::system::error_code(-refused, boost::system::system_category()).message();
  else if (unused_.size() + windows_.size() != prepared)
    failure.undone = "what was prepared for it was taken back";
  return failure;
}

result<std::uint64_t> spapr::unmap(iova_range range, std::span<std::uint64_t> dirty) {
  if (!dirty.empty()) return make_error(operation::unmap, errc::dirty_not_supported, range);
  if (auto whole = check_whole(range); !whole) return whole.error();
  const auto end = mappings_.upper_bound(last_of(range.iova, range.size));
  std::uint64_t bytes = 0;
  for (auto at = mappings_.lower_bound(range.iova); at != end; at = mappings_.erase(at)) {
    if (auto cleared = clear(at->first, at->second); !cleared) {
      error failure = cleared.error();
      failure.range = range;
      failure.detail =
          "at " + words({at->first, at->second.size}) + ", after " + std::to_string(bytes) + " bytes were unmapped";
      return failure;
    }
    bytes += at->second.size;
  }
  if (const int refused = drop_unused(); refused < 0 && warn_)
    warn_(kernel_error(operation::unmap, -refused, range,
                       "devices do not reach it any more, but its memory or its window stays; that is tried again"));
  return bytes;
}

result<void> spapr::clear(std::uint64_t iova, const held& which) {
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof request;
  request.iova = iova;
  request.size = which.size;
  if (const int failure = errno_of(kernel_.ioctl(file_, VFIO_IOMMU_UNMAP_DMA, &request)); failure != 0)
    return kernel_error(operation::unmap, failure);
  --window_from(which.window)->uses;
  if (const auto of = memory_.find(which.memory); v2_ && --of->second.uses == 0) unused_.insert(memory_.extract(of));
  return {};
}

/// Memory first, then windows: the order opposite to map's. 0, or an errno of what the kernel refused.
int spapr::drop_unused() {
  int refused = 0;
  for (auto at = unused_.begin(); at != unused_.end();) {
    const int answer = memory_request(VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, at->first, at->second.size);
    if (answer < 0) refused = answer;
    at = answer < 0 ? std::next(at) : unused_.erase(at);
  }
  for (std::size_t index = windows_.size(); index-- > 1;) {
    if (windows_[index].uses != 0) continue;
    if (const int answer = remove_window(index); answer < 0) refused = answer;
  }
  return refused;
}

}  // namespace tidemark::backend
