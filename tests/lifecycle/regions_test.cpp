// SPDX-License-Identifier: Apache-2.0
//
// What is mapped of regions (R23), and what is populated and discarded by granules (R31): what the kernel holds is asked of
// a device, page by page. Runs in lifecycle_test, on the model and in the test guest on the real kernel.

#include <sys/mman.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <set>

#include "lifecycle/fixture.hpp"

namespace tidemark::lifecycle {
namespace {

using page_set = std::set<std::uint64_t>;

constexpr std::uint64_t granule_pages = 4;
constexpr std::uint64_t granule = granule_pages * page;
constexpr std::uint64_t base = 64 * page;  // of the region with granules: eight of them, from page 16 of the block on
constexpr std::uint64_t granules = 8;

struct regions_fixture : fixture {
  using fixture::fixture;
  ~regions_fixture() { kernel().clear(); }

  result<void> add(const region& added) {
    return done<void>([&](auto token) { space().async_add(added, std::move(token)); });
  }
  result<void> remove(iova_range range) {
    return done<void>([&](auto token) { space().async_remove(range, std::move(token)); });
  }
  result<void> populate(std::uint64_t first, std::uint64_t count) {
    return done<void>([&](auto token) { space().async_populate(of(first, count), std::move(token)); });
  }
  result<void> discard(std::uint64_t first, std::uint64_t count) {
    return done<void>([&](auto token) { space().async_discard(of(first, count), std::move(token)); });
  }
  result<void> start(dirty_sink& sink) {
    return done<void>([&](auto token) { space().async_start_tracking(sink, std::move(token)); });
  }
  result<void> sync() {
    return done<void>([&](auto token) { space().async_sync_dirty(std::move(token)); });
  }
  result<void> stop() {
    return done<void>([&](auto token) { space().async_stop_tracking(std::move(token)); });
  }

  /// A test device, and beside it one whose IOMMU pins, in one container.
  void attach_both() {
    const auto rings = attach(emulated());
    BOOST_REQUIRE(rings);
    by = *rings;
    const auto pins = attach(edu());
    BOOST_REQUIRE(pins);
    pinning = *pins;
    BOOST_REQUIRE(space().containers().size() == 1U);
  }

  static iova_range of(std::uint64_t first, std::uint64_t count) { return {base + first * granule, count * granule}; }
  static region by_granules() {
    region added{of(0, granules), 0, 16 * page, true};
    added.granule = granule;
    return added;
  }
  static region of_kind(region_kind kind, iova_range at, std::byte* memory = nullptr) {
    region added{at};
    added.kind = kind;
    added.host = memory;
    return added;
  }

  region_state only_state() {
    const auto states = space().region_states();
    BOOST_REQUIRE(states.size() == 1U);
    return states.front();
  }

  bool reaches(std::uint64_t iova) { return ring(*by, iova) == 0; }
  /// The granules that the device reaches: each whole or not at all.
  page_set reached() {
    page_set found;
    for (std::uint64_t i = 0; i < granules; ++i) {
      std::uint64_t pages = 0;
      for (std::uint64_t at = 0; at < granule; at += page) pages += reaches(base + i * granule + at) ? 1U : 0U;
      BOOST_TEST((pages == 0 || pages == granule_pages));
      if (pages != 0) found.insert(i);
    }
    return found;
  }

  std::size_t calls_of(const std::string& name) {
    const auto calls = kernel().trace();
    return static_cast<std::size_t>(
        std::count_if(calls.begin(), calls.end(), [&](const auto& call) { return call.name == name; }));
  }

  /// The memory behind a granule, so that an IOMMU cannot pin it, or can again.
  void protect(std::uint64_t which, int rights) {
    BOOST_REQUIRE(::mprotect(memory() + 16 * page + which * granule, granule, rights) == 0);
  }

  std::optional<device> by;
  std::optional<device> pinning;
};

page_set pages_of_granules(std::uint64_t first, std::uint64_t count) {
  page_set pages;
  for (std::uint64_t i = 0; i < count * granule_pages; ++i) pages.insert(16 + first * granule_pages + i);
  return pages;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(regions)

// --- R23: what is skipped, what is trimmed ---

// covers R23
BOOST_FIXTURE_TEST_CASE(r23_what_is_no_memory_or_protected_is_skipped_with_the_reason, regions_fixture) {
  attach_both();
  kernel().clear();
  const iova_range at{base, 4 * page};
  const std::pair<region_kind, const char*> kinds[] = {{region_kind::io, "it is no memory"},
                                                       {region_kind::protected_memory, "the memory is protected"}};
  for (const auto& [kind, why] : kinds) {
    BOOST_REQUIRE(add(of_kind(kind, at)));
    BOOST_TEST(only_state().skipped.starts_with(why));
    BOOST_TEST(only_state().in.empty());
    BOOST_TEST((only_state().asked.at == at));
    BOOST_TEST(!reaches(at.iova));
    BOOST_TEST((failure_of(stage::add(base, 1)).code == make_error_code(errc::region_overlaps)));
    BOOST_TEST((failure_of(remove({base, page})).code == make_error_code(errc::region_unknown)));
    BOOST_REQUIRE(remove(at));
    BOOST_TEST(space().regions().empty());
  }
  BOOST_TEST(calls_of("VFIO_IOMMU_MAP_DMA") + calls_of("VFIO_IOMMU_UNMAP_DMA") == 0U);
  BOOST_TEST(take_warnings().empty());
}

// covers R21 R23: so a 64-bit BAR stands for a moment, while a guest sizes it
BOOST_FIXTURE_TEST_CASE(r23_what_lies_beyond_the_address_width_is_skipped, regions_fixture) {
  attach_both();
  for (const std::uint64_t iova : {std::uint64_t{1} << 63, 0 - 4 * page}) {
    BOOST_REQUIRE(stage::add(iova, 4));
    BOOST_TEST(only_state().skipped == "it lies beyond the address width: no IOMMU reaches 2^63");
    BOOST_REQUIRE(stage::remove(iova, 4));
  }
  const auto refused = failure_of(stage::add((std::uint64_t{1} << 63) - 4 * page, 4));
  BOOST_TEST(refused.code == make_error_code(errc::outside_window));
}

// covers R23
BOOST_FIXTURE_TEST_CASE(r23_misaligned_edges_are_trimmed_and_read_back, regions_fixture) {
  attach_both();
  const region odd{{base + 0xf00, 2 * page + 0x200}, 0, 0xf00, true};
  BOOST_REQUIRE(add(odd));
  const auto one = only_state().in.at(0);
  BOOST_TEST(one.page_size == page);
  BOOST_TEST((one.mapped == iova_range{base + page, 2 * page}));
  BOOST_TEST((one.trimmed_front == iova_range{base + 0xf00, 0x100}));
  BOOST_TEST((one.trimmed_back == iova_range{base + 3 * page, 0x100}));
  BOOST_TEST(one.reason.empty());
  BOOST_TEST(!reaches(base));
  BOOST_TEST(reaches(base + page));
  BOOST_TEST(reaches(base + 3 * page - 8));
  BOOST_TEST(!reaches(base + 3 * page));
  BOOST_TEST(std::to_integer<int>(memory()[page]) == 1);
  BOOST_TEST((failure_of(remove(one.mapped)).code == make_error_code(errc::region_unknown)));
  BOOST_REQUIRE(remove(odd.at));
  BOOST_TEST(!reaches(base + page));
}

// covers R23
BOOST_FIXTURE_TEST_CASE(r23_what_holds_no_whole_page_is_skipped_with_the_reason, regions_fixture) {
  attach_both();
  const std::pair<region, const char*> odd[] = {
      {{{base + 8, page}, 0, 8, true}, "it holds no whole IOMMU page of 4096 bytes"},
      {{{base, 100}, 0, 0, true}, "it holds no whole IOMMU page of 4096 bytes"},
      {{{base, 4 * page}, 0, 8, true}, "do not lie alike within IOMMU pages of 4096 bytes"}};
  kernel().clear();
  for (const auto& [added, why] : odd) {
    BOOST_REQUIRE(add(added));
    const auto state = only_state();
    BOOST_TEST(state.skipped.empty());
    BOOST_TEST((state.in.at(0).mapped == iova_range{}));
    BOOST_TEST(state.in.at(0).reason.find(why) != std::string::npos);
    BOOST_REQUIRE(remove(added.at));
  }
  BOOST_TEST(calls_of("VFIO_IOMMU_MAP_DMA") == 0U);
}

// covers R17 R23 R30: a page of a block that is seen only in part is dirty as a whole
BOOST_FIXTURE_TEST_CASE(r23_of_what_is_trimmed_only_what_is_mapped_is_tracked, regions_fixture) {
  const auto rings = attach(emulated());
  BOOST_REQUIRE(rings);
  BOOST_REQUIRE(add({{base + 0x800, 4 * page}, 0, 8 * page + 0x800, true}));
  pages_told told;
  BOOST_REQUIRE(start(told));
  BOOST_TEST(ring(*rings, base + 2 * page) == 0);
  BOOST_REQUIRE(sync());
  BOOST_TEST((told.pages == page_set{10}));
  BOOST_TEST(ring(*rings, base + 3 * page) == 0);
  BOOST_REQUIRE(remove({base + 0x800, 4 * page}));
  BOOST_TEST((told.pages == page_set{10, 11}));
  BOOST_REQUIRE(stop());
}

// covers R9 R23
BOOST_AUTO_TEST_CASE(r23_each_container_trims_by_its_own_page_size) {
  if (only_the_model("every IOMMU of the guest has pages of 4096 bytes")) return;
  regions_fixture here([](kernel::model_options& options) {
    apart(options);
    options.page_sizes = 0x10000;
  });
  const auto misplaced = reinterpret_cast<std::uintptr_t>(here.memory()) % 0x10000;
  BOOST_REQUIRE(here.attach(here.emulated()));
  // Alike within 64 KiB: the block begins anywhere.
  const iova_range at{0x100000 + misplaced, 40 * page};
  BOOST_REQUIRE(here.add({at, 0, 0, true}));
  BOOST_REQUIRE(here.attach(here.edu()));
  const auto state = here.only_state();
  BOOST_REQUIRE(state.in.size() == 2U);
  BOOST_TEST((state.in[0].mapped == at));
  BOOST_TEST(state.in[1].page_size == 0x10000U);
  BOOST_TEST(state.in[1].mapped.iova % 0x10000 == 0U);
  BOOST_TEST(state.in[1].mapped.size % 0x10000 == 0U);
  BOOST_TEST(state.in[1].mapped.size >= 0x10000U);
  BOOST_TEST(state.in[1].trimmed_front.size + state.in[1].mapped.size + state.in[1].trimmed_back.size == at.size);
  BOOST_TEST(here.held().mappings == 2U);
  BOOST_REQUIRE(here.remove(at));
  BOOST_TEST(here.held().mappings == 0U);
}

// covers R23: a group that comes to a container brings its IOMMU's pages
BOOST_AUTO_TEST_CASE(r23_a_group_with_larger_pages_changes_what_is_trimmed_from_then_on) {
  if (only_the_model("every IOMMU of the guest has pages of 4096 bytes")) return;
  regions_fixture here([](kernel::model_options& options) { options.page_sizes = 0x10000; });
  const auto misplaced = reinterpret_cast<std::uintptr_t>(here.memory()) % 0x10000;
  BOOST_REQUIRE(here.attach(here.emulated()));
  const auto edu = here.attach(here.edu());
  BOOST_REQUIRE(edu);
  const iova_range at{0x100000 + misplaced, 40 * page};
  BOOST_REQUIRE(here.add({at, 0, 0, true}));
  BOOST_TEST(here.only_state().in.at(0).page_size == 0x10000U);
  BOOST_TEST(here.only_state().in.at(0).mapped.size % 0x10000 == 0U);
  BOOST_REQUIRE(here.remove(at));
  BOOST_REQUIRE(here.detach(*edu));
  BOOST_REQUIRE(here.add({at, 0, 0, true}));
  BOOST_TEST((here.only_state().in.at(0).mapped == at));
}

// covers R23: peer-to-peer
BOOST_FIXTURE_TEST_CASE(r23_device_memory_is_mapped_where_that_works, regions_fixture) {
  attach_both();
  // The model has no mmap of device regions: other memory stands for the BAR.
  const auto bar = pinning->info().regions.at(0);
  void* const at = model() ? ::mmap(nullptr, bar.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                           : ::mmap(nullptr, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, pinning->file(),
                                    static_cast<off_t>(bar.file_offset));
  BOOST_REQUIRE(at != MAP_FAILED);
  const auto peer = of_kind(region_kind::device_memory, {base, bar.size}, static_cast<std::byte*>(at));
  BOOST_REQUIRE(add(peer));
  BOOST_TEST((only_state().in.at(0).mapped == peer.at));
  BOOST_TEST(only_state().in.at(0).reason.empty(), only_state().in.at(0).reason);
  BOOST_TEST(take_warnings().empty());
  pages_told told;
  BOOST_REQUIRE(start(told));
  BOOST_REQUIRE(sync());
  BOOST_TEST(told.pages.empty());  // it is nothing that migrates
  BOOST_REQUIRE(remove(peer.at));
  BOOST_TEST(told.pages.empty());
  BOOST_REQUIRE(stop());
  BOOST_TEST(!reaches(base));
  BOOST_TEST(::munmap(at, bar.size) == 0);
}

// covers R23
BOOST_FIXTURE_TEST_CASE(r23_device_memory_that_cannot_be_mapped_is_a_warning, regions_fixture) {
  const auto peer = of_kind(region_kind::device_memory, {base, 2 * page}, memory());
  BOOST_TEST(
      (failure_of(add(of_kind(region_kind::device_memory, {base, page}))).code == make_error_code(errc::region_unknown)));
  attach_both();
  kernel().fail_nth(1, EINVAL, "VFIO_IOMMU_MAP_DMA");
  BOOST_REQUIRE(add(peer));
  const auto warnings = take_warnings();
  BOOST_REQUIRE(warnings.size() == 1U);
  BOOST_TEST(warnings[0].code.value() == EINVAL);
  BOOST_TEST((warnings[0].range == peer.at));
  BOOST_TEST(says(warnings[0], "DMA of other devices to it does not work"));
  BOOST_TEST((only_state().in.at(0).mapped == iova_range{}));
  BOOST_TEST(only_state().in.at(0).reason == warnings[0].message());
  BOOST_TEST(!reaches(base));
  BOOST_REQUIRE(remove(peer.at));
}

// covers R9 R23
BOOST_FIXTURE_TEST_CASE(r23_device_memory_that_a_new_container_cannot_map_does_not_keep_it_away, regions_fixture) {
  BOOST_REQUIRE(add(of_kind(region_kind::device_memory, {base, 2 * page}, memory())));
  BOOST_REQUIRE(add(of_kind(region_kind::io, {base + 8 * page, page})));
  BOOST_REQUIRE(stage::add(0, 4));
  kernel().fail_nth(2, EINVAL, "VFIO_IOMMU_MAP_DMA");  // behind the RAM
  const auto rings = attach(emulated());
  BOOST_REQUIRE(rings);
  BOOST_TEST(take_warnings().size() == 1U);
  BOOST_TEST(ring(*rings, 0) == 0);
  BOOST_TEST(ring(*rings, base) != 0);
}

// --- R31: granules ---

// covers R31
BOOST_FIXTURE_TEST_CASE(r31_a_granule_is_mapped_while_it_is_populated, regions_fixture) {
  attach_both();
  kernel().clear();
  BOOST_REQUIRE(add(by_granules()));
  BOOST_TEST(calls_of("VFIO_IOMMU_MAP_DMA") == 0U);
  BOOST_TEST(reached().empty());
  BOOST_REQUIRE(populate(1, 3));
  BOOST_TEST(calls_of("VFIO_IOMMU_MAP_DMA") == 3U);  // each a mapping of its own
  BOOST_TEST((reached() == page_set{1, 2, 3}));
  BOOST_TEST((only_state().populated == std::vector{of(1, 3)}));
  BOOST_REQUIRE(discard(2, 1));
  BOOST_TEST((reached() == page_set{1, 3}));
  BOOST_TEST((only_state().populated == std::vector{of(1, 1), of(3, 1)}));
  BOOST_REQUIRE(remove(of(0, granules)));
  BOOST_TEST(reached().empty());
  BOOST_REQUIRE(stage::add(base, 4));  // nothing is left there
}

// covers R31
BOOST_FIXTURE_TEST_CASE(r31_populating_and_discarding_may_be_repeated, regions_fixture) {
  attach_both();
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(2, 2));
  kernel().clear();
  BOOST_REQUIRE(populate(2, 2));
  BOOST_TEST(kernel().calls() == 0U);
  BOOST_REQUIRE(populate(0, 5));
  BOOST_TEST(calls_of("VFIO_IOMMU_MAP_DMA") == 3U);
  BOOST_TEST((reached() == page_set{0, 1, 2, 3, 4}));
  BOOST_REQUIRE(discard(0, 2));
  kernel().clear();
  BOOST_REQUIRE(discard(0, 2));
  BOOST_TEST(kernel().calls() == 0U);
  BOOST_REQUIRE(discard(0, granules));
  BOOST_TEST(reached().empty());
}

// covers R31
BOOST_FIXTURE_TEST_CASE(r31_what_is_not_whole_granules_of_one_region_is_refused, regions_fixture) {
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(stage::add(base + granules * granule, 4));
  const std::pair<iova_range, errc> odd[] = {{{base + page, granule}, errc::region_misaligned},
                                             {{base, page}, errc::region_misaligned},
                                             {{base, 0}, errc::region_misaligned},
                                             {of(granules, 1), errc::region_unknown},
                                             {of(granules - 1, 2), errc::region_unknown},
                                             {{base - granule, granule}, errc::region_unknown},
                                             {{base - granule, 2 * granule}, errc::region_unknown},
                                             {{0 - page, 2 * page}, errc::region_unknown},
                                             {{base, 0 - std::uint64_t{4096}}, errc::region_unknown}};
  for (const auto& [range, code] : odd) {
    const auto populated =
        failure_of(done<void>([&, range = range](auto token) { space().async_populate(range, std::move(token)); }));
    BOOST_TEST(populated.code == make_error_code(code));
    BOOST_TEST((populated.what == operation::populate_region));
    const auto discarded =
        failure_of(done<void>([&, range = range](auto token) { space().async_discard(range, std::move(token)); }));
    BOOST_TEST(discarded.code == make_error_code(code));
    BOOST_TEST((discarded.what == operation::discard_region));
  }
  BOOST_TEST((failure_of(remove(of(0, 1))).code == make_error_code(errc::region_unknown)));
}

// covers R31
BOOST_FIXTURE_TEST_CASE(r31_a_granule_that_does_not_suit_is_refused, regions_fixture) {
  const iova_range at = of(0, granules);
  auto small = by_granules();
  small.granule = 2048;
  auto odd = by_granules();
  odd.granule = 3 * page;
  auto wide = by_granules();
  wide.granule = granules * granule * 2;
  auto shifted = by_granules();
  shifted.at.iova += page;
  auto askew = by_granules();
  askew.offset += 8;
  auto io = of_kind(region_kind::io, at);
  io.granule = granule;
  for (const auto& one : {small, odd, wide, shifted, askew, io})
    BOOST_TEST(failure_of(add(one)).code == make_error_code(errc::region_misaligned));
  BOOST_TEST(around().discards().requirers().empty());
}

// covers R22 R31
BOOST_FIXTURE_TEST_CASE(r31_a_populate_that_fails_half_way_leaves_what_was_before, regions_fixture) {
  attach_both();
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(2, 2));
  const auto before = held();
  for (std::size_t n = 1; n <= 5; ++n) {
    kernel().fail_nth(n, ENOMEM, "VFIO_IOMMU_MAP_DMA");
    const auto failed = failure_of(populate(0, 7));
    const std::uint64_t missing[] = {0, 1, 4, 5, 6};
    BOOST_TEST(failed.code.value() == ENOMEM);
    BOOST_TEST((failed.range == of(missing[n - 1], 1)));
    BOOST_TEST(failed.undone == "the granules are as before");
    BOOST_TEST((reached() == page_set{2, 3}));
    BOOST_TEST(held() == before);
    BOOST_TEST((only_state().populated == std::vector{of(2, 2)}));
  }
  BOOST_REQUIRE(populate(0, 7));
  BOOST_TEST((reached() == page_set{0, 1, 2, 3, 4, 5, 6}));
}

// covers R18 R22 R31: memory that cannot be pinned, and then nothing can be unmapped
BOOST_FIXTURE_TEST_CASE(r31_a_rollback_that_fails_too_says_what_is_left_and_is_mended_later, regions_fixture) {
  attach_both();
  BOOST_REQUIRE(add(by_granules()));
  for (const bool by_discarding : {true, false}) {
    protect(3, PROT_NONE);
    kernel().fail_randomly(1, 1.0, {EIO}, "VFIO_IOMMU_UNMAP_DMA");
    const auto failed = failure_of(populate(0, granules));
    BOOST_TEST((failed.code.value() == EFAULT || failed.code.value() == ENOMEM), failed.message());
    BOOST_TEST((failed.range == of(3, 1)));
    BOOST_TEST(failed.undone.find("not undone everywhere") == 0U, failed.undone);
    BOOST_TEST((reached() == page_set{0, 1, 2}));
    BOOST_TEST(only_state().populated.empty());
    kernel().clear();
    protect(3, PROT_READ | PROT_WRITE);
    if (by_discarding) {
      BOOST_REQUIRE(discard(0, granules));
      BOOST_TEST(reached().empty());
    }
    BOOST_REQUIRE(populate(0, granules));
    BOOST_TEST(reached().size() == granules);
    BOOST_REQUIRE(discard(0, granules));
    BOOST_TEST(reached().empty());
  }
}

// covers R18 R22 R31
BOOST_FIXTURE_TEST_CASE(r31_a_discard_that_fails_leaves_what_was_before, regions_fixture) {
  attach_both();
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(1, 5));
  const auto before = held();
  kernel().fail_randomly(1, 1.0, {EIO}, "VFIO_IOMMU_UNMAP_DMA");
  const auto failed = failure_of(discard(0, 4));
  BOOST_TEST(failed.code.value() == EIO);
  BOOST_TEST(failed.undone == "the granules are as before");
  kernel().clear();
  BOOST_TEST((reached() == page_set{1, 2, 3, 4, 5}));
  BOOST_TEST(held() == before);
  BOOST_REQUIRE(discard(0, 4));
  BOOST_TEST((reached() == page_set{4, 5}));
}

// covers R18 R31: what the kernel did not say is asked again, granule by granule
BOOST_FIXTURE_TEST_CASE(r31_a_discard_whose_first_unmap_fails_is_carried_out, regions_fixture) {
  attach_both();
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(1, 5));
  kernel().fail_nth(1, EIO, "VFIO_IOMMU_UNMAP_DMA");
  BOOST_REQUIRE(discard(0, 4));
  BOOST_TEST((reached() == page_set{4, 5}));
}

// covers R9 R31
BOOST_FIXTURE_TEST_CASE(r31_a_new_container_gets_what_is_populated_or_does_not_come, regions_fixture) {
  BOOST_REQUIRE(stage::add(0, 4));
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(1, 1));
  BOOST_REQUIRE(populate(4, 3));
  BOOST_REQUIRE(discard(5, 1));
  for (std::size_t n = 1; n <= 4; ++n) {
    kernel().fail_nth(n, ENOMEM, "VFIO_IOMMU_MAP_DMA");
    BOOST_TEST(failure_of(attach(emulated())).code.value() == ENOMEM);
    auto after = held();
    BOOST_TEST(after == holdings{});
  }
  attach_both();
  BOOST_TEST((reached() == page_set{1, 4, 6}));
  BOOST_REQUIRE(populate(5, 1));
  BOOST_TEST((reached() == page_set{1, 4, 5, 6}));
}

// covers R9 R23 R31
BOOST_AUTO_TEST_CASE(r31_a_group_whose_pages_are_larger_than_granules_does_not_come) {
  if (only_the_model("every IOMMU of the guest has pages of 4096 bytes")) return;
  for (const bool alone : {true, false}) {
    regions_fixture here([&](kernel::model_options& options) {
      options.page_sizes = 0x10000;
      if (alone) apart(options);
    });
    BOOST_REQUIRE(here.add(regions_fixture::by_granules()));
    const auto rings = here.attach(here.emulated());
    BOOST_REQUIRE(rings);
    const auto before = here.held();
    const auto refused = failure_of(here.attach(here.edu()));
    BOOST_TEST(refused.code == make_error_code(errc::region_misaligned));
    BOOST_TEST(says(refused, "are no whole IOMMU pages of 65536 bytes"));
    BOOST_TEST(here.held() == before);
    BOOST_REQUIRE(here.populate(0, 2));
    BOOST_TEST(here.ring(*rings, base) == 0);
  }
}

// covers R17 R26 R31
BOOST_FIXTURE_TEST_CASE(r31_only_what_is_populated_is_asked_about_and_told, regions_fixture) {
  const auto rings = attach(emulated(), {.use_dma_log = false});
  BOOST_REQUIRE(rings);
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(1, 2));
  BOOST_REQUIRE(populate(5, 1));
  pages_told told;
  BOOST_REQUIRE(start(told));
  auto gone = pages_of_granules(0, granules);
  for (const auto populated : {1, 2, 5})
    for (const auto which : pages_of_granules(static_cast<std::uint64_t>(populated), 1)) gone.erase(which);
  BOOST_TEST((told.gone == gone));
  BOOST_TEST(ring(*rings, base + 2 * granule) == 0);
  BOOST_TEST(ring(*rings, base + 5 * granule + page) == 0);
  kernel().clear();
  BOOST_REQUIRE(sync());
  BOOST_TEST(calls_of("VFIO_IOMMU_DIRTY_PAGES") == 2U);  // one for each run
  BOOST_TEST((told.pages == page_set{16 + 2 * granule_pages, 16 + 5 * granule_pages + 1}));

  BOOST_REQUIRE(discard(2, 1));  // and with it what was dirty there
  BOOST_TEST((told.pages == page_set{16 + 5 * granule_pages + 1}));
  BOOST_TEST(told.gone.contains(16 + 2 * granule_pages));
  told.pages.clear();
  BOOST_REQUIRE(populate(2, 1));  // new memory, which nobody has sent
  BOOST_TEST((told.pages == pages_of_granules(2, 1)));
  told.pages.clear();
  BOOST_REQUIRE(populate(2, 1));
  BOOST_TEST(told.pages.empty());
  BOOST_REQUIRE(stop());
}

// covers R17 R31
BOOST_FIXTURE_TEST_CASE(r31_a_discard_that_fails_loses_no_dirty_page, regions_fixture) {
  const auto rings = attach(emulated());
  BOOST_REQUIRE(rings);
  BOOST_REQUIRE(add(by_granules()));
  BOOST_REQUIRE(populate(0, 3));
  pages_told told;
  BOOST_REQUIRE(start(told));
  BOOST_TEST(ring(*rings, base + granule) == 0);
  kernel().fail_randomly(1, 1.0, {EIO}, "VFIO_IOMMU_UNMAP_DMA");
  BOOST_TEST(!discard(0, 3));
  kernel().clear();
  BOOST_TEST(told.pages.contains(16 + granule_pages));
  told.pages.clear();
  BOOST_TEST(ring(*rings, base + 2 * granule) == 0);  // tracked on
  BOOST_REQUIRE(sync());
  BOOST_TEST(told.pages.contains(16 + 2 * granule_pages));
  BOOST_REQUIRE(stop());
}

// covers R7 R31
BOOST_FIXTURE_TEST_CASE(r31_a_region_with_a_granule_requires_coordinated_discarding, regions_fixture) {
  attach_both();
  BOOST_REQUIRE(add(by_granules()));  // which type1 allows
  const auto who = around().discards().requirers();
  BOOST_REQUIRE(who.size() == 1U);
  BOOST_TEST(who[0].who == "a region of RAM block ram");
  BOOST_REQUIRE(remove(of(0, granules)));
  BOOST_TEST(around().discards().requirers().empty());
}

// covers R7 R31: sPAPR registers memory as a whole
BOOST_AUTO_TEST_CASE(r31_spapr_and_discarding_exclude_each_other) {
  if (only_the_model("the guest is no POWER machine")) return;
  regions_fixture here(power(true));
  BOOST_REQUIRE(here.add(regions_fixture::by_granules()));
  const auto refused = failure_of(here.attach(here.edu()));
  BOOST_TEST(refused.code.value() == EBUSY);
  BOOST_TEST(says(refused, "a region of RAM block ram requires it"));
  BOOST_TEST(here.held() == holdings{});
  BOOST_REQUIRE(here.remove(regions_fixture::of(0, granules)));
  BOOST_REQUIRE(here.attach(here.edu()));
  const auto blocked = failure_of(here.add(regions_fixture::by_granules()));
  BOOST_TEST(blocked.code.value() == EBUSY);
  BOOST_TEST((blocked.range == regions_fixture::of(0, granules)));
  BOOST_TEST(here.space().regions().empty());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::lifecycle
