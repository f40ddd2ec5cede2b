// SPDX-License-Identifier: Apache-2.0
//
// A container's engine on the model, as the kernel sees it: which ioctls, in which order, and what is true when one of them
// answers otherwise than was thought.

#include <tidemark/container.hpp>

#include <linux/vfio.h>

#include <array>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;

namespace {

/// An ioctl that changes mappings.
struct made {
  bool map = true;
  iova_range at;

  friend bool operator==(const made&, const made&) = default;
};
std::ostream& operator<<(std::ostream& to, const made& what) {
  return to << (what.map ? "map " : "unmap ") << what.at.iova / page << "+" << what.at.size / page;
}

made map_of(std::uint64_t first, std::uint64_t pages) { return {true, {first * page, pages * page}}; }
made unmap_of(std::uint64_t first, std::uint64_t pages) { return {false, {first * page, pages * page}}; }

/// A container with group 0, and what is asked of the kernel for it.
struct engine : bench {
  explicit engine(container_options options = {.in_place_bytes_max = 0}, kernel::model_options kernel = {})
      : bench(std::move(kernel)) {
    here.emplace(loop.get_executor(), files, threads, options);
    BOOST_REQUIRE(done<container_info>([&](auto token) { here->async_connect(0, std::move(token)); }));
    watch();
  }

  /// Notes what is asked; `answer` may answer in the kernel's place.
  void watch(std::function<std::optional<int>(const made&)> answer = {}) {
    files.set_rule([this, answer](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
      made one;
      if (request == VFIO_IOMMU_MAP_DMA) {
        const auto* asked = reinterpret_cast<const vfio_iommu_type1_dma_map*>(argument);
        one = {true, {asked->iova, asked->size}};
      } else if (request == VFIO_IOMMU_UNMAP_DMA) {
        const auto* asked = reinterpret_cast<const vfio_iommu_type1_dma_unmap*>(argument);
        one = {false, {asked->iova, asked->size}};
      } else {
        return std::nullopt;
      }
      asked_for.push_back(one);
      return answer ? answer(one) : std::nullopt;
    });
  }
  std::vector<made> asked() { return std::exchange(asked_for, {}); }

  mapping pages(std::uint64_t iova_page, std::uint64_t count, std::uint64_t host_page = 0, std::uint64_t unit = 0) {
    return {{iova_page * page, count * page}, ram.data() + host_page * page, true, unit};
  }
  result<void> map(const mapping& what) {
    return done([&](auto token) { here->async_map(what, std::move(token)); });
  }
  result<std::uint64_t> unmap(std::uint64_t first, std::uint64_t count) {
    return done<std::uint64_t>([&](auto token) {
      here->async_unmap(iova_range{first * page, count * page}, std::move(token));
    });
  }
  result<void> apply(std::vector<change> changes) {
    return done([&](auto token) { here->async_apply(std::move(changes), std::move(token)); });
  }

  memory ram{1024};
  std::vector<made> asked_for;
  std::optional<container> here;
};

bool says(const error& what, const std::string& text) { return what.message().find(text) != std::string::npos; }

void check(const std::vector<made>& asked, const std::vector<made>& expected) {
  BOOST_TEST(asked == expected, boost::test_tools::per_element());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(engines)

// covers R19
BOOST_AUTO_TEST_CASE(a_burst_of_neighbours_in_one_unit_is_one_ioctl) {
  engine on;
  std::size_t mapped = 0;
  for (std::uint64_t i = 0; i < 512; ++i)
    on.here->async_map(on.pages(i, 1, i, 512 * page), [&](const result<void>& outcome) { mapped += outcome ? 1U : 0U; });
  on.settle();
  BOOST_TEST(mapped == 512U);
  check(on.asked(), {map_of(0, 512)});
  const auto part = on.unmap(0, 1);
  BOOST_TEST(part.error().code.value() == EINVAL);
  BOOST_TEST(on.asked().empty());  // the kernel was not even asked
  BOOST_TEST(on.unmap(0, 512).value() == 512 * page);
}

// covers R19: each has its own answer
BOOST_AUTO_TEST_CASE(a_merged_map_that_fails_is_made_one_by_one) {
  engine on;
  on.watch([](const made& one) -> std::optional<int> {
    return one.map && (one.at.size > page || one.at.iova == 2 * page) ? std::optional(-ENOMEM) : std::nullopt;
  });
  std::string answers;
  for (std::uint64_t i = 0; i < 4; ++i)
    on.here->async_map(on.pages(i, 1, i, 4 * page), [&](const result<void>& outcome) { answers += outcome ? 'm' : '!'; });
  on.settle();
  BOOST_TEST(answers == "mm!m");
  check(on.asked(), {map_of(0, 4), map_of(0, 1), map_of(1, 1), map_of(2, 1), map_of(3, 1)});
  BOOST_TEST(on.model.mapping_count() == 3U);
}

// covers R19 R22: nothing stays mapped that its owner believes is not
BOOST_AUTO_TEST_CASE(a_merged_map_that_is_cut_fails_each_for_itself) {
  for (const auto fails : {map_of(1024, 64), map_of(1088, 32)}) {
    engine on({.piece_bytes = 64 * page, .in_place_bytes_max = 0});
    on.watch([&](const made& one) { return one == fails ? std::optional(-ENOMEM) : std::nullopt; });
    std::string answers;
    for (std::uint64_t i = 0; i < 2; ++i)
      on.here->async_map(on.pages(1024 + 48 * i, 48, 48 * i, 256 * page),
                         [&](const result<void>& outcome) { answers += outcome ? 'm' : '!'; });
    on.settle();
    BOOST_TEST(answers == "mm");
    BOOST_TEST(on.model.mapping_count() == 2U);
    on.watch();
    BOOST_TEST(on.unmap(1024, 48).value() == 48 * page);
    BOOST_TEST(on.unmap(1072, 48).value() == 48 * page);
  }
}

// covers R18: what is left of it can be unmapped, by the range that was asked for
BOOST_AUTO_TEST_CASE(a_cut_map_that_lost_a_piece_can_still_be_unmapped) {
  engine on({.piece_bytes = 64 * page, .in_place_bytes_max = 0});
  BOOST_REQUIRE(on.map(on.pages(512, 192)));
  on.watch([](const made& one) {
    return one == unmap_of(512, 192) || one == unmap_of(576, 64) ? std::optional(-EIO) : std::nullopt;
  });
  BOOST_TEST(!on.unmap(512, 192));
  BOOST_TEST(on.model.mapping_count() == 1U);
  on.watch();
  BOOST_TEST(on.unmap(512, 192).value() == 64 * page);
}

BOOST_AUTO_TEST_CASE(an_unmap_that_cancels_a_part_tells_of_all) {
  engine on;
  BOOST_REQUIRE(on.map(on.pages(0, 4)));
  std::optional<result<void>> mapped;
  std::optional<result<std::uint64_t>> both;
  std::optional<result<std::uint64_t>> nothing;
  std::vector<std::uint64_t> stale(1, ~std::uint64_t{0});
  on.here->async_map(on.pages(4, 4), into(mapped));
  on.here->async_unmap(iova_range{0, 8 * page}, into(both));
  on.here->async_unmap(iova_range{4 * page, 4 * page}, stale, into(nothing));
  on.settle();
  BOOST_TEST(both->value() == 8 * page);
  BOOST_TEST(nothing->value() == 0U);
  BOOST_TEST(stale[0] == 0U);
}

// covers R20
BOOST_AUTO_TEST_CASE(what_overtakes_a_cut_map_leaves_it_the_mappings_it_needs) {
  kernel::model_options options;
  options.mapping_budget = 4;
  engine on({.piece_bytes = 64 * page, .in_place_bytes_max = 0}, options);
  std::optional<result<void>> large;
  std::optional<result<void>> small;
  on.watch([&](const made& one) -> std::optional<int> {
    if (one == map_of(512, 64)) on.here->async_map(on.pages(8, 1), into(small));
    return std::nullopt;
  });
  on.here->async_map(on.pages(512, 256), into(large));
  on.settle();
  BOOST_TEST(large->has_value());
  BOOST_TEST((small->error().code == make_error_code(errc::no_mapping_left)));
}

BOOST_AUTO_TEST_CASE(what_nobody_was_told_of_is_not_done) {
  engine on;
  std::optional<result<void>> mapped;
  std::optional<result<std::uint64_t>> unmapped;
  on.here->async_map(on.pages(0, 4), into(mapped));
  on.here->async_unmap(iova_range{0, 4 * page}, into(unmapped));
  on.settle();
  BOOST_TEST(mapped->has_value());
  BOOST_TEST(unmapped->value() == 4 * page);
  BOOST_TEST(on.asked().empty());
}

// covers R22: each piece reversible as one
BOOST_AUTO_TEST_CASE(a_large_map_is_cut_and_others_get_their_turn) {
  engine on({.piece_bytes = 64 * page, .in_place_bytes_max = 0});
  std::optional<result<void>> large;
  std::optional<result<void>> small;
  std::optional<result<std::uint64_t>> behind;
  on.watch([&](const made& one) -> std::optional<int> {
    if (one != map_of(512, 64)) return std::nullopt;
    on.here->async_map(on.pages(8, 1), into(small));                         // another range: between the pieces
    on.here->async_unmap(iova_range{512 * page, 256 * page}, into(behind));  // the same: behind all of them
    return std::nullopt;
  });
  on.here->async_map(on.pages(512, 256), into(large));
  on.settle();
  BOOST_TEST(large->has_value());
  BOOST_TEST(small->has_value());
  BOOST_TEST(behind->value() == 256 * page);
  check(on.asked(), {map_of(512, 64), map_of(8, 1), map_of(576, 64), map_of(640, 64), map_of(704, 64), unmap_of(512, 256)});
  BOOST_TEST(on.model.mapping_count() == 1U);
}

// covers R22
BOOST_AUTO_TEST_CASE(a_piece_that_fails_takes_back_those_before_it) {
  engine on({.piece_bytes = 64 * page, .in_place_bytes_max = 0});
  on.watch([](const made& one) { return one == map_of(640, 64) ? std::optional(-ENOMEM) : std::nullopt; });
  const auto failed = on.map(on.pages(512, 256));
  BOOST_TEST(failed.error().code.value() == ENOMEM);
  BOOST_TEST((failed.error().range == iova_range{512 * page, 256 * page}));
  BOOST_TEST(failed.error().undone == "nothing of it is mapped");
  check(on.asked(), {map_of(512, 64), map_of(576, 64), map_of(640, 64), unmap_of(512, 128)});
  BOOST_TEST(on.model.mapping_count() == 0U);
}

// A part of it names a mapping of the kernel, but not what was asked for.
BOOST_AUTO_TEST_CASE(a_cut_map_is_unmapped_as_a_whole_only) {
  engine on({.piece_bytes = 64 * page, .in_place_bytes_max = 0});
  BOOST_REQUIRE(on.map(on.pages(512, 256)));
  on.asked();
  BOOST_TEST(on.unmap(512, 64).error().code.value() == EINVAL);
  BOOST_TEST(on.asked().empty());
  BOOST_TEST(on.unmap(512, 256).value() == 256 * page);
}

BOOST_AUTO_TEST_CASE(a_container_that_ends_between_pieces_leaves_nothing) {
  engine on({.piece_bytes = 64 * page, .in_place_bytes_max = 0});
  std::optional<result<void>> large;
  on.here->async_map(on.pages(512, 256), into(large));
  on.here.reset();
  on.settle();
  BOOST_TEST((large->error().code == boost::asio::error::operation_aborted));
  BOOST_TEST(on.model.open_descriptors() == 0U);
}

// covers R22
BOOST_AUTO_TEST_CASE(a_batch_is_carried_out_all_or_none) {
  engine on;
  BOOST_REQUIRE(on.map(on.pages(64, 4)));
  BOOST_TEST(on.apply({on.pages(0, 4), iova_range{64 * page, 4 * page}, on.pages(64, 2)}).has_value());
  BOOST_TEST(on.model.mapping_count() == 2U);
  on.watch([](const made& one) { return one == map_of(128, 4) ? std::optional(-EFAULT) : std::nullopt; });
  const auto failed = on.apply({on.pages(96, 4), iova_range{64 * page, 2 * page}, on.pages(128, 4)});
  BOOST_TEST(failed.error().code.value() == EFAULT);
  BOOST_TEST(failed.error().undone == "the mappings are as before");
  on.watch();
  BOOST_TEST(on.model.mapping_count() == 2U);
  BOOST_TEST(on.unmap(64, 2).value() == 2 * page);
  BOOST_TEST(on.unmap(0, 4).value() == 4 * page);
}

BOOST_AUTO_TEST_CASE(a_batch_of_nothing_succeeds) {
  engine on;
  BOOST_REQUIRE(on.map(on.pages(0, 4)));
  on.asked();
  BOOST_TEST(on.apply({}).has_value());
  BOOST_TEST(on.asked().empty());
}

// covers R20 R22
BOOST_AUTO_TEST_CASE(a_batch_over_the_budget_is_refused_before_anything_is_mapped) {
  kernel::model_options options;
  options.mapping_budget = 3;
  engine on({.in_place_bytes_max = 0}, options);
  BOOST_REQUIRE(on.map(on.pages(0, 1)));
  on.asked();
  const auto failed = on.apply({on.pages(8, 1), on.pages(16, 1), on.pages(24, 1)});
  BOOST_TEST((failed.error().code == make_error_code(errc::no_mapping_left)));
  BOOST_TEST(says(failed.error(), "dma_entry_limit"));
  BOOST_TEST(on.asked().empty());
  BOOST_TEST(on.apply({on.pages(8, 1), on.pages(16, 1)}).has_value());
  BOOST_TEST((on.map(on.pages(24, 1)).error().code == make_error_code(errc::no_mapping_left)));
  BOOST_TEST(on.unmap(8, 1).has_value());
  BOOST_TEST(on.map(on.pages(24, 1)).has_value());
}

// covers R6 R20: kernels before 5.10 do not tell, and what they hold is counted once, whatever groups come
BOOST_AUTO_TEST_CASE(a_budget_that_the_kernel_does_not_tell_stays_the_same) {
  kernel::model_options options;
  options.version = {5, 4};
  options.mapping_budget = 1 << 20;
  engine on({.in_place_bytes_max = 0}, options);
  std::vector<change> all;
  for (std::uint64_t i = 0; i < 65535; ++i) all.push_back(on.pages(16 + 2 * i, 1));
  BOOST_REQUIRE(on.map(on.pages(0, 1)));
  BOOST_REQUIRE(on.done<container_info>([&](auto token) { on.here->async_connect(1, std::move(token)); }));
  BOOST_TEST((on.apply(std::move(all)).error().code == make_error_code(errc::no_mapping_left)));
}

// covers R21
BOOST_AUTO_TEST_CASE(a_map_outside_the_windows_is_refused_before_the_ioctl) {
  engine on;
  BOOST_REQUIRE(on.done<container_info>([&](auto token) { on.here->async_connect(2, std::move(token)); }));
  const auto failed = on.map({{0xfee00000, page}, on.ram.data(), true});
  BOOST_TEST((failed.error().code == make_error_code(errc::outside_window)));
  BOOST_TEST(on.asked().empty());
}

// covers R15: what nobody knows of is unmapped, what is known is not
BOOST_AUTO_TEST_CASE(a_map_that_meets_an_unknown_mapping_unmaps_it_and_tries_once_more) {
  std::vector<error> warnings;
  engine on({.warn = [&](const error& what) { warnings.push_back(what); }, .in_place_bytes_max = 0});
  for (const int busy : {EEXIST, EBUSY}) {
    on.watch([&, first = true](const made& one) mutable {
      return one.map && std::exchange(first, false) ? std::optional(-busy) : std::nullopt;
    });
    BOOST_TEST(on.map(on.pages(0, 4)).has_value());
    check(on.asked(), {map_of(0, 4), unmap_of(0, 4), map_of(0, 4)});
    BOOST_TEST(warnings.size() == 1U);
    warnings.clear();
    const auto met = on.map(on.pages(2, 4));
    BOOST_TEST(met.error().code.value() == EEXIST);
    BOOST_TEST(on.asked().empty());
    BOOST_REQUIRE(on.unmap(0, 4));
    on.asked();
  }
}

// covers R15: once
BOOST_AUTO_TEST_CASE(a_map_that_goes_on_meeting_something_fails) {
  engine on;
  on.watch([](const made& one) { return one.map ? std::optional(-EEXIST) : std::nullopt; });
  BOOST_TEST(on.map(on.pages(0, 4)).error().code.value() == EEXIST);
  check(on.asked(), {map_of(0, 4), unmap_of(0, 4), map_of(0, 4)});
}

// covers R16
BOOST_AUTO_TEST_CASE(an_unmap_to_the_end_of_the_space_that_is_refused_leaves_the_last_page_out) {
  engine on;
  BOOST_REQUIRE(on.map({{0 - 8 * page, 4 * page}, on.ram.data(), true}));
  on.watch(
      [](const made& one) { return !one.map && one.at.iova + one.at.size == 0 ? std::optional(-EINVAL) : std::nullopt; });
  BOOST_TEST(on.done<std::uint64_t>([&](auto token) {
                 on.here->async_unmap(iova_range{0 - 8 * page, 8 * page}, std::move(token));
               }).value() == 4 * page);
  BOOST_TEST(on.model.mapping_count() == 0U);
}

// covers R16
BOOST_AUTO_TEST_CASE(everything_is_unmapped_at_once_or_in_two_halves) {
  for (const auto version : {kernel::kernel_version{6, 1}, kernel::kernel_version{5, 4}}) {
    kernel::model_options options;
    options.version = version;
    engine on({.in_place_bytes_max = 0}, options);
    for (const auto first : {std::uint64_t{0}, std::uint64_t{1} << 51, (std::uint64_t{1} << 51) - 8})
      BOOST_REQUIRE(on.map(on.pages(first, 4)));
    on.asked();
    const auto all = on.done<std::uint64_t>([&](auto token) { on.here->async_unmap_all(std::move(token)); });
    BOOST_TEST(all.value() == 12 * page);
    const auto asked = on.asked();
    const auto half = std::uint64_t{1} << 51;  // pages
    if (version >= kernel::kernel_version{5, 12}) {
      check(asked, {unmap_of(0, 0)});  // with VFIO_DMA_UNMAP_FLAG_ALL
    } else {
      BOOST_REQUIRE(asked.size() >= 2U);
      BOOST_TEST(asked[0] == unmap_of(0, half));
      BOOST_TEST(asked[1] == unmap_of(half, half));
    }
    BOOST_TEST(on.model.mapping_count() == 0U);
    BOOST_TEST(on.map(on.pages(0, 4)).has_value());
  }
}

// covers R18: the kernel does not say how far it came
BOOST_AUTO_TEST_CASE(an_unmap_that_fails_half_way_is_asked_again_one_by_one) {
  engine on;
  for (std::uint64_t i = 0; i < 3; ++i) BOOST_REQUIRE(on.map(on.pages(8 * i, 4)));
  on.asked();
  on.watch([&](const made& one) -> std::optional<int> {
    if (one != unmap_of(0, 24)) return std::nullopt;
    vfio_iommu_type1_dma_unmap first{};
    first.argsz = sizeof first;
    first.size = 4 * page;
    const int container = (1 << 20) + 1;  // the second descriptor of a model
    BOOST_REQUIRE(on.model.ioctl(container, VFIO_IOMMU_UNMAP_DMA, &first) == 0);
    return -EIO;
  });
  BOOST_TEST(on.unmap(0, 24).value() == 12 * page);
  check(on.asked(), {unmap_of(0, 24), unmap_of(0, 4), unmap_of(8, 4), unmap_of(16, 4)});
  BOOST_TEST(on.model.mapping_count() == 0U);
}

// covers R18
BOOST_AUTO_TEST_CASE(an_unmap_that_leaves_something_says_how_much) {
  engine on;
  for (std::uint64_t i = 0; i < 3; ++i) BOOST_REQUIRE(on.map(on.pages(8 * i, 4)));
  on.watch(
      [](const made& one) { return one == unmap_of(0, 24) || one == unmap_of(8, 4) ? std::optional(-EIO) : std::nullopt; });
  const auto failed = on.unmap(0, 24);
  BOOST_TEST(failed.error().code.value() == EIO);
  BOOST_TEST((failed.error().range == iova_range{0, 24 * page}));
  BOOST_TEST(failed.error().undone == "32768 bytes are unmapped, 16384 bytes are still mapped");
  on.watch();
  BOOST_TEST(on.map(on.pages(0, 4)).has_value());
  BOOST_TEST(on.map(on.pages(8, 4)).error().code.value() == EEXIST);
  BOOST_TEST(on.unmap(8, 4).value() == 4 * page);
}

// covers R18
BOOST_AUTO_TEST_CASE(an_unmap_that_finds_less_than_was_mapped_is_a_warning) {
  std::vector<error> warnings;
  engine on({.warn = [&](const error& what) { warnings.push_back(what); }, .in_place_bytes_max = 0});
  BOOST_REQUIRE(on.map(on.pages(0, 4)));
  on.files.set_rule([](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
    if (request != VFIO_IOMMU_UNMAP_DMA) return std::nullopt;
    reinterpret_cast<vfio_iommu_type1_dma_unmap*>(argument)->size = 0;
    return 0;
  });
  BOOST_TEST(on.unmap(0, 4).has_value());
  BOOST_REQUIRE(!warnings.empty());
  BOOST_TEST(says(warnings[0], "the kernel unmapped 0 bytes where 16384 bytes were mapped"));
  on.files.set_rule({});
}

// --- in place ---

BOOST_AUTO_TEST_CASE(a_small_map_of_resident_memory_runs_in_the_next_turn_when_the_lane_is_idle) {
  engine on(container_options{});
  on.ram.data()[0] = std::byte{1};
  std::optional<result<void>> mapped;
  const auto wakes = on.threads.wakes();
  on.here->async_map(on.pages(0, 1), into(mapped));
  BOOST_TEST(!mapped.has_value());  // its completion is never inside the call
  on.loop.turn();
  check(on.asked(), {map_of(0, 1)});
  BOOST_TEST(mapped->has_value());
  BOOST_TEST(on.threads.wakes() == wakes);
}

BOOST_AUTO_TEST_CASE(a_few_neighbours_of_one_unit_are_one_ioctl_in_the_next_turn) {
  engine on(container_options{});
  std::size_t mapped = 0;
  const auto wakes = on.threads.wakes();
  for (std::uint64_t i = 0; i < 64; ++i) {
    auto one = on.pages(i, 1, i, 512 * page);
    one.resident = true;
    on.here->async_map(one, [&](const result<void>& outcome) { mapped += outcome ? 1U : 0U; });
  }
  on.loop.turn();
  check(on.asked(), {map_of(0, 64)});
  BOOST_TEST(mapped == 64U);
  BOOST_TEST(on.threads.wakes() == wakes);
}

BOOST_AUTO_TEST_CASE(memory_that_is_not_there_is_mapped_in_the_lane) {
  engine on(container_options{});
  std::optional<result<void>> mapped;
  on.here->async_map(on.pages(0, 1, 512), into(mapped));
  on.loop.run_until_idle();
  BOOST_TEST(on.asked().empty());
  on.settle();
  BOOST_TEST(mapped->has_value());
}

BOOST_AUTO_TEST_CASE(memory_that_its_owner_says_is_there_is_not_asked_for) {
  engine on(container_options{});
  auto what = on.pages(0, 1, 512);
  what.resident = true;
  std::optional<result<void>> mapped;
  on.here->async_map(what, into(mapped));
  on.loop.turn();
  check(on.asked(), {map_of(0, 1)});
  BOOST_TEST(mapped->has_value());
}

BOOST_AUTO_TEST_CASE(behind_a_request_in_the_lane_nothing_runs_in_place) {
  engine on(container_options{});
  on.ram.data()[0] = std::byte{1};
  std::optional<result<void>> first;
  std::optional<result<void>> second;
  on.here->async_map(on.pages(512, 1, 512), into(first));
  on.here->async_map(on.pages(0, 1), into(second));
  on.loop.run_until_idle();
  BOOST_TEST(on.asked().empty());
  on.settle();
  BOOST_TEST(second->has_value());
}

// A map that is cut takes several turns, which only the worker has.
BOOST_AUTO_TEST_CASE(a_small_map_that_is_cut_does_not_run_in_place) {
  engine on({.piece_bytes = 4 * page});
  auto what = on.pages(0, 16);
  what.resident = true;
  BOOST_TEST(on.map(what).has_value());
  BOOST_TEST(on.asked().size() == 4U);
  BOOST_TEST(on.unmap(0, 16).value() == 16 * page);
}

// --- handlers ---

BOOST_AUTO_TEST_CASE(a_handler_that_is_erased_already_is_as_good_as_any) {
  engine on;
  std::optional<result<void>> mapped;
  on.here->async_map(on.pages(0, 1), completion<void>(into(mapped)));
  on.settle();
  BOOST_TEST(mapped->has_value());
}

BOOST_AUTO_TEST_CASE(memory_of_a_handler_is_aligned_as_it_wants) {
  struct alignas(64) line {
    std::array<char, 64> bytes;
  };
  tidemark::detail::recycling_allocator<line> memory;
  std::vector<line*> taken;
  for (int i = 0; i < 50; ++i) {
    taken.push_back(memory.allocate(1));
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(taken.back()) % 64 == 0U);
  }
  for (auto* one : taken) memory.deallocate(one, 1);
}

BOOST_AUTO_TEST_CASE(no_more_runs_in_place_than_the_bound_in_one_turn_of_the_loop) {
  engine on(container_options{});
  for (std::uint64_t i = 0; i < 100; ++i) on.ram.data()[i * page] = std::byte{1};
  for (const std::uint64_t count : {std::uint64_t{64}, std::uint64_t{65}}) {
    std::size_t mapped = 0;
    for (std::uint64_t i = 0; i < count; ++i)
      on.here->async_map(on.pages(2 * i, 1, i), [&](const result<void>& outcome) { mapped += outcome ? 1U : 0U; });
    on.loop.run_until_idle();
    BOOST_TEST(on.asked().size() == (count == 64 ? 64U : 0U));  // pages
    on.settle();
    BOOST_TEST(mapped == count);
    BOOST_TEST(on.model.mapping_count() == count);
    BOOST_REQUIRE(on.done<std::uint64_t>([&](auto token) { on.here->async_unmap_all(std::move(token)); }));
    on.asked();
  }
}

BOOST_AUTO_TEST_SUITE_END()
