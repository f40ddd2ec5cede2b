// SPDX-License-Identifier: Apache-2.0

#include "dma/dirty_slices.hpp"

#include <boost/test/unit_test.hpp>
#include <random>
#include <vector>

#include "core/bitmap.hpp"

namespace tidemark::dma {

BOOST_AUTO_TEST_SUITE(slices_of_dirty_queries)

// covers R26
BOOST_AUTO_TEST_CASE(they_hold_every_mapping_once_and_cut_none) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 5'000; ++i) {
    mapping_book held;
    std::vector<iova_range> mappings;
    for (std::uint64_t at = random() % 4; mappings.size() < random() % 20;) {
      mappings.push_back({at, 1 + random() % 9});
      held.add(at, {mappings.back().size * 8, nullptr, true, false});
      mappings.back() = {at, mappings.back().size * 8};
      at += mappings.back().size + random() % 3 * 16;
    }
    const auto bytes_max = 8 * (1 + random() % 30);
    std::vector<iova_range> met;
    for (iova_range left{0, 1 << 20};;) {
      const auto slice = first_slice(held, left, bytes_max);
      if (slice.size == 0) break;
      std::size_t inside = 0;
      for (const auto& one : mappings) {
        const bool begins = one.iova - slice.iova < slice.size;
        if (!begins) continue;
        BOOST_REQUIRE(one.iova - slice.iova + one.size <= slice.size);
        met.push_back(one);
        ++inside;
      }
      BOOST_REQUIRE((slice.size <= bytes_max || inside == 1));
      left = behind(left, slice);
    }
    BOOST_REQUIRE(met == mappings);
  }
}

BOOST_AUTO_TEST_CASE(bits_come_to_where_they_belong) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 5'000; ++i) {
    const auto count = 1 + random() % 200;
    const auto at = random() % 150;
    std::vector<std::uint64_t> bits(core::words_for(count));
    for (auto& word : bits) word = random();
    std::vector<std::uint64_t> into(core::words_for(at + count));
    for (auto& word : into) word = random() & random();
    const auto before = into;
    place_bits(into, at, bits, count);
    const auto test = [](const auto& words, std::uint64_t bit) { return ((words[bit / 64] >> (bit % 64)) & 1) != 0; };
    for (std::uint64_t bit = 0; bit < into.size() * 64; ++bit) {
      const bool placed = bit >= at && bit - at < count && test(bits, bit - at);
      BOOST_REQUIRE(test(into, bit) == (test(before, bit) || placed));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::dma
