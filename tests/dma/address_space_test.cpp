// SPDX-License-Identifier: Apache-2.0
//
// An address space on the model kernel, every step by hand: what the kernel holds is what the address space says, and no
// page that a device dirtied is lost.

#include <tidemark/address_space.hpp>

#include <linux/vfio.h>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <map>

#include "dma/bench.hpp"
#include "support/dirty_pages.hpp"

using namespace tidemark;
using namespace tidemark::tests;
using pages = std::set<std::uint64_t>;

namespace {

kernel::model_options untracked() {
  kernel::model_options options;
  options.version = {5, 7};  // knows no dirty tracking
  return apart(options);
}

/// An address space of two blocks of 64 pages, with up to two containers of a test device each.
struct fixture : bench {
  explicit fixture(kernel::model_options options = apart()) : bench(std::move(options)) {
    for (const auto* block : {&first_block, &second_block})
      BOOST_REQUIRE(space.add_block({"ram", block->data(), block->size()}));
  }

  /// Container 0 is of group 0, container 1 of group 1, each with its device.
  void attach_containers(std::size_t count) {
    for (unsigned group = 0; group < count; ++group) BOOST_REQUIRE(attach(group));
  }
  result<device> attach(unsigned group) {
    auto attached = bench::attach(space, test_device(group));
    if (attached) devices.push_back(*attached);
    return attached;
  }
  result<void> add(const region& added) {
    return done([&](auto token) { space.async_add(added, std::move(token)); });
  }
  result<void> remove(iova_range range) {
    return done([&](auto token) { space.async_remove(range, std::move(token)); });
  }
  result<void> start() {
    return done([&](auto token) { space.async_start_tracking(sink, std::move(token)); });
  }
  result<void> sync() {
    return done([&](auto token) { space.async_sync_dirty(std::move(token)); });
  }
  result<void> stop() {
    return done([&](auto token) { space.async_stop_tracking(std::move(token)); });
  }

  /// What the kernel holds is, in each of so many containers, what the address space says.
  bool agrees() const { return agrees_in(devices.size()); }
  bool agrees_in(std::size_t attached) const {
    using entry = std::array<std::uint64_t, 4>;
    std::set<entry> said;
    for (const auto& shown : space.regions())
      said.insert({shown.at.iova, shown.at.size,
                   reinterpret_cast<std::uintptr_t>(space.blocks()[shown.block].host + shown.offset), shown.writable});
    std::map<std::size_t, std::set<entry>> held;
    for (const auto& mapped : model.mappings())
      held[mapped.container].insert({mapped.iova, mapped.size, mapped.vaddr, mapped.writable});
    const auto agree = [&](const auto& in) { return in.second == said; };
    return held.size() == (said.empty() ? 0 : attached) && std::all_of(held.begin(), held.end(), agree);
  }

  /// The n-th request of this kind from now on, from 1, fails.
  void refuse_nth(unsigned long what, int n, int errno_value) {
    files.set_rule([=, left = n](unsigned long request, std::uintptr_t) mutable {
      return request == what && --left == 0 ? std::optional(-errno_value) : std::nullopt;
    });
  }

  memory first_block{64};
  memory second_block{64};
  pages_sink sink;
  address_space space{loop.get_executor(), around};
  std::vector<device> devices;
};

region at(std::uint64_t iova_pages, std::uint64_t count, std::uint64_t offset_pages = 0, block_index block = 0) {
  return {{iova_pages * page, count * page}, block, offset_pages * page, true};
}

errc code_of(const result<void>& failed) {
  BOOST_REQUIRE(!failed);
  BOOST_REQUIRE((failed.error().code.category() == tidemark_category()));
  return static_cast<errc>(failed.error().code.value());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(address_spaces)

BOOST_AUTO_TEST_CASE(blocks_are_whole_pages) {
  fixture on;
  BOOST_TEST(
      (on.space.add_block({"x", on.first_block.data() + 1, page}).error().code == make_error_code(errc::region_misaligned)));
  BOOST_TEST(
      (on.space.add_block({"x", on.first_block.data(), page + 1}).error().code == make_error_code(errc::region_misaligned)));
  BOOST_TEST((on.space.add_block({"x", on.first_block.data(), 0}).error().code == make_error_code(errc::region_misaligned)));
  BOOST_TEST(on.space.blocks().size() == 2U);
}

// covers R14
BOOST_FIXTURE_TEST_CASE(a_region_is_mapped_in_every_container_until_it_is_removed, fixture) {
  attach_containers(2);
  BOOST_TEST(add(at(0, 4)).has_value());
  auto read_only = at(16, 4, 60, 1);
  read_only.writable = false;
  BOOST_TEST(add(read_only).has_value());
  BOOST_TEST(model.mapping_count() == 4U);
  BOOST_TEST(agrees());
  BOOST_TEST(remove(at(0, 4).at).has_value());
  BOOST_TEST(model.mapping_count() == 2U);
  BOOST_TEST(agrees());
}

BOOST_FIXTURE_TEST_CASE(a_region_that_cannot_be_is_refused_before_anything_is_mapped, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(8, 8)));
  const auto calls = files.ioctls();
  for (const auto& met : {at(8, 8), at(0, 9), at(15, 1), at(4, 20), at(10, 2)})
    BOOST_TEST((code_of(add(met)) == errc::region_overlaps));
  for (const auto& odd : {region{{0, 0}, 0, 0}, region{{0 - page, 2 * page}, 0, 0}})
    BOOST_TEST((code_of(add(odd)) == errc::region_misaligned));
  for (const auto& strange :
       {at(32, 1, 0, 2), at(32, 65), at(32, 1, 64), at(32, 2, 63), region{{32 * page, page}, 0, 0 - page}})
    BOOST_TEST((code_of(add(strange)) == errc::region_unknown));
  BOOST_TEST(files.ioctls() == calls);
  BOOST_TEST(agrees());
}

BOOST_FIXTURE_TEST_CASE(only_exactly_what_was_added_can_be_removed, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(8, 8)));
  for (const iova_range range :
       {at(8, 4).at, at(8, 9).at, at(9, 7).at, at(0, 8).at, iova_range{8 * page, 0}, iova_range{0 - page, 2 * page}})
    BOOST_TEST((code_of(remove(range)) == errc::region_unknown));
  BOOST_TEST(agrees());
  BOOST_TEST(remove(at(8, 8).at).has_value());
}

BOOST_FIXTURE_TEST_CASE(a_region_may_end_at_the_last_byte_of_the_address_space, fixture) {
  attach_containers(1);  // where nothing is mapped: see regions_test
  const region last{{0 - page, page}, 0, 0, true};
  BOOST_TEST(add(last).has_value());
  BOOST_TEST((code_of(add(last)) == errc::region_overlaps));
}

// covers R9
BOOST_FIXTURE_TEST_CASE(attaching_replays_every_region, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(0, 4)));
  BOOST_REQUIRE(add(at(8, 4)));
  BOOST_TEST(attach(1).has_value());
  BOOST_TEST(model.mapping_count() == 4U);
  BOOST_TEST(agrees());
}

// covers R9
BOOST_FIXTURE_TEST_CASE(a_replay_that_fails_is_undone_and_the_container_takes_no_part, fixture) {
  attach_containers(1);
  for (std::uint64_t i = 0; i < 3; ++i) BOOST_REQUIRE(add(at(8 * i, 4)));
  for (int n = 1; n <= 3; ++n) {
    refuse_nth(VFIO_IOMMU_MAP_DMA, n, ENOMEM);
    const auto failed = attach(1);
    BOOST_TEST(failed.error().code.value() == ENOMEM);
    BOOST_TEST(!failed.error().undone.empty());
    BOOST_TEST(agrees_in(1));
  }
  BOOST_TEST(add(at(40, 4)).has_value());
  BOOST_TEST(agrees_in(1));
  BOOST_TEST(attach(1).has_value());
  BOOST_TEST(agrees());
}

// covers R9: the mappings go with the group, whatever an unmap would answer
BOOST_FIXTURE_TEST_CASE(a_replay_that_fails_leaves_nothing_even_where_unmaps_fail, fixture) {
  BOOST_REQUIRE(add(at(0, 4)));
  BOOST_REQUIRE(add(at(8, 4)));
  files.set_rule([n = 0](unsigned long request, std::uintptr_t) mutable -> std::optional<int> {
    if (request == VFIO_IOMMU_UNMAP_DMA || (request == VFIO_IOMMU_MAP_DMA && ++n == 2)) return -EIO;
    return std::nullopt;
  });
  BOOST_TEST(!attach(0));
  BOOST_TEST(model.mapping_count() == 0U);
  BOOST_TEST(model.open_descriptors() == 0U);
  files.set_rule({});
}

// covers R11
BOOST_FIXTURE_TEST_CASE(a_device_is_attached_once, fixture) {
  attach_containers(1);
  const auto again = attach(0);
  BOOST_TEST(again.error().code.value() == EBUSY);
  BOOST_TEST(again.error().message().find("tidemark-test.0 is already attached") != std::string::npos);
  BOOST_TEST(add(at(0, 4)).has_value());
  BOOST_TEST(agrees());
}

// covers R22
BOOST_FIXTURE_TEST_CASE(a_map_that_fails_in_one_container_is_undone_in_the_other, fixture) {
  attach_containers(2);
  for (int n = 1; n <= 2; ++n) {
    refuse_nth(VFIO_IOMMU_MAP_DMA, n, ENOMEM);
    const auto failed = add(at(0, 4));
    BOOST_TEST(failed.error().code.value() == ENOMEM);
    BOOST_TEST((failed.error().range == at(0, 4).at));
    BOOST_TEST(!failed.error().undone.empty());
    BOOST_TEST(space.regions().empty());
    BOOST_TEST(agrees());
  }
  BOOST_TEST(add(at(0, 4)).has_value());
}

// covers R22: what could not be taken back is not said to have been
BOOST_FIXTURE_TEST_CASE(a_map_whose_undoing_fails_too_says_what_is_left, fixture) {
  attach_containers(2);
  files.set_rule([n = 0](unsigned long request, std::uintptr_t) mutable -> std::optional<int> {
    if (request == VFIO_IOMMU_UNMAP_DMA || (request == VFIO_IOMMU_MAP_DMA && ++n == 2)) return -EIO;
    return std::nullopt;
  });
  const auto failed = add(at(0, 4));
  BOOST_TEST(model.mapping_count() == 1U);
  BOOST_TEST(failed.error().undone.find("not undone") != std::string::npos);
  files.set_rule({});
}

// covers R18 R22
BOOST_FIXTURE_TEST_CASE(an_unmap_that_fails_in_one_container_keeps_the_region_in_both, fixture) {
  attach_containers(2);
  BOOST_REQUIRE(add(at(0, 4)));
  for (int n = 1; n <= 2; ++n) {
    refuse_nth(VFIO_IOMMU_UNMAP_DMA, n, EIO);
    const auto failed = remove(at(0, 4).at);
    BOOST_TEST(failed.error().code.value() == EIO);
    BOOST_TEST(failed.error().undone == "the region stays");
    BOOST_TEST(space.regions().size() == 1U);
    BOOST_TEST(agrees());
  }
  BOOST_TEST(remove(at(0, 4).at).has_value());
  BOOST_TEST(agrees());
}

// covers R18 R22
BOOST_FIXTURE_TEST_CASE(an_unmap_whose_undoing_fails_too_says_what_is_missing, fixture) {
  attach_containers(2);
  BOOST_REQUIRE(add(at(0, 4)));
  files.set_rule([n = 0](unsigned long request, std::uintptr_t) mutable -> std::optional<int> {
    if (request == VFIO_IOMMU_MAP_DMA || (request == VFIO_IOMMU_UNMAP_DMA && ++n == 2)) return -EIO;
    return std::nullopt;
  });
  const auto failed = remove(at(0, 4).at);
  BOOST_TEST(model.mapping_count() == 1U);
  BOOST_TEST(failed.error().undone.find("not undone") != std::string::npos);
  files.set_rule({});
}

// covers R25 R26
BOOST_FIXTURE_TEST_CASE(a_sync_brings_what_the_devices_of_every_container_dirtied_since_the_last, fixture) {
  attach_containers(2);
  BOOST_REQUIRE(add(at(0, 4)));
  BOOST_REQUIRE(add(at(100, 10, 20, 1)));
  BOOST_TEST(ring(devices[0], 0) == 0);  // before tracking: not for us
  BOOST_REQUIRE(start());
  BOOST_TEST(ring(devices[0], 2 * page) == 0);
  BOOST_TEST(ring(devices[1], 3 * page) == 0);
  BOOST_TEST(ring(devices[1], 109 * page) == 0);
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take(0) == pages{2, 3}));
  BOOST_TEST((sink.take(1) == pages{29}));
  BOOST_REQUIRE(sync());
  BOOST_TEST(sink.take(0).empty());
  BOOST_TEST(sink.take(1).empty());
}

BOOST_FIXTURE_TEST_CASE(without_tracking_a_sync_asks_nobody, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(0, 4)));
  const auto calls = files.ioctls();
  BOOST_TEST(sync().has_value());
  BOOST_TEST(files.ioctls() == calls);
  BOOST_REQUIRE(start());
  BOOST_REQUIRE(stop());
  BOOST_TEST(ring(devices[0], 0) == 0);
  BOOST_TEST(sync().has_value());
  BOOST_TEST(sink.take().empty());
}

// covers R17
BOOST_FIXTURE_TEST_CASE(removing_a_region_while_tracking_loses_nothing, fixture) {
  attach_containers(2);
  BOOST_REQUIRE(add(at(0, 8, 4)));
  BOOST_REQUIRE(start());
  BOOST_TEST(ring(devices[0], 0) == 0);
  BOOST_TEST(ring(devices[1], 7 * page) == 0);
  std::optional<result<void>> removed;
  space.async_remove(at(0, 8).at, into(removed));
  loop.run_until_idle();
  BOOST_TEST(ring(devices[1], 3 * page) == 0);  // until the ioctl is made devices go on
  settle();
  BOOST_REQUIRE(removed->has_value());
  BOOST_TEST((sink.take() == pages{4, 7, 11}));
  BOOST_TEST(ring(devices[0], 0) == EINVAL);
}

// covers R17 R25: up to the unmap a device that nobody tracks may have written anything
BOOST_AUTO_TEST_CASE(removing_a_region_from_a_container_that_cannot_track_marks_it_after_the_unmap) {
  fixture on(untracked());
  on.attach_containers(1);
  BOOST_REQUIRE(on.add(at(0, 4)));
  BOOST_REQUIRE(on.start());
  std::optional<result<void>> removed;
  on.space.async_remove(at(0, 4).at, into(removed));
  on.loop.run_until_idle();
  (void)on.sink.take();                           // a round of pre-copy sends what is known so far
  BOOST_TEST(on.ring(on.devices[0], page) == 0);  // and then the device writes
  on.settle();
  BOOST_REQUIRE(removed->has_value());
  BOOST_TEST((on.sink.take() == all_pages(0, 4)));
}

// covers R25
BOOST_AUTO_TEST_CASE(on_a_container_that_cannot_track_every_sync_marks_everything) {
  fixture on(untracked());
  on.attach_containers(1);
  BOOST_REQUIRE(on.add(at(0, 4)));
  BOOST_REQUIRE(on.add(at(100, 2, 20, 1)));
  BOOST_TEST(on.start().has_value());
  for (int round = 0; round < 2; ++round) {
    BOOST_REQUIRE(on.sync());
    BOOST_TEST((on.sink.take(0) == all_pages(0, 4)));
    BOOST_TEST((on.sink.take(1) == all_pages(20, 2)));
  }
  BOOST_TEST(on.stop().has_value());
}

// covers R26
BOOST_FIXTURE_TEST_CASE(a_query_that_fails_marks_its_region_and_no_other, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(0, 4)));
  BOOST_REQUIRE(add(at(100, 4, 0, 1)));
  BOOST_REQUIRE(start());
  BOOST_TEST(ring(devices[0], 101 * page) == 0);
  refuse_nth(VFIO_IOMMU_DIRTY_PAGES, 1, EFAULT);
  BOOST_TEST(sync().has_value());
  BOOST_TEST((sink.take(0) == all_pages(0, 4)));
  BOOST_TEST((sink.take(1) == pages{1}));
}

// covers R17 R18
BOOST_FIXTURE_TEST_CASE(an_unmap_that_fails_while_tracking_marks_the_region, fixture) {
  attach_containers(2);
  BOOST_REQUIRE(add(at(0, 4)));
  BOOST_REQUIRE(start());
  refuse_nth(VFIO_IOMMU_UNMAP_DMA, 2, EFAULT);
  BOOST_TEST(!remove(at(0, 4).at));
  BOOST_TEST((sink.take() == all_pages(0, 4)));
  BOOST_TEST(agrees());
  BOOST_TEST(ring(devices[0], 0) == 0);  // the one that was mapped again is tracked again
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take() == pages{0}));
}

// covers R30
BOOST_FIXTURE_TEST_CASE(a_block_seen_at_two_iovas_has_one_record, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(0, 8)));
  BOOST_REQUIRE(add(at(100, 8, 4)));
  BOOST_REQUIRE(start());
  BOOST_TEST(ring(devices[0], 5 * page) == 0);
  BOOST_TEST(ring(devices[0], 101 * page) == 0);  // the same page
  BOOST_TEST(ring(devices[0], 107 * page) == 0);
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take() == pages{5, 11}));
}

// covers R17 R30
BOOST_FIXTURE_TEST_CASE(a_region_added_again_right_behind_its_removal_loses_nothing, fixture) {
  attach_containers(2);
  BOOST_REQUIRE(add(at(0, 8)));
  BOOST_REQUIRE(start());
  BOOST_TEST(ring(devices[0], page) == 0);
  std::optional<result<void>> removed;
  std::optional<result<void>> added;
  space.async_remove(at(0, 8).at, into(removed));
  space.async_add(at(0, 4, 32), into(added));
  settle();
  BOOST_TEST(removed->has_value());
  BOOST_TEST(added->has_value());
  BOOST_TEST(agrees());
  BOOST_TEST(ring(devices[1], 2 * page) == 0);
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take() == pages{1, 34}));
}

// covers R17 R30: the last sync of a migration comes with the guest stopped, and no other follows
BOOST_FIXTURE_TEST_CASE(a_sync_behind_an_add_under_way_sees_what_devices_dirtied_there, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(start());
  std::optional<result<void>> added;
  space.async_add(at(0, 4), into(added));
  BOOST_REQUIRE(threads.run());  // mapped, and nobody has been told yet
  BOOST_TEST(ring(devices[0], page) == 0);
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take() == pages{1}));
}

// covers R17 R30
BOOST_FIXTURE_TEST_CASE(a_sync_behind_a_region_being_replaced_sees_the_new_one, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(0, 4)));
  BOOST_REQUIRE(start());
  std::optional<result<void>> removed;
  std::optional<result<void>> added;
  space.async_remove(at(0, 4).at, into(removed));
  space.async_add(at(0, 8, 8), into(added));
  while (ring(devices[0], 7 * page) != 0) {  // until the new one is mapped
    loop.turn();
    threads.run();
  }
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take() == pages{15}));
}

BOOST_FIXTURE_TEST_CASE(a_sync_right_behind_the_start_of_tracking_is_one, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(0, 4)));
  std::optional<result<void>> started;
  space.async_start_tracking(sink, into(started));
  BOOST_REQUIRE(threads.run());
  BOOST_TEST(ring(devices[0], page) == 0);
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take() == pages{1}));
}

BOOST_FIXTURE_TEST_CASE(a_container_attached_while_tracking_is_tracked, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(0, 4)));
  BOOST_REQUIRE(start());
  BOOST_REQUIRE(attach(1));
  BOOST_TEST(ring(devices[1], 3 * page) == 0);
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take() == pages{3}));
}

BOOST_FIXTURE_TEST_CASE(a_container_whose_tracking_does_not_start_when_attached_counts_as_dirty, fixture) {
  attach_containers(1);
  BOOST_REQUIRE(add(at(0, 4)));
  BOOST_REQUIRE(start());
  refuse_nth(VFIO_IOMMU_DIRTY_PAGES, 1, ENOMEM);
  BOOST_REQUIRE(attach(1));
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take() == all_pages(0, 4)));
}

// covers R25
BOOST_FIXTURE_TEST_CASE(tracking_that_does_not_start_in_the_second_container_stops_in_the_first, fixture) {
  attach_containers(2);
  std::vector<std::uint32_t> asked;
  files.set_rule([&](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
    if (request != VFIO_IOMMU_DIRTY_PAGES) return std::nullopt;
    asked.push_back(reinterpret_cast<const vfio_iommu_type1_dirty_bitmap*>(argument)->flags);
    return asked.size() == 2 ? std::optional(-ENOMEM) : std::nullopt;
  });
  const auto failed = start();
  BOOST_TEST(failed.error().code.value() == ENOMEM);
  BOOST_TEST(!failed.error().undone.empty());
  BOOST_TEST(asked == (std::vector<std::uint32_t>{VFIO_IOMMU_DIRTY_PAGES_FLAG_START, VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
                                                  VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP}),
             boost::test_tools::per_element());
  BOOST_TEST(sync().has_value());
  BOOST_TEST(sink.take().empty());
  BOOST_TEST(start().has_value());
}

BOOST_FIXTURE_TEST_CASE(a_slow_map_does_not_hold_up_a_disjoint_removal, fixture) {
  attach_containers(2);
  BOOST_REQUIRE(add(at(0, 4)));
  std::optional<result<void>> slow;
  std::optional<result<void>> quick;
  space.async_add(at(100, 4), into(slow));
  BOOST_REQUIRE(threads.run_only(0));  // done in one container, and waiting in the other
  loop.run_until_idle();
  space.async_remove(at(0, 4).at, into(quick));
  BOOST_REQUIRE(threads.run_only(0));
  BOOST_TEST(model.mapping_count() == 2U);
  settle();
  BOOST_TEST(slow->has_value());
  BOOST_TEST(quick->has_value());
  BOOST_TEST(agrees());
}

// covers R17 R27: what a device wrote to a region that one container maps already, when its log is given other ranges
BOOST_AUTO_TEST_CASE(a_region_that_is_still_being_added_loses_nothing_to_the_rearm_of_another) {
  fixture here(apart({}, told_by::devices));
  here.attach_containers(2);
  BOOST_REQUIRE(here.add(at(0, 4)));
  BOOST_REQUIRE(here.start());
  std::optional<result<void>> first;
  std::optional<result<void>> other;
  here.space.async_add(at(100, 4), into(first));
  BOOST_REQUIRE(here.threads.run());  // both containers' devices know its range
  here.loop.run_until_idle();
  BOOST_REQUIRE(here.threads.run_only(0));  // one maps it
  here.loop.run_until_idle();
  BOOST_TEST(here.ring(here.devices[0], 102 * page) == 0);
  here.space.async_add(at(300, 4), into(other));
  here.loop.run_until_idle();
  BOOST_REQUIRE(here.threads.run_only(0));
  here.settle();
  BOOST_TEST(first->has_value());
  BOOST_TEST(other->has_value());
  BOOST_REQUIRE(here.sync());
  BOOST_TEST((here.sink.take() == pages{2}));
}

// covers R26
BOOST_AUTO_TEST_CASE(devices_that_do_not_log_anew_after_a_failure_leave_it_to_the_container) {
  fixture here(apart({}, told_by::devices));
  here.attach_containers(1);
  BOOST_REQUIRE(here.add(at(0, 4)));
  BOOST_REQUIRE(here.start());
  here.files.set_rule([](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
    if (request != VFIO_DEVICE_FEATURE || dirty_pages_flags(request, argument) != 0) return std::nullopt;
    const auto feature = reinterpret_cast<const vfio_device_feature*>(argument)->flags & VFIO_DEVICE_FEATURE_MASK;
    return feature == VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP ? std::nullopt : std::optional(-EIO);
  });
  BOOST_REQUIRE(here.sync());
  here.files.set_rule({});
  BOOST_TEST((here.sink.take() == all_pages(0, 4)));
  BOOST_TEST((here.sink.take_origins() == std::set{dirty_origin::lost}));
  BOOST_TEST(here.ring(here.devices[0], 3 * page) == 0);
  BOOST_REQUIRE(here.sync());
  BOOST_TEST((here.sink.take() == pages{3}));
  BOOST_TEST((here.sink.take_origins() == std::set{dirty_origin::container}));
}

// covers R17 R27: an unmap behind a rearm by which the container has become who tells
BOOST_AUTO_TEST_CASE(a_region_that_goes_while_devices_do_not_start_again_loses_nothing) {
  fixture here(apart({}, told_by::devices));
  here.attach_containers(1);
  BOOST_REQUIRE(here.add(at(0, 4)));
  BOOST_REQUIRE(here.start());
  std::optional<result<void>> removed;
  std::optional<result<void>> added;
  here.space.async_remove(at(0, 4).at, into(removed));
  BOOST_REQUIRE(here.threads.run_only(0));  // asked, before the unmap
  here.space.async_add(at(300, 4, 8), into(added));
  here.files.set_rule([&](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
    if (feature_set(request, argument) == VFIO_DEVICE_FEATURE_DMA_LOGGING_START) return -ENOMEM;
    if (request == VFIO_IOMMU_UNMAP_DMA) BOOST_TEST(here.ring(here.devices[0], 2 * page) == 0);
    return std::nullopt;
  });
  here.settle();
  here.files.set_rule({});
  BOOST_TEST(removed->has_value());
  BOOST_TEST(added->has_value());
  BOOST_TEST(here.sink.take().contains(2));
}

BOOST_FIXTURE_TEST_CASE(a_hundred_thousand_events_may_wait_for_one, fixture) {
  attach_containers(1);
  std::size_t refused = 0;
  std::optional<result<void>> first;
  space.async_add(at(0, 4), into(first));
  for (int i = 0; i < 100'000; ++i)
    space.async_remove(at(0, 2).at, [&](const result<void>& outcome) { refused += outcome ? 0U : 1U; });
  settle();
  BOOST_TEST(first->has_value());
  BOOST_TEST(refused == 100'000U);
}

BOOST_AUTO_TEST_SUITE_END()
