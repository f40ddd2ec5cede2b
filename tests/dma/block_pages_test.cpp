// SPDX-License-Identifier: Apache-2.0
//
// From regions to pages of RAM blocks, against the obvious way: byte by byte, page by page.

#include "dma/block_pages.hpp"

#include <boost/test/unit_test.hpp>
#include <random>
#include <set>

#include "dma/bench.hpp"
#include "dma/region_rules.hpp"

namespace tidemark::dma {
namespace {

using tests::page;
using page_set = std::set<std::uint64_t>;

page_set pages_in(const block_page_runs& runs) {
  page_set pages;
  for (const auto& run : runs)
    for (std::uint64_t i = 0; i < run.length; ++i) pages.insert(run.first + i);
  return pages;
}

block_page_runs runs_of(const page_set& pages) {
  block_page_runs runs;
  for (const auto one : pages) {
    if (!runs.empty() && runs.back().first + runs.back().length == one) {
      ++runs.back().length;
    } else {
      runs.push_back({one, 1});
    }
  }
  return runs;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(pages_of_blocks)

// covers R23: what is mapped is whole pages of the IOMMU, and no page more would fit
BOOST_AUTO_TEST_CASE(what_fits_is_the_whole_pages_of_a_range) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t page_size = std::uint64_t{4096} << (random() % 5);
    const iova_range at{random() % 300'000, 1 + random() % 300'000};
    const auto address = at.iova + page_size * (1 + random() % 10);
    const auto part = fit(at, reinterpret_cast<const std::byte*>(address), page_size);
    std::uint64_t whole = 0;
    for (std::uint64_t from = 0; from < 600'000; from += page_size)
      if (from >= at.iova && from + page_size <= at.iova + at.size) whole += page_size;
    BOOST_REQUIRE(part.mapped.size == whole);
    BOOST_REQUIRE(part.reason.empty() == (whole != 0));
    if (whole == 0) continue;
    BOOST_REQUIRE((part.mapped.iova % page_size == 0 && contains(at, part.mapped)));
    BOOST_REQUIRE(!fit(at, reinterpret_cast<const std::byte*>(address + 8), page_size).reason.empty());
  }
}

// covers R30
BOOST_AUTO_TEST_CASE(a_range_touches_the_pages_its_bytes_are_in) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 2'000; ++i) {
    const placed_region shown({{random() % 100'000, 50'000}, 0, random() % 20'000, true}, nullptr);
    const auto skipped = random() % 20'000;
    const iova_range range{shown.asked.at.iova + skipped, 1 + random() % 30'000};
    page_set obvious;
    for (std::uint64_t byte = 0; byte < range.size; ++byte) obvious.insert((shown.asked.offset + skipped + byte) / page);
    BOOST_REQUIRE((pages_in({pages_of(shown, range)}) == obvious));
  }
}

// covers R26 R30: an IOMMU may have larger pages than a RAM block, and a region may begin inside one
BOOST_AUTO_TEST_CASE(bits_of_other_pages_are_widened_to_those_they_touch) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 2'000; ++i) {
    const std::uint64_t page_size = page << (random() % 5);
    const std::uint64_t offset = random() % 2 == 0 ? random() % 16 * page : random() % 60'000;
    const std::uint64_t bits = 1 + random() % 90;
    const placed_region shown({{0x100000, bits * page_size}, 3, offset, true}, nullptr);
    std::vector<std::uint64_t> dirty(core::words_for(bits));
    for (auto& word : dirty) word = random() & random() & random();
    page_set obvious;
    for (std::uint64_t bit = 0; bit < bits; ++bit)
      for (std::uint64_t byte = 0; ((dirty[bit / 64] >> (bit % 64)) & 1) != 0 && byte < page_size; byte += 8)
        obvious.insert((offset + bit * page_size + byte) / page),
            obvious.insert((offset + bit * page_size + byte + 7) / page);
    tests::pages_sink sink;
    report(sink.from(dirty_origin::container), part_of(shown, shown.asked.at), page_size, dirty);
    BOOST_REQUIRE(sink.take(3) == obvious);
  }
}

// covers R31
BOOST_AUTO_TEST_CASE(a_page_is_discarded_while_a_granule_is_all_that_could_show_it) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 2'000; ++i) {
    placed_regions regions;
    page_set granular;
    page_set shown;
    for (std::uint64_t slot = 0, slots = random() % 6; slot < slots; ++slot) {
      region one{{slot * 0x100000, (1 + random() % 16) * 2 * page}, static_cast<block_index>(random() % 4 == 0), 0, true};
      one.offset = random() % 32 * page;
      one.granule = random() % 3 == 0 ? 0 : (random() % 2 == 0 ? page : 2 * page);
      placed_region placed(one, nullptr);
      for (std::uint64_t piece = 0; one.granule != 0 && piece < placed.populated.size(); ++piece)
        if (random() % 2 == 0) placed.populated.set(piece, 1);
      for (std::uint64_t at = 0; one.block == 0 && at < one.at.size; at += page) {
        const auto which = (one.offset + at) / page;
        if (one.granule != 0) granular.insert(which);
        if (one.granule == 0 || placed.populated.test(at / one.granule)) shown.insert(which);
      }
      regions.emplace(one.at.iova, std::move(placed));
    }
    const block_pages within{random() % 20, 1 + random() % 50};
    page_set obvious;
    for (const auto which : granular)
      if (!shown.contains(which) && which >= within.first && which - within.first < within.length) obvious.insert(which);
    BOOST_REQUIRE(discarded_pages(regions, 0, within) == runs_of(obvious));
  }
}

BOOST_AUTO_TEST_CASE(a_difference_is_what_only_the_first_has) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 5'000; ++i) {
    page_set from;
    page_set without;
    for (std::uint64_t n = random() % 40; n > 0; --n) from.insert(random() % 60);
    for (std::uint64_t n = random() % 40; n > 0; --n) without.insert(random() % 60);
    page_set obvious = from;
    for (const auto one : without) obvious.erase(one);
    BOOST_REQUIRE(difference(runs_of(from), runs_of(without)) == runs_of(obvious));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::dma
