// SPDX-License-Identifier: Apache-2.0

#include "dma/rearm.hpp"

#include <algorithm>
#include <limits>

#include "backend/device_log.hpp"
#include "core/bitmap.hpp"
#include "dma/dirty_slices.hpp"

namespace tidemark::dma {

namespace {

constexpr std::uint64_t all_of_it = std::numeric_limits<std::uint64_t>::max();
constexpr int probed_max = 16;

/// Of a mapping, right after the container began to track.
bool is_all_dirty(const lane_place& in, backend::iommu& driver, std::uint64_t page_size, iova_range mapping) {
  const auto pages = mapping.size / page_size;
  in.scratch.resize(core::words_for(pages));
  if (!driver.query_dirty(mapping, in.scratch)) return true;
  core::bitmap bits(pages);
  return bits.merge(0, pages, in.scratch).told == pages;
}

/// With a device behind an IOMMU in it, type1 tells that all that is pinned is dirty, at every query; else, right after the
/// start, that nothing is but what a mediated device holds pinned. What is read here is in the devices' logs, too.
bool tells_only_all(const lane_place& in, backend::iommu& driver, std::uint64_t page_size, const shown_parts& held) {
  int asked = 0;
  for (const auto& part : held) {
    const auto mapping = first_slice(in.book, part.at, 0);
    if (mapping.size == 0) continue;
    if (!is_all_dirty(in, driver, page_size, mapping)) return false;
    if (++asked == probed_max) break;
  }
  return asked != 0;  // where nothing is mapped it tells of nothing
}

}  // namespace

result<void> start_logs(std::span<const device> of, std::span<const iova_range> ranges) {
  for (std::size_t i = 0; i < of.size(); ++i) {
    auto started = backend::start_log(of[i], ranges, page_bytes);
    if (started) continue;
    auto why = started.error();
    const auto undone = stop_logs(of.first(i));
    why.undone = undone ? "no device of the container logs" : "not undone: " + undone.error().message();
    return why;
  }
  return {};
}

result<void> stop_logs(std::span<const device> of) {
  result<void> outcome;
  for (const auto& one : of)
    if (auto stopped = backend::stop_log(one); !stopped) outcome = stopped;
  return outcome;
}

rearmed rearm(const lane_place& in, std::span<const device> devices, std::span<const iova_range> ranges,
              const shown_parts& logged, const shown_parts& held, dirty_sink& to) {
  const auto found = in.file.driver(operation::start_dirty_tracking, {});
  const auto info = in.file.info();
  if (!found || !info || !(*found)->set_dirty_tracking(true)) return rearmed::cannot_track;
  auto& driver = **found;
  if (tells_only_all(in, driver, info->page_size(), held)) {
    (void)driver.set_dirty_tracking(false);
    return rearmed::knows_only_all;
  }
  reading last_of_logs(logged);
  const bool complete = read_logs(in, devices, last_of_logs, to, all_of_it);
  (void)stop_logs(devices);
  const bool log_again = start_logs(devices, ranges).has_value();
  if (log_again) {
    reading meanwhile(held);
    read_container(in, meanwhile, to, all_of_it);
    (void)driver.set_dirty_tracking(false);
  }
  if (!complete) {
    reading all(held);
    tell_all(all, to.from(dirty_origin::lost));
  }
  return log_again ? rearmed::yes : rearmed::container_goes_on;
}

}  // namespace tidemark::dma
