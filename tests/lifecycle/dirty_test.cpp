// SPDX-License-Identifier: Apache-2.0
//
// Who tells what devices dirtied (R25 to R29): their own logs, the container, or nobody; on the model here and on a real
// kernel in the test guest.

#include <linux/vfio.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "lifecycle/fixture.hpp"
#include "support/dirty_pages.hpp"

namespace tidemark::lifecycle {

namespace {

using page_set = std::set<std::uint64_t>;
using origins = std::set<dirty_origin>;

constexpr auto by_log = dirty_origin::device_log;
constexpr auto by_container = dirty_origin::container;

page_set pages_from(std::uint64_t first, std::uint64_t count) {
  page_set pages;
  for (std::uint64_t i = 0; i < count; ++i) pages.insert(first + i);
  return pages;
}

/// A test device, with eight pages of the block at IOVA 0, and a second device where a case attaches it.
struct dirty_fixture : fixture {
  dirty_fixture() { begin(); }
  explicit dirty_fixture(const shape& change) : fixture(change) { begin(); }

  void begin() { BOOST_REQUIRE(stage::add(0, 8)); }
  device attached(std::size_t index = 0, attach_options options = {}) {
    auto which = stage::attach(emulated(index), options);
    BOOST_REQUIRE(which);
    return *which;
  }
  void start() {
    BOOST_REQUIRE(done<void>([&](auto token) { space().async_start_tracking(told, std::move(token)); }));
  }
  void stop() {
    BOOST_REQUIRE(done<void>([&](auto token) { space().async_stop_tracking(std::move(token)); }));
  }
  /// What a sync tells, and who told it.
  page_set sync() {
    BOOST_REQUIRE(done<void>([&](auto token) { space().async_sync_dirty(std::move(token)); }));
    return take();
  }
  page_set take() {
    who = std::exchange(told.origins, {});
    return std::exchange(told.pages, {});
  }
  std::size_t calls_of(const std::string& name) {
    const auto calls = kernel().trace();
    return static_cast<std::size_t>(
        std::count_if(calls.begin(), calls.end(), [&](const auto& call) { return call.name == name; }));
  }

  pages_told told;
  origins who;
};

/// Its devices log, and the container knows only that all is dirty, as behind a real IOMMU. The model's only: no such device
/// can be had in the guest.
struct behind_an_iommu : dirty_fixture {
  behind_an_iommu()
      : dirty_fixture([](kernel::model_options& options) {
          options.groups = {{.number = 0, .iommu_backed = true, .devices = {"tidemark-test.0"}}};
        }) {}
};

}  // namespace

BOOST_AUTO_TEST_SUITE(dirty_tracking)

// covers R27 R29
BOOST_FIXTURE_TEST_CASE(r29_devices_that_log_tell_and_the_container_is_not_asked, dirty_fixture) {
  const auto first = attached(0);
  const auto second = attached(1);
  kernel().clear();
  start();
  BOOST_TEST(calls_of("VFIO_IOMMU_DIRTY_PAGES") == 0U);
  BOOST_TEST(ring(first, 3 * page) == 0);
  BOOST_TEST(ring(second, 5 * page) == 0);
  BOOST_TEST((sync() == page_set{3, 5}));
  BOOST_TEST((who == origins{by_log}));
  BOOST_TEST(sync().empty());
  stop();
  BOOST_TEST(calls_of("VFIO_IOMMU_DIRTY_PAGES") == 0U);
}

// covers R25 R29
BOOST_FIXTURE_TEST_CASE(r29_where_one_may_not_log_the_container_tells, dirty_fixture) {
  const auto first = attached(0);
  const auto second = attached(1, {.use_dma_log = false});
  start();
  BOOST_TEST(ring(first, 3 * page) == 0);
  BOOST_TEST(ring(second, 5 * page) == 0);
  BOOST_TEST((sync() == page_set{3, 5}));
  BOOST_TEST((who == origins{by_container}));
  stop();
}

// covers R27: a START that fails on the last device stops those before it, and the container tracks
BOOST_FIXTURE_TEST_CASE(r27_a_start_that_fails_on_the_last_device_stops_the_others, dirty_fixture) {
  const auto first = attached(0);
  const auto second = attached(1);
  kernel().clear();
  kernel().fail_nth(2, ENOMEM, "VFIO_DEVICE_FEATURE");
  start();
  BOOST_TEST(calls_of("VFIO_DEVICE_FEATURE") == 3U);  // START, START, STOP
  const auto warnings = take_warnings();
  BOOST_REQUIRE(warnings.size() == 1U);
  BOOST_TEST(says(warnings[0], second.name() + ": VFIO_DEVICE_FEATURE_DMA_LOGGING_START"));
  BOOST_TEST(says(warnings[0], "no device of the container logs"));
  BOOST_TEST(ring(first, 3 * page) == 0);
  BOOST_TEST((sync() == page_set{3}));
  BOOST_TEST((who == origins{by_container}));
  stop();
  start();  // and the devices log again
  BOOST_TEST(ring(first, 4 * page) == 0);
  BOOST_TEST((sync() == page_set{4}));
  BOOST_TEST((who == origins{by_log}));
  stop();
}

// covers R26: the kernel says that the whole log is lost then, what other reports told included
BOOST_FIXTURE_TEST_CASE(r26_a_report_that_fails_has_all_that_is_held_count_as_dirty_and_the_devices_log_anew,
                        dirty_fixture) {
  const auto writes = attached();
  BOOST_REQUIRE(stage::add(64 * page, 8, 16));
  start();
  BOOST_TEST(ring(writes, 3 * page) == 0);
  kernel().fail_nth(2, EIO, "VFIO_DEVICE_FEATURE");
  auto all = pages_from(0, 8);
  all.merge(pages_from(16, 8));
  BOOST_TEST((sync() == all));
  BOOST_TEST(who.contains(dirty_origin::lost));
  BOOST_TEST(ring(writes, 66 * page) == 0);
  BOOST_TEST((sync() == page_set{18}));
  BOOST_TEST((who == origins{by_log}));
  stop();
}

// covers R26 R29: and so where it is read for the last time
BOOST_FIXTURE_TEST_CASE(r26_a_last_report_that_fails_costs_all_that_is_held_too, dirty_fixture) {
  const auto first = attached(0);
  BOOST_REQUIRE(stage::add(64 * page, 8, 16));
  start();
  kernel().fail_nth(4, EIO, "VFIO_DEVICE_FEATURE");  // two questions to the device that comes, then a REPORT a region
  const auto second = attached(1, {.use_dma_log = false});
  (void)take();
  auto all = pages_from(0, 8);
  all.merge(pages_from(16, 8));
  BOOST_TEST((sync() == all));
  BOOST_TEST(who.contains(dirty_origin::lost));
  BOOST_TEST(sync().empty());
  stop();
}

// covers R27: START of no ranges is EINVAL
BOOST_FIXTURE_TEST_CASE(r27_devices_log_though_there_was_nothing_to_log_when_tracking_started, dirty_fixture) {
  const auto first = attached(0);
  BOOST_REQUIRE(stage::remove(0, 8));
  start();
  const auto second = attached(1);
  BOOST_TEST(take_warnings().empty());
  BOOST_TEST(sync().empty());
  BOOST_REQUIRE(stage::add(0, 8));
  BOOST_TEST(ring(first, 3 * page) == 0);
  BOOST_TEST(ring(second, 5 * page) == 0);
  BOOST_TEST((sync() == page_set{3, 5}));
  BOOST_TEST((who == origins{by_log}));
  stop();
}

// covers R14 R29: no device can dirty it
BOOST_FIXTURE_TEST_CASE(r29_a_region_that_is_not_writable_is_not_asked_about, dirty_fixture) {
  const auto writes = attached();
  BOOST_REQUIRE(stage::remove(0, 8));
  BOOST_REQUIRE(done<void>([&](auto token) { space().async_add({{0, 8 * page}, 0, 0, false}, std::move(token)); }));
  start();
  kernel().clear();
  BOOST_TEST(ring(writes, 3 * page) == EPERM);
  BOOST_TEST(sync().empty());
  BOOST_TEST(calls_of("VFIO_DEVICE_FEATURE") == 0U);
  BOOST_REQUIRE(stage::remove(0, 8));
  BOOST_TEST(take().empty());
  stop();
}

BOOST_FIXTURE_TEST_CASE(r25_one_tracks_at_a_time, dirty_fixture) {
  const auto writes = attached();
  start();
  pages_told other;
  const auto refused = done<void>([&](auto token) { space().async_start_tracking(other, std::move(token)); });
  BOOST_TEST(failure_of(refused).code.value() == EBUSY);
  BOOST_TEST(ring(writes, 3 * page) == 0);
  BOOST_TEST((sync() == page_set{3}));
  stop();
}

// covers R17 R27
BOOST_FIXTURE_TEST_CASE(r17_what_a_device_logged_of_a_region_that_goes_is_told, dirty_fixture) {
  const auto writes = attached();
  BOOST_REQUIRE(stage::add(64 * page, 8, 16));
  start();
  BOOST_TEST(ring(writes, 66 * page) == 0);
  BOOST_TEST(ring(writes, page) == 0);
  BOOST_REQUIRE(stage::remove(64 * page, 8));
  BOOST_TEST((take() == page_set{18}));
  BOOST_TEST((sync() == page_set{1}));
  stop();
}

// covers R27 R30
BOOST_FIXTURE_TEST_CASE(r27_a_region_that_comes_back_where_it_was_costs_nothing, dirty_fixture) {
  const auto writes = attached();
  start();
  BOOST_REQUIRE(stage::remove(0, 8));
  kernel().clear();
  BOOST_REQUIRE(stage::add(0, 8, 8));
  BOOST_TEST(calls_of("VFIO_DEVICE_FEATURE") == 0U);
  BOOST_TEST(ring(writes, 2 * page) == 0);
  BOOST_TEST((sync() == page_set{10}));
  stop();
}

// covers R27: the devices are given other ranges, and nothing is told that was not written
BOOST_FIXTURE_TEST_CASE(r27_a_region_elsewhere_has_its_devices_armed_again_without_loss, dirty_fixture) {
  const auto writes = attached(0);
  const auto other = attached(1);
  start();
  BOOST_TEST(ring(writes, 3 * page) == 0);
  BOOST_REQUIRE(stage::add(4096 * page, 8, 16));
  BOOST_TEST(ring(other, 4098 * page) == 0);
  BOOST_TEST(ring(writes, 5 * page) == 0);
  BOOST_TEST((sync() == page_set{3, 5, 18}));
  BOOST_TEST((who == origins{by_log}));
  BOOST_TEST(sync().empty());
  stop();
}

// covers R27: the kernel maps a region already, and the executor does not know of it yet
BOOST_FIXTURE_TEST_CASE(r27_what_is_written_to_a_region_that_is_just_coming_outlives_a_rearm, dirty_fixture) {
  const auto writes = attached();
  BOOST_REQUIRE(stage::add(64 * page, 32, 16));
  start();
  BOOST_REQUIRE(stage::remove(64 * page, 32));
  std::size_t added = 0;
  const auto count = [&](result<void> outcome) { added += outcome ? 1U : 0U; };
  space().async_add({{64 * page, 32 * page}, 0, 16 * page}, count);
  work();
  BOOST_REQUIRE(ring(writes, 66 * page) == 0);
  space().async_add({{4096 * page, 8 * page}, 0, 48 * page}, count);
  settle();
  BOOST_TEST(added == 2U);
  BOOST_TEST((sync() == page_set{18}));
  BOOST_TEST((who == origins{by_log}));
  stop();
}

// covers R27: between the STOP and the START of a rearm
BOOST_FIXTURE_TEST_CASE(r27_devices_that_do_not_start_again_leave_it_to_the_container, dirty_fixture) {
  const auto writes = attached();
  start();
  BOOST_TEST(ring(writes, 3 * page) == 0);
  kernel().fail_nth(3, ENOMEM, "VFIO_DEVICE_FEATURE");  // REPORT, STOP, START
  BOOST_REQUIRE(stage::add(4096 * page, 8, 16));
  BOOST_TEST(ring(writes, 4098 * page) == 0);
  BOOST_TEST((sync() == page_set{3, 18}));
  BOOST_TEST(who.contains(by_container));
  stop();
}

// covers R27: ranges of one page of them
BOOST_FIXTURE_TEST_CASE(r27_more_regions_than_ranges_are_logged_with_the_smallest_gaps_between_them, dirty_fixture) {
  const auto writes = attached();
  for (std::uint64_t i = 0; i < 300; ++i) BOOST_REQUIRE(stage::add((100 + i * (i < 200 ? 2 : 3)) * page, 1, i % 64));
  start();
  BOOST_TEST(take_warnings().empty());
  BOOST_TEST(ring(writes, 102 * page) == 0);
  BOOST_TEST(ring(writes, (100 + 299 * 3) * page) == 0);
  BOOST_TEST((sync() == page_set{1, 299 % 64}));
  BOOST_TEST((who == origins{by_log}));
  stop();
}

// covers R27 R29
BOOST_FIXTURE_TEST_CASE(r29_a_device_that_comes_while_others_log_logs_too, dirty_fixture) {
  const auto first = attached(0);
  start();
  const auto second = attached(1);
  BOOST_TEST(ring(first, 3 * page) == 0);
  BOOST_TEST(ring(second, 5 * page) == 0);
  BOOST_TEST((sync() == page_set{3, 5}));
  BOOST_TEST((who == origins{by_log}));
  stop();
}

// covers R29
BOOST_FIXTURE_TEST_CASE(r29_a_device_that_comes_and_has_no_log_has_the_container_track, dirty_fixture) {
  const auto first = attached(0);
  start();
  BOOST_TEST(ring(first, 3 * page) == 0);
  const auto second = attached(1, {.use_dma_log = false});
  BOOST_TEST((take() == page_set{3}));  // of the log, read for the last time
  BOOST_TEST(ring(first, 4 * page) == 0);
  BOOST_TEST(ring(second, 5 * page) == 0);
  BOOST_TEST((sync() == page_set{4, 5}));
  BOOST_TEST((who == origins{by_container}));
  stop();
}

// covers R10 R17 R27
BOOST_FIXTURE_TEST_CASE(r17_what_a_device_that_goes_has_logged_is_told, dirty_fixture) {
  const auto first = attached(0);
  const auto second = attached(1);
  start();
  BOOST_TEST(ring(first, 3 * page) == 0);
  BOOST_TEST(ring(second, 5 * page) == 0);
  BOOST_REQUIRE(detach(second));
  BOOST_TEST((take() == page_set{3, 5}));
  BOOST_TEST(ring(first, 6 * page) == 0);
  BOOST_REQUIRE(detach(first));
  BOOST_TEST((take() == page_set{6}));
  BOOST_TEST(sync().empty());
  stop();
}

// covers R29: the first device of a container that comes while tracking
BOOST_FIXTURE_TEST_CASE(r29_a_first_device_that_comes_while_tracking_logs, dirty_fixture) {
  start();
  const auto writes = attached();
  BOOST_TEST(ring(writes, 3 * page) == 0);
  BOOST_TEST((sync() == page_set{3}));
  BOOST_TEST((who == origins{by_log}));
  stop();
}

// covers R27 R29: with a rearm everything would be dirty, so what the devices do not log is, and no more
BOOST_FIXTURE_TEST_CASE(r27_behind_an_iommu_a_region_elsewhere_is_dirty_throughout, behind_an_iommu) {
  const auto found = stage::attach("/sys/bus/platform/devices/tidemark-test.0");
  BOOST_REQUIRE(found);
  const auto& writes = *found;
  start();
  BOOST_TEST(ring(writes, 3 * page) == 0);
  BOOST_REQUIRE(stage::add(4096 * page, 8, 16));
  auto expected = pages_from(16, 8);
  expected.insert(3);
  BOOST_TEST((sync() == expected));
  BOOST_TEST((who == origins{by_log, dirty_origin::untracked}));
  BOOST_TEST((sync() == pages_from(16, 8)));
  BOOST_REQUIRE(stage::remove(4096 * page, 8));
  BOOST_TEST((take() == pages_from(16, 8)));
  BOOST_TEST(sync().empty());
  stop();
}

// covers R10 R27: what is not logged is dirty when the device goes, too
BOOST_FIXTURE_TEST_CASE(r27_behind_an_iommu_what_is_not_logged_is_told_when_the_device_goes, behind_an_iommu) {
  const auto found = stage::attach("/sys/bus/platform/devices/tidemark-test.0");
  BOOST_REQUIRE(found);
  start();
  BOOST_REQUIRE(stage::add(4096 * page, 8, 16));
  BOOST_TEST((sync() == pages_from(16, 8)));
  BOOST_TEST(ring(*found, 4098 * page) == 0);
  BOOST_REQUIRE(detach(*found));
  BOOST_TEST((take() == pages_from(16, 8)));
  stop();
}

// covers R17 R26: what one query can take is cut between mappings, and a mapping that is more than that is all dirty
BOOST_AUTO_TEST_CASE(r26_queries_and_unmaps_over_the_kernels_largest_are_cut_between_mappings) {
  const auto small_queries = [](kernel::model_options& options) {
    options.bitmap_bytes_max = 8;  // 64 pages
    for (auto& group : options.groups) group.logs_dma = false;
  };
  dirty_fixture here{stage::shape(small_queries)};
  const auto writes = here.attached();
  // One region of which the kernel holds two mappings cannot be had with 64 pages of memory: two that are one to a caller.
  container alone(here.space().get_executor(), here.bare_kernel(), here.around().threads(), {.piece_bytes = 32 * page});
  std::vector<std::uint64_t> bits(2);
  const auto done = [&](auto begin) { return here.done<void>(begin); };
  BOOST_REQUIRE(here.detach(writes));
  BOOST_REQUIRE(here.done<container_info>([&](auto token) { alone.async_connect(0, token); }));
  const auto opened = here.done<device>([&](auto token) { alone.async_open_device(0, "tidemark-test.0", token); });
  BOOST_REQUIRE(opened);
  BOOST_REQUIRE(done([&](auto token) { alone.async_map({{0, 64 * page}, here.memory()}, token); }));
  BOOST_REQUIRE(done([&](auto token) { alone.async_map({{64 * page, 60 * page}, here.memory()}, token); }));
  BOOST_REQUIRE(done([&](auto token) { alone.async_start_dirty_tracking(token); }));
  for (const std::uint64_t which : {0U, 63U, 64U, 100U, 123U}) BOOST_TEST(here.ring(*opened, which * page) == 0);
  BOOST_REQUIRE(done([&](auto token) { alone.async_query_dirty({0, 124 * page}, bits, token); }));
  BOOST_TEST(bits[0] == (1ULL | 1ULL << 63));
  BOOST_TEST(bits[1] == (1ULL | 1ULL << 36 | 1ULL << 59));
  BOOST_TEST(here.ring(*opened, 70 * page) == 0);
  const auto unmapped = here.done<std::uint64_t>([&](auto token) {
    alone.async_unmap({0, 124 * page}, std::span(bits), token);
  });
  BOOST_REQUIRE(unmapped);
  BOOST_TEST(*unmapped == 124 * page);
  BOOST_TEST(bits[0] == 0U);
  BOOST_TEST(bits[1] == 1ULL << 6);
  auto closing = *opened;
  BOOST_REQUIRE(done([&](auto token) { alone.async_close_device(closing, token); }));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::lifecycle
