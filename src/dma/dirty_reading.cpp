// SPDX-License-Identifier: Apache-2.0

#include "dma/dirty_reading.hpp"

#include <algorithm>
#include <cerrno>

#include "backend/device_log.hpp"
#include "core/bitmap.hpp"
#include "dma/dirty_slices.hpp"

namespace tidemark::dma {

namespace {

/// IOVAs to ask about at a time: their bitmap, 256 KiB for pages of 4 KiB, stays in a processor's cache until it is merged.
constexpr std::uint64_t slice_bytes = 8ULL << 30;

std::span<std::uint64_t> zeroed(std::vector<std::uint64_t>& scratch, std::uint64_t bits) {
  scratch.assign(core::words_for(bits), 0);
  return scratch;
}

void read_slice(const lane_place& in, backend::iommu& driver, std::uint64_t page_size, const shown_part& slice,
                dirty_sink& to) {
  in.scratch.resize(core::words_for(slice.at.size / page_size));
  if (driver.query_dirty(slice.at, in.scratch))
    return report(to.from(dirty_origin::container), slice, page_size, in.scratch);
  report_all(to.from(dirty_origin::lost), slice);
}

/// Devices set bits only, so one bitmap takes all of them.
bool read_slice_of_logs(const lane_place& in, std::span<const device> devices, const shown_part& slice, dirty_sink& to) {
  const auto bits = zeroed(in.scratch, slice.at.size / page_bytes);
  bool all_told = true;
  for (const auto& one : devices)
    if (!backend::report_log(one, slice.at, page_bytes, bits)) all_told = false;
  all_told ? report(to.from(dirty_origin::device_log), slice, page_bytes, bits)
           : report_all(to.from(dirty_origin::lost), slice);
  return all_told;
}

}  // namespace

void reading::begin_part() {
  while (next_ < parts_.size() && parts_[next_].at.size == 0) ++next_;
  if (next_ < parts_.size()) left_ = parts_[next_].at;
}

void reading::done(iova_range slice) {
  left_ = behind(left_, slice);
  if (slice.size == 0 || left_.size == 0) skip_part();
}

void reading::skip_part() {
  ++next_;
  begin_part();
}

void read_container(const lane_place& in, reading& todo, dirty_sink& to, std::uint64_t bytes_max) {
  const auto driver = in.file.driver(operation::query_dirty, {});
  const auto info = in.file.info();
  if (!driver || !info) return tell_all(todo, to.from(dirty_origin::lost));
  const auto slice_max = std::min(slice_bytes, (*driver)->dirty_range_bytes_max());
  for (std::uint64_t read = 0; !todo.is_over() && read < bytes_max && !in.closing;) {
    const auto part = todo.now();
    const auto slice = first_slice(in.book, part.at, slice_max);
    if (slice.size != 0) read_slice(in, **driver, info->page_size(), part_of(part, slice), to);
    todo.done(slice);
    read += slice.size;
  }
  if (in.closing) tell_all(todo, to.from(dirty_origin::lost));
}

bool read_logs(const lane_place& in, std::span<const device> devices, reading& todo, dirty_sink& to,
               std::uint64_t bytes_max) {
  bool all_told = true;
  for (std::uint64_t read = 0; !todo.is_over() && read < bytes_max && !in.closing;) {
    const auto part = todo.now();
    const iova_range slice{part.at.iova, std::min(part.at.size, slice_bytes)};
    if (!read_slice_of_logs(in, devices, part_of(part, slice), to)) all_told = false;
    todo.done(slice);
    read += slice.size;
  }
  if (in.closing) tell_all(todo, to.from(dirty_origin::lost));
  return all_told;
}

void tell_all(reading& todo, page_sink& why) {
  for (; !todo.is_over(); todo.skip_part()) report_all(why, todo.now());
}

result<void> query_dirty(const lane_place& in, backend::iommu& driver, iova_range range, std::span<std::uint64_t> dirty) {
  const auto bytes_max = driver.dirty_range_bytes_max();
  const auto info = in.file.info();
  if (!info || bytes_max == 0 || range.size <= bytes_max) return driver.query_dirty(range, dirty);
  if (in.book.cuts(range) || dirty.size() < core::words_for(range.size / info->page_size()))
    return kernel_error(operation::query_dirty, EINVAL, range, "a mapping that it cuts, or a bitmap too small for it");
  std::fill(dirty.begin(), dirty.end(), 0);
  for (auto left = range;;) {
    const auto slice = first_slice(in.book, left, bytes_max);
    if (slice.size == 0) return {};
    const auto pages = slice.size / info->page_size();
    in.scratch.resize(core::words_for(pages));
    if (auto queried = driver.query_dirty(slice, in.scratch); !queried) return queried;
    place_bits(dirty, (slice.iova - range.iova) / info->page_size(), in.scratch, pages);
    left = behind(left, slice);
  }
}

}  // namespace tidemark::dma
