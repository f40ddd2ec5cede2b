// SPDX-License-Identifier: Apache-2.0

#include "dirty/latency.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <random>
#include <vector>

namespace tidemark::dirty {

using nanoseconds = std::chrono::nanoseconds;

BOOST_AUTO_TEST_CASE(percentiles_are_within_four_percent_of_the_true_ones) {
  std::mt19937_64 random(1);
  latency histogram;
  BOOST_TEST(histogram.statistics().count == 0U);
  std::vector<double> all;
  for (int i = 0; i < 5'000; ++i) {
    const auto ns = static_cast<std::int64_t>(std::exp(6 + static_cast<double>(random() % 20'000) / 1'000));
    histogram.add(nanoseconds(ns));
    all.push_back(static_cast<double>(ns));
  }
  std::sort(all.begin(), all.end());
  const auto told = histogram.statistics();
  const auto is_near = [&](nanoseconds value, double share) {
    const auto rank = static_cast<std::size_t>(std::ceil(share * 5'000)) - 1;
    BOOST_TEST(std::abs(static_cast<double>(value.count()) / all[rank] - 1) < 0.04);
  };
  is_near(told.p50, 0.5);
  is_near(told.p90, 0.9);
  is_near(told.p99, 0.99);
  is_near(told.p999, 0.999);
  BOOST_TEST(static_cast<double>(told.min.count()) == all.front());
  BOOST_TEST(static_cast<double>(told.max.count()) == all.back());
  BOOST_TEST(told.count == 5'000U);
}

BOOST_AUTO_TEST_CASE(what_is_out_of_bounds_is_told_as_what_it_was) {
  latency histogram;
  histogram.add(nanoseconds(3));
  BOOST_TEST(histogram.statistics().p50.count() == 3);
  histogram.add(std::chrono::hours(10));
  BOOST_TEST((histogram.statistics().max == std::chrono::hours(10)));
  BOOST_TEST((histogram.statistics().p999 == std::chrono::hours(10)));
}

}  // namespace tidemark::dirty
