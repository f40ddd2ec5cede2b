// SPDX-License-Identifier: Apache-2.0

#include "dirty/page_ranges.hpp"

#include <boost/test/unit_test.hpp>
#include <random>
#include <set>

namespace tidemark::dirty {

BOOST_AUTO_TEST_CASE(ranges_of_pages_are_the_obvious_set) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    page_ranges ranges;
    std::set<std::uint64_t> obvious;
    for (int step = 0; step < 60; ++step) {
      const auto first = random() % 64;
      const auto pages = 1 + random() % 20;
      if (random() % 2 == 0) {
        ranges.add(first, pages);
        for (std::uint64_t i = 0; i < pages; ++i) obvious.insert(first + i);
      } else {
        ranges.remove(first, pages);
        for (std::uint64_t i = 0; i < pages; ++i) obvious.erase(first + i);
      }
      const auto from = random() % 64;
      const auto count = 1 + random() % 40;
      std::set<std::uint64_t> seen;
      std::uint64_t end = 0;
      ranges.for_each_in(from, count, [&](std::uint64_t at, std::uint64_t length) {
        BOOST_REQUIRE(length != 0);
        BOOST_REQUIRE((seen.empty() || at > end));  // none meets or touches the one before
        for (std::uint64_t i = 0; i < length; ++i) seen.insert(at + i);
        end = at + length;
      });
      const std::set<std::uint64_t> expected(obvious.lower_bound(from), obvious.lower_bound(from + count));
      BOOST_REQUIRE((seen == expected));
      BOOST_REQUIRE(ranges.empty() == obvious.empty());
    }
    ranges.clear();
    BOOST_REQUIRE(ranges.empty());
  }
}

}  // namespace tidemark::dirty
