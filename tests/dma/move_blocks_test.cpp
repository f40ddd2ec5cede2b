// SPDX-License-Identifier: Apache-2.0
//
// RAM blocks that move while devices go on reaching them (R24), in every container of an address space, on the model.

#include <linux/vfio.h>
#include <tidemark/address_space.hpp>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <functional>
#include <optional>
#include <vector>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;

namespace {

/// Devices behind an IOMMU, in groups of which each needs a container of its own.
kernel::model_options two_behind_iommus() {
  kernel::model_options options;
  options.groups.push_back({.number = 3, .iommu_backed = true, .devices = {"0000:00:05.0"}});
  options.groups.push_back({.number = 4, .iommu_backed = true, .devices = {"0000:00:06.0"}});
  return apart(options);
}

constexpr std::uint64_t granule = 4 * page;

/// Two blocks, a region of each, one with granules, and a device's memory; what moves is told of at another place.
struct moving : bench {
  explicit moving(const kernel::model_options& options = two_behind_iommus()) : bench(options) {
    for (const auto* block : {&first_old, &second_old})
      BOOST_REQUIRE(space.add_block({"ram", block->data(), block->size()}));
    for (const auto* device : {"0000:00:04.0", "0000:00:05.0"}) BOOST_REQUIRE(attach(space, device));
    BOOST_REQUIRE(add({{0x800, 4 * page}, 0, 0x800, true}));  // trimmed to three pages
    BOOST_REQUIRE(add({{16 * page, 4 * page}, 1, 8 * page, false}));
    region granular{{64 * page, 8 * granule}, 0, 16 * page, true};
    granular.granule = granule;
    BOOST_REQUIRE(add(granular));
    BOOST_REQUIRE(done([&](auto token) { space.async_populate({64 * page, 2 * granule}, std::move(token)); }));
    BOOST_REQUIRE(done([&](auto token) { space.async_populate({64 * page + 5 * granule, granule}, std::move(token)); }));
    region bar{{128 * page, page}};
    bar.kind = region_kind::device_memory;
    bar.host = other.data();
    BOOST_REQUIRE(add(bar));
    BOOST_REQUIRE(add({{std::uint64_t{1} << 63, page}, 0, 0, true}));  // skipped
    watch();
  }

  result<void> add(const region& added) {
    return done([&](auto token) { space.async_add(added, std::move(token)); });
  }
  std::vector<moved_block> both() { return {{0, first_new.data()}, {1, second_new.data()}}; }
  result<void> move(std::vector<moved_block> blocks, result<void> outcome = {}) {
    return done([&](auto token) {
      space.async_move_blocks(
          std::move(blocks), [this, outcome] { return ++moves, outcome; }, std::move(token));
    });
  }

  /// Notes which ioctls change addresses; the n-th of them fails.
  void watch(std::size_t n = 0) {
    address_ioctls = 0;
    files.set_rule([this, n](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
      const bool renews =
          request == VFIO_IOMMU_MAP_DMA &&
          (reinterpret_cast<const vfio_iommu_type1_dma_map*>(argument)->flags & VFIO_DMA_MAP_FLAG_VADDR) != 0;
      const bool releases =
          request == VFIO_IOMMU_UNMAP_DMA &&
          (reinterpret_cast<const vfio_iommu_type1_dma_unmap*>(argument)->flags & VFIO_DMA_UNMAP_FLAG_VADDR) != 0;
      return (renews || releases) && ++address_ioctls == n ? std::optional(-EIO) : std::nullopt;
    });
  }

  /// How many of the kernel's mappings have their memory where the blocks are in these homes, and where not.
  struct tally {
    std::size_t right = 0, wrong = 0, without = 0;
  };
  tally count(const memory& first, const memory& second) const {
    tally found;
    for (const auto& one : model.mappings()) {
      BOOST_TEST(one.pinned == (one.container != mediated));
      const auto expected = one.iova < 16 * page    ? first.data() + one.iova
                            : one.iova < 64 * page  ? second.data() + one.iova - 8 * page
                            : one.iova < 128 * page ? first.data() + one.iova - 48 * page
                                                    : other.data();
      const bool is_right = one.vaddr == reinterpret_cast<std::uintptr_t>(expected);
      ++(one.vaddr_invalid ? found.without : is_right ? found.right : found.wrong);
    }
    return found;
  }
  bool all_old() const { return count(first_old, second_old).right == mappings; }
  bool all_new() const { return count(first_new, second_new).right == mappings; }

  static constexpr std::size_t mappings = 12;  // six in each container
  memory first_old{64}, second_old{64}, first_new{64}, second_new{64}, other{1};
  static constexpr std::size_t mediated = 2;  // a container that pins nothing, where there is a third
  std::size_t moves = 0;
  std::size_t address_ioctls = 0;
  address_space space{loop.get_executor(), around};
};

errc code_of(const result<void>& failed) {
  BOOST_REQUIRE(!failed);
  BOOST_REQUIRE((failed.error().code.category() == tidemark_category()));
  return static_cast<errc>(failed.error().code.value());
}

bool says(const error& what, const std::string& text) { return what.message().find(text) != std::string::npos; }

}  // namespace

BOOST_AUTO_TEST_SUITE(moving_blocks)

// covers R24
BOOST_FIXTURE_TEST_CASE(blocks_move_in_every_container, moving) {
  BOOST_REQUIRE(all_old());
  const auto moved = move(both());
  BOOST_REQUIRE_MESSAGE(moved.has_value(), moved.error().message());
  BOOST_TEST(moves == 1U);
  BOOST_TEST(address_ioctls == 2 + mappings);
  BOOST_TEST(all_new());
  BOOST_TEST(space.blocks()[1].host == second_new.data());
  // What is mapped from now on is from there, and what was can be unmapped.
  BOOST_TEST(done([&](auto token) {
               space.async_populate({64 * page + 2 * granule, granule}, std::move(token));
             }).has_value());
  BOOST_TEST(count(first_new, second_new).right == mappings + 2);
  for (const auto& one : space.regions())
    BOOST_TEST(done([&](auto token) { space.async_remove(one.at, std::move(token)); }).has_value());
  BOOST_TEST(model.mapping_count() == 0U);
}

// covers R24
BOOST_FIXTURE_TEST_CASE(a_block_may_move_alone_and_back, moving) {
  BOOST_REQUIRE(move({{1, second_new.data()}}));
  BOOST_TEST(count(first_old, second_new).right == mappings);
  BOOST_REQUIRE(move({{1, second_old.data()}}));
  BOOST_TEST(all_old());
  BOOST_REQUIRE(move({}));
  BOOST_TEST(all_old());
}

// covers R24
BOOST_FIXTURE_TEST_CASE(events_given_meanwhile_wait, moving) {
  std::optional<result<void>> moved;
  std::optional<result<void>> added;
  space.async_move_blocks(
      both(),
      [&]() -> result<void> {
        space.async_add({{256 * page, page}, 0, 0, true}, into(added));
        settle();
        BOOST_TEST(!added.has_value());
        return {};
      },
      into(moved));
  settle();
  BOOST_TEST(moved->has_value());
  BOOST_TEST(added->has_value());
  for (const auto& one : model.mappings())
    BOOST_TEST((one.iova != 256 * page || one.vaddr == reinterpret_cast<std::uintptr_t>(first_new.data())));
}

// covers R24
BOOST_FIXTURE_TEST_CASE(what_cannot_be_right_is_refused_before_anything_moves, moving) {
  BOOST_TEST((code_of(move({{2, first_new.data()}})) == errc::region_unknown));
  BOOST_TEST((code_of(move({{0, first_new.data() + 8}})) == errc::region_misaligned));
  BOOST_TEST((code_of(move({{0, nullptr}})) == errc::region_misaligned));
  BOOST_TEST(move({{1, first_new.data()}, {1, second_new.data()}}).error().code.value() == EINVAL);
  BOOST_TEST(moves == 0U);
  BOOST_TEST(address_ioctls == 0U);
  BOOST_TEST(all_old());
}

// covers R23 R24
BOOST_AUTO_TEST_CASE(memory_must_lie_within_the_pages_of_an_iommu_as_before) {
  kernel::model_options options;
  options.page_sizes = 0x10000;
  bench below(options);
  const memory home(128);
  address_space space(below.loop.get_executor(), below.around);
  BOOST_REQUIRE(space.add_block({"ram", home.data(), 64 * page}));
  BOOST_REQUIRE(below.attach(space, "0000:00:04.0"));
  const auto within = reinterpret_cast<std::uintptr_t>(home.data()) % 0x10000;
  BOOST_REQUIRE(below.done([&](auto token) {
    space.async_add({{0x100000 + within, 64 * page}, 0, 0, true}, std::move(token));
  }));
  bool moved = false;
  const auto move = [&](std::byte* to) {
    return below.done([&](auto token) {
      space.async_move_blocks(
          {{0, to}}, [&]() -> result<void> { return moved = true, result<void>{}; }, std::move(token));
    });
  };
  const auto refused = move(home.data() + page);
  BOOST_TEST((code_of(refused) == errc::region_misaligned));
  BOOST_TEST(says(refused.error(), "within IOMMU pages of 65536 bytes it has to lie as before"));
  BOOST_TEST(!moved);
  BOOST_TEST(move(home.data() + 0x10000).has_value());
}

// covers R23 R24: what was mapped by small pages has to suit the large ones that came since
BOOST_AUTO_TEST_CASE(memory_must_suit_the_pages_of_a_group_that_came_later) {
  kernel::model_options options;
  options.page_sizes = 0x10000;
  bench below(options);
  const memory home(160);
  auto* const first = home.data() + (0x10000 - reinterpret_cast<std::uintptr_t>(home.data()) % 0x10000) % 0x10000;
  address_space space(below.loop.get_executor(), below.around);
  BOOST_REQUIRE(space.add_block({"ram", first, 64 * page}));
  const auto emulated = below.attach(space, test_device(0));
  BOOST_REQUIRE(emulated);
  BOOST_REQUIRE(below.done([&](auto token) { space.async_add({{0x100000, 64 * page}, 0, 0, true}, std::move(token)); }));
  BOOST_REQUIRE(below.attach(space, "0000:00:04.0"));
  BOOST_REQUIRE(below.detach(space, *emulated));
  bool moved = false;
  const auto move = [&](std::byte* to) {
    return below.done([&](auto token) {
      space.async_move_blocks(
          {{0, to}}, [&]() -> result<void> { return moved = true, result<void>{}; }, std::move(token));
    });
  };
  const auto refused = move(first + page);
  BOOST_TEST(!moved);
  BOOST_TEST((code_of(refused) == errc::region_misaligned));
  BOOST_TEST(move(first + 0x10000).has_value());
}

// covers R24: a mediated device's container cannot, so none does
BOOST_FIXTURE_TEST_CASE(one_container_that_cannot_keeps_all_where_they_are, moving) {
  BOOST_REQUIRE(attach(space, test_device(0)));
  const auto refused = move(both());
  BOOST_TEST((code_of(refused) == errc::release_not_supported));
  BOOST_TEST(refused.error().undone == "every mapping has its address");
  BOOST_TEST(moves == 0U);
  BOOST_TEST(count(first_old, second_old).without == 0U);
  BOOST_TEST(count(first_old, second_old).wrong == 0U);
  BOOST_TEST(space.blocks()[0].host == first_old.data());
}

// covers R24
BOOST_FIXTURE_TEST_CASE(memory_that_does_not_move_leaves_all_as_it_was, moving) {
  const auto failed = move(both(), kernel_error(operation::move_blocks, ENOMEM));
  BOOST_TEST(failed.error().code.value() == ENOMEM);
  BOOST_TEST(failed.error().undone == "no block has moved");
  BOOST_TEST(all_old());
  BOOST_TEST(space.blocks()[0].host == first_old.data());
}

// covers R24: every call in turn, two releases and then a renewal for each mapping
BOOST_AUTO_TEST_CASE(whichever_call_fails_the_blocks_are_at_one_place_and_asking_again_finishes_it) {
  for (std::size_t n = 1; n <= 2 + moving::mappings; ++n) {
    BOOST_TEST_CONTEXT("call " << n) {
      moving on;
      on.watch(n);
      const auto failed = on.move(on.both());
      BOOST_REQUIRE(!failed);
      BOOST_TEST(failed.error().code.value() == EIO);
      const bool has_moved = on.moves == 1;
      BOOST_TEST(has_moved == (failed.error().what == operation::renew_addresses));
      BOOST_TEST(has_moved == (n > 2));
      if (has_moved) {
        const auto found = on.count(on.first_new, on.second_new);
        BOOST_TEST(found.wrong == 0U);
        BOOST_TEST(found.without > 0U);
        BOOST_TEST(says(failed.error(), "in 1 of 2 containers"));
        BOOST_TEST(says(failed.error(), std::to_string(found.without - 1) + " above have none"));
        // No group can come, and none is put elsewhere for it; but what is mapped from now on is right.
        const auto containers = on.model.live_containers();
        BOOST_TEST((on.attach(on.space, "0000:00:06.0").error().code == make_error_code(errc::addresses_released)));
        BOOST_TEST(on.model.live_containers() == containers);
        BOOST_TEST(on.add({{8 * page, page}, 0, 8 * page, true}).has_value());
        BOOST_TEST(on.done([&](auto token) { on.space.async_remove({8 * page, page}, std::move(token)); }).has_value());
      } else {
        BOOST_TEST(failed.error().undone == "every mapping has its address");
        BOOST_TEST(on.all_old());
      }
      BOOST_TEST(on.move(on.both()).has_value());
      BOOST_TEST(on.all_new());
      BOOST_TEST(on.attach(on.space, "0000:00:06.0").has_value());
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
