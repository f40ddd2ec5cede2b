// SPDX-License-Identifier: Apache-2.0

#include "kernel/model_log.hpp"

#include <linux/vfio.h>

#include <bit>
#include <cerrno>
#include <iterator>

#include "kernel/test_device.h"
#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr std::uint64_t log_page = TIDEMARK_TEST_LOG_PAGE_BYTES;
constexpr std::size_t ranges_max = 4096 / sizeof(vfio_device_feature_dma_logging_range);  // they fit a page

bool overflows(std::uint64_t iova, std::uint64_t length) noexcept { return iova + length < iova; }

bool unaligned(std::uint64_t value, std::uint64_t to) noexcept { return (value & (to - 1)) != 0; }

/// The bits of a program's bitmap, whose memory may not be there.
bool set_bit(std::uint64_t bitmap, std::uint64_t bit) noexcept {
  std::uint8_t byte = 0;
  const std::uint64_t at = bitmap + bit / 8;
  if (!user::read(at, &byte, sizeof(byte))) return false;
  byte = static_cast<std::uint8_t>(byte | 1U << (bit % 8));
  return user::write(at, &byte, sizeof(byte));
}

/// The bitmap is pinned before anything is reported, as far as the range goes.
bool writable(std::uint64_t bitmap, std::uint64_t bits) noexcept {
  const std::uint64_t first = bitmap & ~(user::page_bytes - 1);
  const std::uint64_t end = bitmap + (bits + 7) / 8;
  return end > bitmap && user::populate(first, (end - first + user::page_bytes - 1) & ~(user::page_bytes - 1), true) == 0;
}

}  // namespace

int dma_log::start(std::uintptr_t argument) {
  vfio_device_feature_dma_logging_control request{};
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (request.num_ranges == 0) return -EINVAL;
  if (request.num_ranges > ranges_max) return -E2BIG;
  std::map<std::uint64_t, std::uint64_t> ranges;
  for (std::uint32_t i = 0; i < request.num_ranges; ++i) {
    vfio_device_feature_dma_logging_range range{};
    if (!user::copy_argument_in(request.ranges + i * sizeof(range), &range, sizeof(range))) return -EFAULT;
    if (unaligned(range.iova, request.page_size) || unaligned(range.length, request.page_size)) return -EINVAL;
    if (overflows(range.iova, range.length)) return -EOVERFLOW;
    const std::uint64_t last = range.iova + range.length - 1;
    const auto behind = ranges.upper_bound(last);
    if (behind != ranges.begin() && std::prev(behind)->second >= range.iova) return -EINVAL;
    ranges.emplace(range.iova, last);
  }
  if (active_) return -EINVAL;
  active_ = true;
  ranges_ = std::move(ranges);
  request.page_size = log_page;
  if (user::copy_argument_out(argument, &request, sizeof(request))) return 0;
  stop();
  return -EFAULT;
}

void dma_log::stop() noexcept {
  active_ = false;
  ranges_.clear();
  pages_.clear();
}

bool dma_log::overlaps(std::uint64_t first, std::uint64_t last) const noexcept {
  const auto behind = ranges_.upper_bound(last);
  return behind != ranges_.begin() && std::prev(behind)->second >= first;
}

void dma_log::mark(std::uint64_t iova, std::uint64_t bytes) {
  if (active_ && overlaps(iova, iova + bytes - 1)) pages_.insert(iova / log_page);
}

int dma_log::report(const vfio_device_feature_dma_logging_report& request) {
  if (request.page_size < log_page || !std::has_single_bit(request.page_size)) return -EINVAL;
  if (overflows(request.iova, request.length)) return -EOVERFLOW;
  if (request.length == 0 || !writable(request.bitmap, (request.length - 1) / request.page_size + 1)) return -EFAULT;
  if (unaligned(request.iova | request.length, log_page) || !active_) return -EINVAL;
  const std::uint64_t last = (request.iova + request.length - 1) / log_page;
  auto at = pages_.lower_bound(request.iova / log_page);
  while (at != pages_.end() && *at <= last) {
    if (!set_bit(request.bitmap, (*at * log_page - request.iova) / request.page_size)) return -EFAULT;
    at = pages_.erase(at);
  }
  return 0;
}

}  // namespace tidemark::kernel::modelled
