// SPDX-License-Identifier: Apache-2.0

#include "dma/logged_ranges.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <random>

namespace tidemark::dma {

namespace {

std::uint64_t sum(const std::vector<iova_range>& ranges) {
  std::uint64_t bytes = 0;
  for (const auto& one : ranges) bytes += one.size;
  return bytes;
}

/// The least that so many ranges can log: all but the largest gaps.
std::uint64_t least(std::vector<iova_range> ranges, std::size_t count_max) {
  const auto apart = logged_ranges(std::move(ranges), ~std::size_t{0});
  std::vector<std::uint64_t> gaps;
  for (std::size_t i = 1; i < apart.size(); ++i) gaps.push_back(apart[i].iova - apart[i - 1].iova - apart[i - 1].size);
  std::sort(gaps.rbegin(), gaps.rend());
  auto bytes = apart.back().iova + apart.back().size - apart.front().iova;
  for (std::size_t i = 0; i < std::min(gaps.size(), count_max - 1); ++i) bytes -= gaps[i];
  return bytes;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ranges_that_devices_log)

// covers R27
BOOST_AUTO_TEST_CASE(they_are_few_apart_and_hold_all_with_as_little_else_as_can_be) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<iova_range> ranges(1 + random() % 12);
    for (auto& one : ranges) one = {random() % 64, 1 + random() % 6};
    const auto count_max = 1 + random() % 8;
    const auto logged = logged_ranges(ranges, count_max);
    BOOST_REQUIRE(!logged.empty());
    BOOST_REQUIRE(logged.size() <= count_max);
    for (std::size_t at = 1; at < logged.size(); ++at)
      BOOST_REQUIRE(logged[at].iova > logged[at - 1].iova + logged[at - 1].size);
    for (const auto& one : ranges) BOOST_REQUIRE(is_within(logged, one));
    BOOST_REQUIRE(sum(logged) == least(ranges, count_max));
  }
}

BOOST_AUTO_TEST_CASE(at_the_ends_of_the_address_space) {
  const std::vector<iova_range> ends{{~std::uint64_t{0} - 4095, 4096}, {0, 4096}};
  const auto two = logged_ranges(ends, 2);
  BOOST_TEST((two == std::vector<iova_range>{{0, 4096}, {~std::uint64_t{0} - 4095, 4096}}));
  BOOST_TEST(is_within(two, ends[0]));
  BOOST_TEST(!is_within(two, {4096, 1}));
  BOOST_TEST(!is_within({}, {0, 1}));
  BOOST_TEST(logged_ranges({}, 2).empty());
  BOOST_TEST(logged_ranges({{8, 0}}, 2).empty());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::dma
