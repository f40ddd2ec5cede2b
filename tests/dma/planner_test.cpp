// SPDX-License-Identifier: Apache-2.0

#include "dma/planner.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

using namespace tidemark;
using namespace tidemark::dma;

namespace {

using kind = change::kind;

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t mib = 1ULL << 20;
constexpr std::uint64_t gib = 1ULL << 30;
constexpr std::uint64_t half = 1ULL << 63;
constexpr std::uint64_t memory = 0x7ULL << 44;  // of the host, and where IOVA 0 is in it unless said otherwise

std::byte* host(std::uint64_t offset) { return std::bit_cast<std::byte*>(std::uintptr_t{memory + offset}); }

struct map_options {
  std::uint64_t unit = 0;
  std::uint32_t transaction = 0;
  bool writable = true;
  std::uint64_t shift = 0;  // of the memory
};

change map(std::uint64_t iova, std::uint64_t size, map_options options = {}) {
  return {.what = kind::map,
          .writable = options.writable,
          .transaction = options.transaction,
          .at = {iova, size},
          .host = host(iova + options.shift),
          .unit = options.unit};
}
change unmap(std::uint64_t iova, std::uint64_t size, std::uint32_t transaction = 0) {
  return {.what = kind::unmap, .transaction = transaction, .at = {iova, size}};
}
change unmap_alone(std::uint64_t iova, std::uint64_t size) {
  static std::uint64_t bits = 0;
  return {.what = kind::unmap, .at = {iova, size}, .dirty = {&bits, 1}};
}
change unmap_everything(std::uint32_t transaction = 0) {
  return {.what = kind::unmap_everything, .transaction = transaction};
}

/// Writes a plan down, a step a word: "+0x1000:0x2000<0,1" maps for changes 0 and 1, "&" continues, "-" unmaps, "*"
/// everything.
std::string text_of(const plan& made) {
  std::string text;
  for (const auto& step : made.steps) {
    if (!text.empty()) text += ' ';
    text += step.what == kind::unmap ? "-" : step.what == kind::unmap_everything ? "*" : step.continues ? "&" : "+";
    char range[48];
    std::snprintf(range, sizeof(range), "%" PRIx64 ":%" PRIx64, step.at.iova, step.at.size);
    if (step.what != kind::unmap_everything) text += range;
    char mark = '<';
    for (const auto which : made.served_by(step)) {
      text += mark + std::to_string(which);
      mark = ',';
    }
  }
  return text;
}

struct bench {
  mapping_book book;
  plan_limits limits;
  plan made;

  bench& holds(std::uint64_t iova, std::uint64_t size, bool continues = false) {
    book.add(iova, {size, host(iova), true, continues});
    return *this;
  }
  std::string plans(const std::vector<change>& changes) {
    make_plan(book, changes, limits, made);
    return text_of(made);
  }
  std::vector<std::uint32_t> settled() const {
    auto all = made.settled;
    std::sort(all.begin(), all.end());
    return all;
  }
  const error& refusal(std::size_t index = 0) const { return made.refused.at(index).why; }
};

using indices = std::vector<std::uint32_t>;

bool says(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

boost::system::error_code code_of(int errno_value) { return {errno_value, boost::system::system_category()}; }

}  // namespace

BOOST_AUTO_TEST_SUITE(the_mapping_book)

BOOST_AUTO_TEST_CASE(finds_what_shares_a_byte_with_a_range) {
  mapping_book book;
  BOOST_TEST(book.is_free({0, page}));
  book.add(2 * page, {2 * page, host(0), true, false});
  book.add(0 - page, {page, host(0), true, false});
  BOOST_TEST(book.is_free({0, 2 * page}));
  BOOST_TEST(book.is_free({4 * page, page}));
  BOOST_TEST(book.is_free({2 * page, 0}));
  BOOST_TEST(book.first_in({0, 3 * page})->first == 2 * page);
  BOOST_TEST(book.first_in({3 * page, page})->first == 2 * page);
  BOOST_TEST(book.first_in({4 * page, 0 - 4 * page})->first == 0 - page);
}

BOOST_AUTO_TEST_CASE(removes_what_begins_in_a_range) {
  mapping_book book;
  for (std::uint64_t i = 0; i < 4; ++i) book.add(i * page, {page, host(i * page), true, false});
  book.remove({page, 2 * page});
  BOOST_TEST(book.size() == 2U);
  book.remove({3 * page, 0});
  BOOST_TEST(book.size() == 2U);
  book.remove({page, 0 - page});
  BOOST_TEST(book.size() == 1U);
  book.clear();
  BOOST_TEST((book.begin() == book.end()));
}

// covers R19
BOOST_AUTO_TEST_CASE(knows_what_would_be_cut) {
  mapping_book book;
  book.add(0, {2 * page, host(0), true, false});
  book.add(2 * page, {page, host(2 * page), true, true});
  book.add(3 * page, {page, host(9 * page), true, false});
  BOOST_TEST(book.cuts({page, page}));
  BOOST_TEST(book.cuts({0, 2 * page}));
  BOOST_TEST(book.cuts({2 * page, page}));
  BOOST_TEST(!book.cuts({0, 3 * page}));
  BOOST_TEST(!book.cuts({3 * page, page}));
  BOOST_TEST(!book.cuts({8 * page, 0 - 8 * page}));
  BOOST_TEST(!book.cuts({page, 0}));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(planner)

BOOST_AUTO_TEST_CASE(nothing_is_planned_for_nothing) {
  bench b;
  BOOST_TEST(b.plans({}) == "");
  BOOST_TEST((b.made.settled.empty() && b.made.refused.empty()));
}

BOOST_AUTO_TEST_CASE(one_change_is_one_step_with_all_that_it_says) {
  bench b;
  BOOST_TEST(b.plans({map(page, page, {.writable = false, .shift = 5 * page})}) == "+1000:1000<0");
  const auto& step = b.made.steps.front();
  BOOST_TEST((!step.writable && !step.continues && step.host == host(6 * page)));
}

// covers R19
BOOST_AUTO_TEST_CASE(neighbours_within_a_unit_become_one_map_however_shuffled) {
  bench b;
  const map_options in{.unit = 16 * page};
  BOOST_TEST(b.plans({map(0, page, in), map(2 * page, page, in), map(page, page, in)}) == "+0:3000<0,2,1");
  BOOST_TEST(b.plans({map(14 * page, page, in), map(15 * page, page, in), map(16 * page, page, in)}) ==
             "+e000:2000<0,1 +10000:1000<2");
}

// covers R19
BOOST_AUTO_TEST_CASE(what_differs_is_not_merged) {
  bench b;
  BOOST_TEST(b.plans({map(0, page), map(page, page)}) == "+0:1000<0 +1000:1000<1");
  BOOST_TEST(b.plans({map(0, page, {.unit = 16 * page}), map(page, page, {.unit = 8 * page})}) == "+0:1000<0 +1000:1000<1");
  BOOST_TEST(b.plans({map(0, page, {.unit = 16 * page}), map(page, page, {.unit = 16 * page, .shift = page})}) ==
             "+0:1000<0 +1000:1000<1");
  BOOST_TEST(b.plans({map(0, page, {.unit = 16 * page}), map(page, page, {.unit = 16 * page, .writable = false})}) ==
             "+0:1000<0 +1000:1000<1");
  BOOST_TEST(b.plans({map(0, page, {.unit = 16 * page}), map(page, page, {.unit = 16 * page, .transaction = 1})}) ==
             "+0:1000<0 +1000:1000<1");
  BOOST_TEST(b.plans({map(0, 16 * page, {.unit = 8 * page}), map(16 * page, page, {.unit = 8 * page})}) ==
             "+0:10000<0 +10000:1000<1");
}

// covers R19
BOOST_AUTO_TEST_CASE(what_was_merged_is_one_for_the_rest_of_the_batch) {
  bench b;
  const map_options in{.unit = 16 * page};
  BOOST_TEST(b.plans({map(0, page, in), map(page, page, in), unmap(page, page)}) == "+0:2000<0,1");
  BOOST_TEST(b.refusal().code == code_of(EINVAL));
  BOOST_TEST(says(b.refusal().detail, "[0x0, +0x2000)"));
  BOOST_TEST(b.plans({map(0, page, in), map(page, page, in), unmap(0, 16 * page)}) == "");
  BOOST_TEST(b.settled() == (indices{0, 1, 2}));
}

// covers R21
BOOST_AUTO_TEST_CASE(a_merged_map_stays_inside_one_window_as_well) {
  bench b;
  const std::vector<iova_range> windows{{0, 2 * page}, {2 * page, 2 * page}};
  b.limits.windows = windows;
  const map_options in{.unit = 16 * page};
  BOOST_TEST(b.plans({map(page, page, in), map(2 * page, page, in), map(3 * page, page, in)}) ==
             "+1000:1000<0 +2000:2000<1,2");
}

BOOST_AUTO_TEST_CASE(a_large_map_is_cut_where_huge_pages_stay_whole) {
  bench b;
  BOOST_TEST(b.plans({map(255 * mib, 514 * mib)}) ==
             "+ff00000:100000<0 &10000000:10000000<0 &20000000:10000000<0 &30000000:100000<0");
  BOOST_TEST(b.made.steps[1].host == host(256 * mib));
  BOOST_TEST(b.plans({map(255 * mib, 256 * mib)}) == "+ff00000:10000000<0");  // small enough: not cut wherever it is
}

BOOST_AUTO_TEST_CASE(a_map_that_can_have_no_huge_pages_is_cut_anywhere) {
  bench b;
  BOOST_TEST(b.plans({map(255 * mib, 514 * mib, {.shift = page})}) ==
             "+ff00000:10000000<0 &1ff00000:10000000<0 &2ff00000:200000<0");
}

// covers R20
BOOST_AUTO_TEST_CASE(pieces_grow_until_the_mappings_suffice) {
  bench b;
  b.limits.mappings_available = 2;
  BOOST_TEST(b.plans({map(0, gib)}) == "+0:20000000<0 &20000000:20000000<0");
  b.limits.mappings_available = 1;
  BOOST_TEST(b.plans({map(0, gib)}) == "+0:40000000<0");
  b.limits.page_size = 1ULL << 62;
  b.limits.piece_bytes = 1ULL << 62;
  BOOST_TEST(b.plans({{.at = {0, 3ULL << 62}}}) == "+0:c000000000000000<0");
}

// covers R20
BOOST_AUTO_TEST_CASE(over_the_budget_is_refused_with_the_numbers) {
  bench b;
  b.holds(0, page);
  b.limits.mappings_available = 1;
  BOOST_TEST(b.plans({map(4 * page, page), map(8 * page, page)}) == "+4000:1000<0");
  BOOST_TEST(b.made.refused.front().which == 1U);
  BOOST_TEST(b.refusal().code == make_error_code(errc::no_mapping_left));
  BOOST_TEST((b.refusal().range == iova_range{8 * page, page}));
  BOOST_TEST(says(b.refusal().detail, "needs 1 mapping"));
  BOOST_TEST(says(b.refusal().detail, "allows 1 more"));
  BOOST_TEST(says(b.refusal().detail, "vfio_iommu_type1.dma_entry_limit"));
}

// covers R20
BOOST_AUTO_TEST_CASE(an_unmap_gives_its_mappings_to_what_comes_after_it_only) {
  bench b;
  b.holds(0, page).holds(page, page, true);
  b.limits.mappings_available = 0;
  BOOST_TEST(b.plans({map(8 * page, page), unmap(0, 2 * page), map(4 * page, page), map(6 * page, page),
                      map(9 * page, page)}) == "-0:2000<1 +4000:1000<2 +6000:1000<3");
  BOOST_TEST(b.made.refused.size() == 2U);
  BOOST_TEST(b.made.refused[0].which == 0U);
  BOOST_TEST(b.made.refused[1].which == 4U);
}

// covers R20
BOOST_AUTO_TEST_CASE(a_map_that_joins_another_needs_no_mapping_of_its_own) {
  bench b;
  b.limits.mappings_available = 1;
  const map_options in{.unit = 16 * page};
  BOOST_TEST(b.plans({map(0, page, in), map(page, page, in), map(4 * page, page, in)}) == "+0:2000<0,1");
  BOOST_TEST(b.refusal().code == make_error_code(errc::no_mapping_left));
}

// covers R15
BOOST_AUTO_TEST_CASE(a_map_over_what_is_there_is_refused_and_told_what_it_met) {
  bench b;
  b.holds(page, 2 * page);
  BOOST_TEST(b.plans({map(2 * page, 2 * page), map(8 * page, page), map(8 * page, page)}) == "+8000:1000<1");
  BOOST_TEST(b.refusal(0).code == code_of(EEXIST));
  BOOST_TEST(says(b.refusal(0).detail, "[0x1000, +0x2000)"));
  BOOST_TEST(b.refusal(1).code == code_of(EEXIST));
  BOOST_TEST(says(b.refusal(1).detail, "[0x8000, +0x1000) is mapped by an earlier change of the batch"));
}

BOOST_AUTO_TEST_CASE(a_map_in_place_of_another_comes_after_its_unmap) {
  bench b;
  b.holds(0, page);
  BOOST_TEST(b.plans({unmap(0, page), map(0, page, {.shift = 7 * page})}) == "-0:1000<0 +0:1000<1");
  BOOST_TEST(b.plans({unmap(0, page), map(0, page), unmap(0, page)}) == "-0:1000<0");
  BOOST_TEST(b.settled() == (indices{1, 2}));
}

// covers R16
BOOST_AUTO_TEST_CASE(malformed_ranges_are_refused) {
  bench b;
  auto crooked = map(0, page);
  crooked.host += 512;
  BOOST_TEST(b.plans({map(512, page), map(0, 512), map(0, 0), unmap(page, 0 - page + page / 2), unmap(2 * page, 0 - page),
                      crooked}) == "");
  BOOST_TEST(b.made.refused.size() == 6U);
  for (const auto& [which, why] : b.made.refused) BOOST_TEST(why.code == code_of(EINVAL));
  BOOST_TEST(says(b.refusal(0).detail, "4096 bytes"));
  BOOST_TEST(says(b.refusal(2).detail, "empty"));
  BOOST_TEST(says(b.refusal(4).detail, "wraps"));
  BOOST_TEST((b.refusal(3).what == operation::unmap && b.refusal(5).what == operation::map));
}

// covers R16
BOOST_AUTO_TEST_CASE(the_last_page_of_the_address_space_is_a_page) {
  bench b;
  b.holds(0 - page, page).holds(0, page);
  BOOST_TEST(b.plans({unmap(0 - page, page), map(0 - page, page, {.shift = 8 * page})}) ==
             "-fffffffffffff000:1000<0 +fffffffffffff000:1000<1");
  const map_options in{.unit = half, .shift = 8 * page};
  BOOST_TEST(bench{}.plans({map(0 - page, page, in), map(0, page, in)}) == "+0:1000<1 +fffffffffffff000:1000<0");
}

// covers R21
BOOST_AUTO_TEST_CASE(a_map_outside_the_windows_is_refused_with_the_window_that_ends_too_early) {
  bench b;
  const std::vector<iova_range> windows{{page, 4 * page}, {16 * page, 0 - 16 * page}};
  b.limits.windows = windows;
  BOOST_TEST(b.plans({map(4 * page, page), map(4 * page, 2 * page), map(0, page), map(8 * page, page),
                      map(0 - page, page, {.shift = 8 * page})}) == "+4000:1000<0 +fffffffffffff000:1000<4");
  for (const auto& [which, why] : b.made.refused) BOOST_TEST(why.code == make_error_code(errc::outside_window));
  BOOST_TEST(says(b.refusal(0).message(), "not inside one IOVA window: the window [0x1000, +0x4000) ends too early"));
  BOOST_TEST(says(b.refusal(1).detail, "the next one is [0x1000, +0x4000)"));
  BOOST_TEST(says(b.refusal(2).detail, "the next one is [0x10000, "));
  b.limits.windows = std::span(windows).first(1);
  b.plans({map(8 * page, page), unmap(8 * page, page)});
  BOOST_TEST(says(b.refusal().detail, "the last one is [0x1000, +0x4000)"));
  BOOST_TEST(b.settled() == (indices{1}));  // to unmap is allowed everywhere
}

// covers R19
BOOST_AUTO_TEST_CASE(an_unmap_that_cuts_is_refused) {
  bench b;
  b.holds(0, 2 * page).holds(2 * page, 2 * page, true).holds(4 * page, page);
  BOOST_TEST(b.plans({unmap(0, 2 * page), unmap(2 * page, 2 * page), unmap(page, 4 * page), unmap(4 * page, page)}) ==
             "-4000:1000<3");
  BOOST_TEST(b.made.refused.size() == 3U);
  for (const auto& [which, why] : b.made.refused) BOOST_TEST((why.code == code_of(EINVAL) && why.what == operation::unmap));
  BOOST_TEST(says(b.refusal(0).detail, "[0x2000, +0x2000)"));
  BOOST_TEST(b.plans({unmap(0, 4 * page)}) == "-0:4000<0");
  BOOST_TEST(b.plans({map(8 * page, 2 * page), unmap(8 * page, page)}) == "+8000:2000<0");
  BOOST_TEST(b.refusal().code == code_of(EINVAL));
}

BOOST_AUTO_TEST_CASE(a_map_and_its_unmap_cancel_each_other) {
  bench b;
  BOOST_TEST(b.plans({map(0, page), map(2 * page, page), unmap(0, 4 * page), map(0, page)}) == "+0:1000<3");
  BOOST_TEST(b.settled() == (indices{0, 1, 2}));
  b.holds(page, page);
  BOOST_TEST(b.plans({map(0, page), unmap(0, 2 * page)}) == "-0:2000<1");  // the rest of it has to be unmapped
  BOOST_TEST(b.settled() == (indices{0}));
}

// covers R22
BOOST_AUTO_TEST_CASE(a_map_and_its_unmap_in_another_transaction_keep_their_order) {
  bench b;
  b.holds(page, page);
  BOOST_TEST(b.plans({map(0, page, {.transaction = 1}), unmap(0, page, 2)}) == "+0:1000<0 -0:1000<1");
  BOOST_TEST(b.plans({map(0, page, {.transaction = 1}), unmap(0, 2 * page), map(0, page)}) ==
             "+0:1000<0 -0:2000<1 +0:1000<2");
  BOOST_TEST(b.plans({map(0, page, {.transaction = 1}), unmap(0, page, 1)}) == "");
  BOOST_TEST(b.plans({map(0, page, {.transaction = 1}), unmap(8 * page, page, 2), unmap(0, page, 1)}) ==
             "+0:1000<0 -0:1000<2");  // the number came again: that is another one
}

BOOST_AUTO_TEST_CASE(unmaps_of_neighbours_become_one_but_for_those_alone) {
  bench b;
  for (std::uint64_t i = 0; i < 8; ++i) b.holds(i * page, page);
  BOOST_TEST(b.plans({unmap(2 * page, page), unmap(0, page), unmap(5 * page, page), unmap(page, page)}) ==
             "-0:3000<1,3,0 -5000:1000<2");
  BOOST_TEST(b.plans({unmap(0, page), unmap_alone(page, page), unmap(2 * page, page)}) ==
             "-0:1000<0 -1000:1000<1 -2000:1000<2");
  BOOST_TEST(b.plans({unmap(0, page, 1), unmap(page, page, 1), unmap(2 * page, page, 2)}) == "-0:2000<0,1 -2000:1000<2");
}

BOOST_AUTO_TEST_CASE(unmaps_with_nothing_mapped_in_between_become_one_where_the_driver_allows) {
  bench b;
  for (const auto i : {0U, 8U, 16U, 24U, 32U}) b.holds(i * page, page);
  const std::vector<change> all{unmap(16 * page, page), unmap(0, page), unmap(32 * page, page), unmap(8 * page, page)};
  BOOST_TEST(b.plans(all) == "-0:11000<1,3,0 -20000:1000<2");  // what is at page 24 stays
  BOOST_TEST(b.plans({unmap(0, page), unmap(8 * page, page), map(4 * page, page)}) == "-0:9000<0,1 +4000:1000<2");
  BOOST_TEST(b.plans({map(4 * page, page), unmap(0, 3 * page), unmap(8 * page, page)}) == "-0:9000<1,2 +4000:1000<0");
  BOOST_TEST(b.plans({unmap(0, page), unmap_alone(8 * page, page)}) == "-0:1000<0 -8000:1000<1");
  b.limits.can_unmap_gaps = false;
  BOOST_TEST(b.plans(all) == "-0:1000<1 -8000:1000<3 -10000:1000<0 -20000:1000<2");
}

BOOST_AUTO_TEST_CASE(unmaps_of_the_whole_address_space_together_stay_two) {
  bench b;
  b.holds(0, page).holds(half, page);
  BOOST_TEST(b.plans({unmap(0, half), unmap(half, half)}) == "-0:8000000000000000<0 -8000000000000000:8000000000000000<1");
}

// What the second names reaches over what the first one unmaps: before it, it would cut that.
BOOST_AUTO_TEST_CASE(an_unmap_over_what_an_earlier_one_named_comes_after_it) {
  bench b;
  b.holds(2 * page, page).holds(7 * page, 5 * page);
  BOOST_TEST(b.plans({unmap(5 * page, 10 * page), unmap(0, 10 * page)}) == "-5000:a000<0 -0:a000<1");
}

BOOST_AUTO_TEST_CASE(an_unmap_of_nothing_is_settled) {
  bench b;
  b.holds(0, page);
  BOOST_TEST(b.plans({unmap(4 * page, page), unmap_alone(4 * page, page), unmap(0, page), unmap(0, page)}) == "-0:1000<2");
  BOOST_TEST(b.settled() == (indices{0, 1, 3}));
}

// covers R16
BOOST_AUTO_TEST_CASE(everything_is_unmapped_in_one_or_in_two_halves) {
  bench b;
  b.holds(0, page).holds(0 - page, page);
  BOOST_TEST(b.plans({map(4 * page, page), unmap_everything(), map(0, page), unmap_everything(), map(0, page)}) ==
             "*<1 +0:1000<4");
  BOOST_TEST(b.settled() == (indices{0, 2, 3}));
  b.limits.can_unmap_all = false;
  BOOST_TEST(b.plans({unmap_everything()}) == "-0:8000000000000000<0 -8000000000000000:8000000000000000<0");
  BOOST_TEST(bench{}.plans({map(0, page), unmap_everything()}) == "");
  BOOST_TEST(b.plans({map(4 * page, page, {.transaction = 1}), unmap_everything()}) ==
             "+4000:1000<0 -0:8000000000000000<1 -8000000000000000:8000000000000000<1");
}

// covers R16, R19
BOOST_AUTO_TEST_CASE(the_halves_do_not_meet_inside_a_mapping) {
  bench b;
  b.limits.can_unmap_all = false;
  b.holds(half - page, 2 * page);
  BOOST_TEST(b.plans({unmap_everything()}) == "-0:7ffffffffffff000<0 -7ffffffffffff000:8000000000001000<0");
  bench c;
  c.limits.can_unmap_all = false;
  c.holds(0, half + page);
  BOOST_TEST(c.plans({unmap_everything()}) == "-0:8000000000001000<0 -8000000000001000:7ffffffffffff000<0");
}

// covers R22
BOOST_AUTO_TEST_CASE(a_transaction_is_refused_whole) {
  bench b;
  b.holds(0, page).holds(4 * page, 2 * page);
  BOOST_TEST(b.plans({map(8 * page, page, {.transaction = 3}), unmap(4 * page, page, 3), map(0, page, {.transaction = 3}),
                      unmap(0, page, 3), map(8 * page, page)}) == "+8000:1000<4");
  BOOST_TEST(b.made.refused.size() == 4U);
  for (std::uint32_t i = 0; i < 4; ++i) BOOST_TEST(b.made.refused[i].which == i);
  BOOST_TEST(b.refusal(0).code == code_of(EINVAL));  // the first one's reason
  BOOST_TEST(b.refusal(1).code == code_of(EINVAL));
  BOOST_TEST(b.refusal(2).code == code_of(EEXIST));  // its own
  BOOST_TEST(b.refusal(3).code == code_of(EINVAL));
  BOOST_TEST(b.refusal(1).undone.empty());
  BOOST_TEST(says(b.refusal(3).undone, "all or none"));
  BOOST_TEST(says(b.refusal(3).detail, "unmap [0x4000, +0x1000)"));
  BOOST_TEST((b.refusal(3).what == operation::unmap && b.refusal(3).range == iova_range{0, page}));
}

// covers R20, R22
BOOST_AUTO_TEST_CASE(a_refused_transaction_leaves_everything_as_it_was) {
  bench b;
  b.holds(0, page);
  b.limits.mappings_available = 1;
  BOOST_TEST(b.plans({map(4 * page, page), unmap(0, page, 1), unmap(4 * page, page, 1), map(0, 3 * page, {.transaction = 1}),
                      map(2 * page, page, {.transaction = 1}), map(8 * page, page), unmap(4 * page, page)}) == "");
  BOOST_TEST(b.settled() == (indices{0, 6}));
  BOOST_TEST(b.made.refused.size() == 5U);
  BOOST_TEST(b.refusal(4).code == make_error_code(errc::no_mapping_left));  // the transaction's unmaps gave nothing back
}

BOOST_AUTO_TEST_CASE(a_plan_is_made_anew_in_the_memory_of_the_last) {
  bench b;
  b.plans({map(0, page), map(0, page), unmap(8 * page, page)});
  BOOST_TEST(b.plans({map(page, page)}) == "+1000:1000<0");
  BOOST_TEST((b.made.settled.empty() && b.made.refused.empty() && b.made.served.size() == 1));
}

BOOST_AUTO_TEST_SUITE_END()
