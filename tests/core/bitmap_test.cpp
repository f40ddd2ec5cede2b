// SPDX-License-Identifier: Apache-2.0

#include "core/bitmap.hpp"

#include <hwy/targets.h>

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <random>
#include <utility>
#include <vector>

#include "core/bitmap_words.hpp"

namespace tidemark::core {

namespace {

using words = std::vector<std::uint64_t>;

/// Runs a test once for each kind of vector code that this machine can run, the portable one included.
template <class Test>
void on_each_target(Test test) {
  for (auto left = bitmap_words::compiled_targets() & hwy::SupportedTargets(); left != 0; left &= left - 1) {
    const auto target = left & -left;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    BOOST_TEST_CONTEXT(hwy::TargetName(target)) test();
    hwy::SetSupportedTargetsForTest(0);
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

/// The obvious bitmap: what the real one is held to.
struct reference {
  std::vector<bool> bits;

  std::uint64_t size() const { return bits.size(); }
  std::uint64_t count(std::uint64_t first, std::uint64_t end) const {
    std::uint64_t sum = 0;
    for (auto i = first; i < std::min(end, size()); ++i) sum += bits[i] ? 1u : 0u;
    return sum;
  }
  void fill(std::uint64_t first, std::uint64_t length, bool one) {
    for (std::uint64_t i = 0; i < length; ++i) bits[first + i] = one;
  }
  bitmap::merged merge(std::uint64_t first, std::uint64_t length, const words& source) {
    bitmap::merged counts;
    for (std::uint64_t i = 0; i < length; ++i) {
      if (((source[i / 64] >> (i % 64)) & 1) == 0) continue;
      ++counts.told;
      if (!bits[first + i]) ++counts.added;
      bits[first + i] = true;
    }
    return counts;
  }
  std::uint64_t next_set(std::uint64_t from) const {
    while (from < size() && !bits[from]) ++from;
    return std::min(from, size());
  }
  bitmap::run next_run(std::uint64_t from, std::uint64_t length_max) const {
    from = next_set(from);
    std::uint64_t length = 0;
    while (from + length < size() && length < length_max && bits[from + length]) ++length;
    return length == 0 ? bitmap::run{} : bitmap::run{from, length};
  }
  std::vector<page_run> take_runs(std::uint64_t from, std::uint64_t bits_max, std::size_t runs_max) {
    std::vector<page_run> runs;
    while (bits_max != 0 && runs.size() < runs_max) {
      const auto found = next_run(from, bits_max);
      if (found.length == 0) break;
      runs.push_back({7, found.first, found.length});
      fill(found.first, found.length, false);
      bits_max -= found.length;
      from = found.first + found.length;
    }
    return runs;
  }
  words take_words(std::uint64_t first, std::uint64_t count) {
    words taken(count);
    for (auto i = first * 64; i < std::min((first + count) * 64, size()); ++i) {
      if (bits[i]) taken[i / 64 - first] |= std::uint64_t{1} << (i % 64);
      bits[i] = false;
    }
    return taken;
  }
};

/// By words, and then what the two levels promise each other: nothing is found that is not there, nothing is passed over.
void compare(const bitmap& real, const reference& obvious) {
  BOOST_REQUIRE(real.size() == obvious.size());
  BOOST_REQUIRE(real.count() == obvious.count(0, obvious.size()));
  for (std::uint64_t i = 0; i < obvious.size(); ++i)
    if (real.test(i) != obvious.bits[i]) BOOST_REQUIRE_EQUAL(real.test(i), obvious.bits[i]);
  for (std::uint64_t from = 0; from < obvious.size(); from += bits_per_chunk) {
    BOOST_REQUIRE(real.next_set(from) == obvious.next_set(from));
    BOOST_REQUIRE(real.chunk_count(from / bits_per_chunk) == obvious.count(from, from + bits_per_chunk));
  }
}

/// A bitmap and its reference, changed by the same random operations.
class pair {
 public:
  explicit pair(std::uint64_t size, std::uint64_t seed) : real_(size), obvious_{std::vector<bool>(size)}, random_(seed) {}

  void step() {
    const auto [first, length] = range();
    const auto kind = random_() % 8;
    BOOST_TEST_CONTEXT("operation " << kind << " on [" << first << ", +" << length << ") of " << obvious_.size())
    operate(kind, first, length);
    BOOST_TEST_CONTEXT("after " << kind << " " << first << " " << length << " " << obvious_.size() << " count "
                                << real_.count())
    look();
  }
  void check() const { compare(real_, obvious_); }

 private:
  void operate(std::uint64_t kind, std::uint64_t first, std::uint64_t length) {
    switch (kind) {
      case 0:
        real_.set(first, length);
        obvious_.fill(first, length, true);
        break;
      case 1:
        real_.clear(first, length);
        obvious_.fill(first, length, false);
        break;
      case 2:
      case 3:
        merge(first, length);
        break;
      case 4:
        take_words();
        break;
      case 5:
        copy_and_move();
        break;
      default:
        take_runs();
    }
  }

  std::uint64_t below(std::uint64_t end) { return random_() % end; }

  /// Often at bounds of words and chunks, and to the end.
  std::pair<std::uint64_t, std::uint64_t> range() {
    const auto size = obvious_.size();
    auto first = below(size);
    if (const auto unit = std::array<std::uint64_t, 4>{1, 1, 64, bits_per_chunk}[below(4)]; first >= unit)
      first -= first % unit;
    const auto rest = size - first;
    const auto length =
        std::array{below(rest + 1), std::min(rest, below(130)), std::min(rest, bits_per_chunk), rest}[below(4)];
    return {first, length};
  }

  /// Words of one density: clean, sparse, dense or full, and of all sorts.
  words source(std::uint64_t count) {
    words made(count);
    const auto density = below(6);
    for (auto& word : made) {
      const auto kind = density == 5 ? below(5) : density;
      word = random_();
      for (std::uint64_t i = kind; i < 4; ++i) word &= i == 0 ? 0 : random_() & random_();
      if (kind == 4) word = ~std::uint64_t{0};
    }
    return made;
  }

  void merge(std::uint64_t first, std::uint64_t length) {
    auto bits = source(words_for(length) + below(2));
    if (length % 64 != 0) bits[length / 64] |= ~std::uint64_t{0} << (length % 64);  // beyond the length: not to be seen
    BOOST_REQUIRE(real_.merge(first, length, bits) == obvious_.merge(first, length, bits));
  }

  void take_words() {
    const auto first = below(words_for(obvious_.size()));
    words out(below(words_for(obvious_.size()) - first + 1), 99);
    const auto before = real_.count();
    const auto bits = real_.take_words(first, out);
    BOOST_REQUIRE(out == obvious_.take_words(first, out.size()));
    BOOST_REQUIRE(before - bits == real_.count());
  }

  void take_runs() {
    const auto from = below(obvious_.size() + 1);
    const auto bits_max = std::array{std::uint64_t{1}, below(300), below(2 * obvious_.size()), ~std::uint64_t{0}}[below(4)];
    std::vector<page_run> out(std::array{std::uint64_t{1}, below(20), below(2000), obvious_.size()}[below(4)]);
    const auto taken = real_.take_runs(7, from, bits_max, out);
    const auto expected = obvious_.take_runs(from, bits_max, out.size());
    BOOST_REQUIRE(taken.runs == expected.size());
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      BOOST_REQUIRE(out[i] == expected[i]);
      bits += expected[i].pages;
    }
    BOOST_REQUIRE(taken.bits == bits);
    BOOST_REQUIRE(taken.next >= from);
    BOOST_REQUIRE(obvious_.next_set(taken.next) == obvious_.next_set(from));
    if (bits < bits_max && taken.runs < out.size()) BOOST_REQUIRE(taken.next == obvious_.size());
  }

  void copy_and_move() {
    bitmap copy(real_);
    compare(copy, obvious_);
    copy.set(0, 1);
    check();
    copy = real_;
    real_ = std::move(copy);
  }

  void look() {
    const auto from = below(obvious_.size() + 1);
    const auto length_max = below(2) == 0 ? obvious_.size() : below(200);
    BOOST_REQUIRE_EQUAL(real_.next_set(from), obvious_.next_set(from));
    BOOST_REQUIRE(real_.next_run(from, length_max) == obvious_.next_run(from, length_max));
  }

  bitmap real_;
  reference obvious_;
  std::mt19937_64 random_;
};

std::vector<page_run> all_runs(bitmap& pages, std::size_t runs_max = 100, std::uint64_t bits_max = ~std::uint64_t{0}) {
  std::vector<page_run> out(runs_max);
  out.resize(pages.take_runs(7, 0, bits_max, out).runs);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(vector_code_is_compiled_for_this_machine) {
  int targets = 0;
  on_each_target([&] { ++targets; });
  BOOST_TEST(targets > 1);  // the portable one, too
}

BOOST_AUTO_TEST_CASE(bitmap_equals_the_obvious_one) {
  on_each_target([] {
    std::mt19937_64 random(1);
    for (std::uint64_t round = 0; round < 300; ++round) {
      pair both(1 + random() % 500, round);
      for (int step = 0; step < 30; ++step) both.step(), both.check();
    }
  });
}

BOOST_AUTO_TEST_CASE(bitmap_of_chunks_equals_the_obvious_one) {
  on_each_target([] {
    std::uint64_t seed = 0;
    for (const auto chunks : {1u, 2u, 3u})
      for (const auto more : {-65, -64, -1, 0, 1, 64, 8191}) {
        pair both(chunks * bits_per_chunk + static_cast<std::uint64_t>(more), ++seed);
        for (int step = 0; step < 40; ++step) {
          both.step();
          both.check();
        }
      }
  });
}

BOOST_AUTO_TEST_CASE(merge_ignores_bits_beyond_the_length) {
  bitmap pages(10);
  const std::vector<std::uint64_t> all{~std::uint64_t{0}};
  BOOST_TEST((pages.merge(7, 3, all) == bitmap::merged{3, 3}));
  BOOST_TEST(pages.count() == 3u);
  BOOST_TEST(pages.next_run(0, 100).first == 7u);
  BOOST_TEST((pages.merge(6, 3, all) == bitmap::merged{3, 1}));
}

BOOST_AUTO_TEST_CASE(runs_join_across_words_and_chunks) {
  on_each_target([] {
    bitmap pages(5 * bits_per_chunk);
    const std::vector<page_run> runs{
        {7, 60, 10}, {7, 128, 64}, {7, bits_per_chunk - 1, 2}, {7, 2 * bits_per_chunk - 70, bits_per_chunk + 71}};
    for (const auto& run : runs) pages.set(run.first_page, run.pages);
    BOOST_TEST((all_runs(pages) == runs));
    BOOST_TEST(pages.count() == 0u);
  });
}

BOOST_AUTO_TEST_CASE(the_last_run_that_fits_is_whole) {
  on_each_target([] {
    bitmap pages(3 * bits_per_chunk);
    pages.set(10, 1);
    pages.set(100, 2 * bits_per_chunk);
    pages.set(3 * bits_per_chunk - 1, 1);
    BOOST_TEST((all_runs(pages, 2) == std::vector<page_run>{{7, 10, 1}, {7, 100, 2 * bits_per_chunk}}));
    BOOST_TEST(pages.count() == 1u);
  });
}

BOOST_AUTO_TEST_CASE(a_run_is_cut_only_where_the_bits_end) {
  on_each_target([] {
    bitmap pages(3 * bits_per_chunk);
    pages.set(10, 5);
    pages.set(100, 2 * bits_per_chunk);
    BOOST_TEST((all_runs(pages, 9, bits_per_chunk) == std::vector<page_run>{{7, 10, 5}, {7, 100, bits_per_chunk - 5}}));
    BOOST_TEST((all_runs(pages) == std::vector<page_run>{{7, 95 + bits_per_chunk, bits_per_chunk + 5}}));
  });
}

BOOST_AUTO_TEST_CASE(nothing_is_taken_where_nothing_is_wanted) {
  bitmap pages(100);
  pages.set(0, 100);
  BOOST_TEST(all_runs(pages, 0).empty());
  BOOST_TEST(all_runs(pages, 1, 0).empty());
  BOOST_TEST(pages.count() == 100u);
}

BOOST_AUTO_TEST_CASE(an_empty_bitmap_has_nothing) {
  bitmap none;
  bitmap copy(none);
  BOOST_TEST(copy.next_set(0) == 0u);
  BOOST_TEST(all_runs(copy).empty());
  BOOST_TEST(bitmap(0).memory_bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(a_bitmap_that_was_moved_from_is_empty) {
  bitmap from(100);
  from.set(1, 2);
  const bitmap to(std::move(from));
  BOOST_TEST(to.count() == 2u);
  BOOST_TEST(from.size() == 0u);  // NOLINT(bugprone-use-after-move)
  BOOST_TEST(from.count() == 0u);
}

BOOST_AUTO_TEST_CASE(memory_is_of_words_and_of_counts) {
  BOOST_TEST(bitmap(2 * bits_per_chunk + 1).memory_bytes() == 1025 * 8u + 3 * 2u);
}

}  // namespace tidemark::core
