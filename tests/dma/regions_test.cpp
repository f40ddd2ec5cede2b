// SPDX-License-Identifier: Apache-2.0
//
// Regions with granules in two containers, every step by hand: what fails in one is taken back in the other, what cannot be
// taken back is said and mended later, and a discard that races a sync loses nothing.

#include <linux/vfio.h>
#include <tidemark/address_space.hpp>
#include <tidemark/dirty_stream.hpp>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <set>
#include <vector>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;
using pages = std::set<std::uint64_t>;

namespace {

constexpr std::uint64_t granule_pages = 2;
constexpr std::uint64_t granule = granule_pages * page;
constexpr std::uint64_t base = 1024 * page;

iova_range of(std::uint64_t first, std::uint64_t count) { return {base + first * granule, count * granule}; }

region by_granules(std::uint64_t count = 16, std::uint64_t offset_pages = 0) {
  region added{of(0, count), 0, offset_pages * page, true};
  added.granule = granule;
  return added;
}

/// One block, and two containers of a test device each.
struct fixture : bench {
  explicit fixture(kernel::model_options options = apart()) : bench(std::move(options)) {
    BOOST_REQUIRE(space.add_block({"ram", block.data(), block.size()}));
    for (unsigned group = 0; group < 2; ++group) devices.push_back(bench::attach(space, test_device(group)).value());
  }

  result<void> add(const region& added) {
    return done([&](auto token) { space.async_add(added, std::move(token)); });
  }
  result<void> remove(iova_range range) {
    return done([&](auto token) { space.async_remove(range, std::move(token)); });
  }
  result<void> populate(std::uint64_t first, std::uint64_t count) {
    return done([&](auto token) { space.async_populate(of(first, count), std::move(token)); });
  }
  result<void> discard(std::uint64_t first, std::uint64_t count) {
    return done([&](auto token) { space.async_discard(of(first, count), std::move(token)); });
  }
  result<void> start() {
    return done([&](auto token) { space.async_start_tracking(sink, std::move(token)); });
  }
  result<void> sync() {
    return done([&](auto token) { space.async_sync_dirty(std::move(token)); });
  }

  /// The granules that the kernel maps in a container, each by a mapping of its own.
  std::set<std::uint64_t> held(std::size_t container) const {
    std::set<std::uint64_t> found;
    for (const auto& mapped : model.mappings()) {
      if (mapped.container != container || mapped.iova < base) continue;
      BOOST_REQUIRE(mapped.size == granule);
      found.insert((mapped.iova - base) / granule);
    }
    return found;
  }
  bool both_hold(const std::set<std::uint64_t>& expected) const { return held(0) == expected && held(1) == expected; }

  /// The n-th request of a kind from now on fails, and so do all unmaps where `undoing`.
  void refuse(unsigned long what, int n, int errno_value, bool undoing = false) {
    files.set_rule([=, left = n](unsigned long request, std::uintptr_t) mutable -> std::optional<int> {
      if (request == what && --left == 0) return -errno_value;
      if (request == VFIO_IOMMU_UNMAP_DMA && undoing) return -EIO;
      return std::nullopt;
    });
  }

  memory block{64};
  pages_sink sink;
  address_space space{loop.get_executor(), around};
  std::vector<device> devices;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(granules)

// covers R22 R31
BOOST_FIXTURE_TEST_CASE(a_populate_that_fails_in_either_container_is_undone_in_both, fixture) {
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(3, 2));
  for (int n = 1; n <= 12; ++n) {  // six granules are missing in each
    refuse(VFIO_IOMMU_MAP_DMA, n, ENOMEM);
    const auto failed = populate(0, 8);
    BOOST_TEST(failed.error().code.value() == ENOMEM);
    BOOST_TEST(failed.error().undone == "the granules are as before");
    BOOST_TEST(both_hold({3, 4}));
  }
  files.set_rule({});
  BOOST_REQUIRE(populate(0, 8));
  BOOST_TEST(both_hold({0, 1, 2, 3, 4, 5, 6, 7}));
}

// covers R18 R22 R31
BOOST_FIXTURE_TEST_CASE(what_a_failed_rollback_left_is_known_container_by_container, fixture) {
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(0, 1));
  refuse(VFIO_IOMMU_MAP_DMA, 5, ENOMEM, true);  // the third of three missing maps, or the second, of the other container
  const auto failed = populate(0, 4);
  BOOST_TEST(failed.error().undone.find("not undone everywhere") == 0U);
  files.set_rule({});
  const auto left = held(0).size() + held(1).size();
  BOOST_TEST(left == 2U + 4U);  // of five maps the fifth failed, and of the first four none could be undone
  BOOST_TEST((space.region_states().front().populated == std::vector{of(0, 1)}));

  const auto mapped_before = model.mapping_count();
  BOOST_REQUIRE(populate(0, 4));  // asks only for what is missing
  BOOST_TEST(model.mapping_count() == mapped_before + 2);
  BOOST_TEST(both_hold({0, 1, 2, 3}));
  BOOST_REQUIRE(discard(1, 3));
  BOOST_TEST(both_hold({0}));
}

// covers R18 R22 R31
BOOST_FIXTURE_TEST_CASE(what_a_failed_rollback_left_goes_with_the_region, fixture) {
  BOOST_REQUIRE(add(by_granules()));
  refuse(VFIO_IOMMU_MAP_DMA, 5, ENOMEM, true);
  BOOST_TEST(!populate(0, 4));
  files.set_rule({});
  BOOST_TEST(model.mapping_count() != 0U);
  BOOST_REQUIRE(remove(of(0, 16)));
  BOOST_TEST(model.mapping_count() == 0U);
}

// covers R18 R22 R31
BOOST_FIXTURE_TEST_CASE(a_discard_that_fails_in_one_container_is_undone_in_the_other, fixture) {
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(2, 1));
  for (int n = 1; n <= 2; ++n) {
    refuse(VFIO_IOMMU_UNMAP_DMA, n, EIO);
    const auto failed = discard(0, 4);
    BOOST_TEST(failed.error().code.value() == EIO);
    BOOST_TEST(failed.error().undone == "the granules are as before");
    BOOST_TEST(both_hold({2}));
  }
  files.set_rule({});
  BOOST_REQUIRE(discard(0, 4));
  BOOST_TEST(both_hold({}));
}

// covers R18 R31: the guest still has the memory, so the device must have it again
BOOST_FIXTURE_TEST_CASE(what_could_not_be_mapped_again_is_mapped_by_the_next_populate, fixture) {
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(0, 2));
  files.set_rule([](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
    if (request == VFIO_IOMMU_MAP_DMA) return -ENOMEM;
    if (request != VFIO_IOMMU_UNMAP_DMA) return std::nullopt;
    const auto* asked = reinterpret_cast<const vfio_iommu_type1_dma_unmap*>(argument);
    return asked->iova == of(1, 1).iova || asked->size != granule ? std::optional(-EIO) : std::nullopt;
  });
  const auto failed = discard(0, 2);
  BOOST_TEST(failed.error().undone.find("not undone everywhere") == 0U);
  BOOST_TEST(both_hold({1}));
  BOOST_TEST((space.region_states().front().populated == std::vector{of(0, 2)}));
  files.set_rule({});
  BOOST_REQUIRE(populate(0, 2));
  BOOST_TEST(both_hold({0, 1}));
}

// covers R22: a plain region whose undoing failed is in nobody's way
BOOST_FIXTURE_TEST_CASE(a_region_that_was_left_mapped_can_be_added_in_the_end, fixture) {
  refuse(VFIO_IOMMU_MAP_DMA, 2, ENOMEM, true);
  const region plain{{0, 4 * page}, 0, 0, true};
  BOOST_TEST(!add(plain));
  BOOST_TEST(model.mapping_count() == 1U);
  files.set_rule({});
  for (int tries = 0; tries < 2 && !add(plain); ++tries) {
  }
  BOOST_TEST(model.mapping_count() == 2U);
  BOOST_TEST(space.regions().size() == 1U);
}

// covers R17 R31: whichever comes first, what is discarded is not handed out, and what is left is
BOOST_FIXTURE_TEST_CASE(a_discard_that_races_a_sync_loses_nothing, fixture) {
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(0, 4));
  BOOST_REQUIRE(start());
  for (const bool sync_first : {true, false}) {
    BOOST_TEST(ring(devices[0], of(1, 1).iova) == 0);
    BOOST_TEST(ring(devices[1], of(2, 1).iova + page) == 0);
    std::optional<result<void>> synced;
    std::optional<result<void>> discarded;
    if (sync_first) space.async_sync_dirty(into(synced));
    space.async_discard(of(1, 1), into(discarded));
    if (!sync_first) space.async_sync_dirty(into(synced));
    for (int turn = 0; turn < 3; ++turn) threads.run_only(0), loop.run_until_idle();  // one container ahead of the other
    if (ring(devices[1], of(3, 1).iova) != 0) BOOST_ERROR("granule 3 is not mapped");
    settle();
    BOOST_REQUIRE((synced && *synced && discarded && *discarded));
    BOOST_REQUIRE(sync());
    BOOST_TEST((sink.take() == pages{5, 6}));
    BOOST_TEST(sink.gone().contains(2));
    BOOST_REQUIRE(populate(1, 1));
    BOOST_TEST((sink.take() == pages{2, 3}));
  }
}

// covers R30 R31
BOOST_FIXTURE_TEST_CASE(a_page_that_another_region_shows_is_not_discarded, fixture) {
  BOOST_REQUIRE(add(by_granules(4)));
  BOOST_REQUIRE(add({{0, 3 * page}, 0, page, true}));  // pages 1 to 3
  BOOST_REQUIRE(start());
  BOOST_TEST((sink.gone() == pages{0, 4, 5, 6, 7}));
  BOOST_TEST(ring(devices[0], page) == 0);
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take() == pages{2}));
  BOOST_REQUIRE(populate(1, 1));  // pages 2 and 3, which were there all the time
  BOOST_TEST(sink.take().empty());
  BOOST_TEST(ring(devices[1], of(1, 1).iova) == 0);
  BOOST_REQUIRE(discard(1, 1));  // and are seen at the other IOVA on
  BOOST_TEST((sink.take() == pages{2}));
  BOOST_REQUIRE(remove({0, 3 * page}));
  BOOST_TEST((sink.gone() == all_pages(0, 8)));
  BOOST_REQUIRE(remove(of(0, 4)));  // nobody says any more that they are discarded
  BOOST_TEST(sink.gone().empty());
  BOOST_TEST((sink.take() == all_pages(0, 8)));
}

// covers R25 R31
BOOST_AUTO_TEST_CASE(on_a_container_that_cannot_track_what_is_populated_is_dirty) {
  kernel::model_options options;
  options.version = {5, 7};
  fixture on(apart(options));
  BOOST_REQUIRE(on.add(by_granules(4)));
  BOOST_REQUIRE(on.populate(1, 2));
  BOOST_REQUIRE(on.start());
  BOOST_REQUIRE(on.sync());
  BOOST_TEST((on.sink.take() == all_pages(2, 4)));
  BOOST_REQUIRE(on.discard(1, 1));
  BOOST_TEST(on.sink.take().empty());
  BOOST_REQUIRE(on.sync());
  BOOST_TEST((on.sink.take() == all_pages(4, 2)));
}

// covers R29 R31
BOOST_FIXTURE_TEST_CASE(a_container_that_leaves_tells_what_was_dirty_in_what_is_populated, fixture) {
  BOOST_REQUIRE(add(by_granules(4)));
  BOOST_REQUIRE(populate(1, 2));
  BOOST_REQUIRE(start());
  BOOST_TEST(ring(devices[0], of(2, 1).iova) == 0);
  BOOST_REQUIRE(detach(space, devices[0]));
  BOOST_TEST((sink.take() == pages{4}));
  BOOST_TEST((held(1) == std::set<std::uint64_t>{1, 2}));
  BOOST_REQUIRE(populate(0, 4));
  BOOST_TEST(held(1).size() == 4U);
}

// covers R20 R31: before anything is mapped
BOOST_AUTO_TEST_CASE(a_populate_over_the_budget_is_refused_with_the_numbers) {
  kernel::model_options options;
  options.mapping_budget = 10;
  fixture on(apart(options));
  BOOST_REQUIRE(on.add(by_granules()));
  BOOST_REQUIRE(on.populate(0, 4));
  const auto maps = on.model.mapping_count();
  const auto failed = on.populate(0, 16);
  BOOST_TEST((failed.error().code == make_error_code(errc::no_mapping_left)));
  BOOST_TEST(on.model.mapping_count() == maps);
  BOOST_REQUIRE(on.populate(0, 10));
}

BOOST_FIXTURE_TEST_CASE(more_runs_than_are_asked_about_at_a_time, fixture) {
  memory large{1024};
  BOOST_REQUIRE(space.add_block({"large", large.data(), large.size()}));
  auto many = by_granules(512);
  many.block = 1;
  BOOST_REQUIRE(add(many));
  for (std::uint64_t i = 0; i < 512; i += 2) BOOST_REQUIRE(populate(i, 1));
  BOOST_REQUIRE(start());
  pages rung;
  for (std::uint64_t i = 0; i < 512; i += 6) {
    BOOST_REQUIRE(ring(devices[0], of(i, 1).iova) == 0);
    rung.insert(i * granule_pages);
  }
  BOOST_REQUIRE(sync());
  BOOST_TEST((sink.take(1) == rung));
  BOOST_REQUIRE(remove(of(0, 512)));
  BOOST_TEST(model.mapping_count() == 0U);
}

// Neighbours of one region do not wait for each other.
BOOST_FIXTURE_TEST_CASE(granules_are_populated_beside_each_other, fixture) {
  BOOST_REQUIRE(add(by_granules()));
  std::optional<result<void>> first;
  std::optional<result<void>> second;
  std::optional<result<void>> gone;
  space.async_populate(of(0, 2), into(first));
  space.async_populate(of(2, 2), into(second));
  space.async_discard(of(1, 2), into(gone));
  loop.run_until_idle();
  BOOST_REQUIRE(threads.run());
  BOOST_TEST(held(0).size() == 4U);
  settle();
  BOOST_TEST((first->has_value() && second->has_value() && gone->has_value()));
  BOOST_TEST(both_hold({0, 3}));
}

BOOST_AUTO_TEST_SUITE_END()
