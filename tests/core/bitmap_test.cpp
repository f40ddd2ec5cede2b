// SPDX-License-Identifier: Apache-2.0

#include "core/bitmap.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <random>
#include <vector>

namespace tidemark::core {

namespace {

/// The obvious bitmap: what the real one is held to.
struct reference {
  std::vector<bool> bits;

  void merge(std::uint64_t first, std::uint64_t length, const std::vector<std::uint64_t>& source) {
    for (std::uint64_t i = 0; i < length; ++i)
      if ((source[i / 64] >> (i % 64)) & 1) bits[first + i] = true;
  }
  bitmap::run next_run(std::uint64_t from, std::uint64_t length_max) const {
    while (from < bits.size() && !bits[from]) ++from;
    std::uint64_t length = 0;
    while (from + length < bits.size() && length < length_max && bits[from + length]) ++length;
    return length == 0 ? bitmap::run{} : bitmap::run{from, length};
  }
};

void compare(const bitmap& real, const reference& obvious) {
  BOOST_REQUIRE(real.count() == static_cast<std::uint64_t>(std::count(obvious.bits.begin(), obvious.bits.end(), true)));
  for (std::uint64_t i = 0; i < obvious.bits.size(); ++i) BOOST_REQUIRE(real.test(i) == obvious.bits[i]);
}

}  // namespace

BOOST_AUTO_TEST_CASE(bitmap_equals_the_obvious_one) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t size = 1 + random() % 500;
    bitmap real(size);
    reference obvious{std::vector<bool>(size)};
    for (int step = 0; step < 30; ++step) {
      const std::uint64_t first = random() % size;
      const std::uint64_t length = random() % (size - first + 1);
      switch (random() % 3) {
        case 0:
          real.set(first, length);
          std::fill_n(obvious.bits.begin() + static_cast<std::ptrdiff_t>(first), length, true);
          break;
        case 1:
          real.clear(first, length);
          std::fill_n(obvious.bits.begin() + static_cast<std::ptrdiff_t>(first), length, false);
          break;
        default: {
          std::vector<std::uint64_t> source(words_for(length) + 1);
          for (auto& word : source) word = random() & random();
          real.merge(first, length, source);
          obvious.merge(first, length, source);
        }
      }
      compare(real, obvious);
      const std::uint64_t from = random() % (size + 1);
      const std::uint64_t length_max = 1 + random() % size;
      const auto found = real.next_run(from, length_max);
      const auto expected = obvious.next_run(from, length_max);
      BOOST_REQUIRE(found.length == expected.length);
      if (found.length != 0) BOOST_REQUIRE(found.first == expected.first);
    }
  }
}

BOOST_AUTO_TEST_CASE(merge_ignores_bits_beyond_the_length) {
  bitmap pages(10);
  const std::vector<std::uint64_t> all{~std::uint64_t{0}};
  pages.merge(7, 3, all);
  BOOST_TEST(pages.count() == 3u);
  BOOST_TEST(pages.next_run(0, 100).first == 7u);
}

}  // namespace tidemark::core
