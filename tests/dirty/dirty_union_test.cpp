// SPDX-License-Identifier: Apache-2.0

#include "dirty/dirty_union.hpp"

#include <array>
#include <boost/test/unit_test.hpp>
#include <random>
#include <set>
#include <utility>

namespace tidemark::dirty {

namespace {

using page = std::pair<block_index, std::uint64_t>;

/// The obvious union: a set of pages.
struct reference {
  std::set<page> pages;
  std::set<page> gone;

  void mark(block_index block, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i)
      if (!gone.contains({block, first + i})) pages.insert({block, first + i});
  }
  void discard(block_index block, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) gone.insert({block, first + i}), pages.erase({block, first + i});
  }
  void populate(block_index block, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) gone.erase({block, first + i});
    mark(block, first, count);
  }
  std::vector<page> take(page& where, std::uint64_t pages_max) {
    std::vector<page> taken;
    while (taken.size() != pages_max) {
      const auto next = pages.lower_bound(where);
      if (next == pages.end()) {
        where = {~block_index{0}, 0};  // the end stays the end, whatever is marked after it was seen
        break;
      }
      taken.push_back(*next);
      where = {next->first, next->second + 1};
      pages.erase(next);
    }
    return taken;
  }
};

std::vector<page> pages_of(const std::vector<page_run>& runs) {
  std::vector<page> list;
  for (const auto& run : runs)
    for (std::uint64_t i = 0; i < run.pages; ++i) list.emplace_back(run.block, run.first_page + i);
  return list;
}

class both {
 public:
  explicit both(std::mt19937_64& random) : random_(random), real_(blocks_of(random)) {}

  void step() {
    switch (random_() % 12) {
      case 0:
        return mark();
      case 1:
        return forget();
      case 2:
        return merge();
      case 3:
        return merge();
      case 4:
        return begin_again();
      case 5:
        return discard();
      case 6:
        return populate();
      case 7:
        return mark_everything();
      case 8:
        return take_words();
      default:
        return take();
    }
  }

 private:
  std::vector<ram_block> blocks_of(std::mt19937_64& random) {
    std::vector<ram_block> blocks(1 + random() % 3);
    for (auto& block : blocks) block.size = (1 + random() % (random() % 16 == 0 ? 70000 : 200)) * page_bytes;
    for (const auto& block : blocks) sizes_.push_back(block.pages());
    return blocks;
  }

  /// A block, a page of it, and how many from there.
  std::array<std::uint64_t, 3> somewhere() {
    const auto block = random_() % sizes_.size();
    const auto first = random_() % sizes_[block];
    return {block, first, 1 + random_() % (sizes_[block] - first)};
  }

  void mark() {
    const auto [block, first, count] = somewhere();
    const auto before = obvious_.pages.size();
    const auto told = real_.mark({static_cast<block_index>(block), first, count});
    obvious_.mark(static_cast<block_index>(block), first, count);
    BOOST_REQUIRE(told.added == obvious_.pages.size() - before);
    compare_count();
  }

  void merge() {
    const auto [block, first, count] = somewhere();
    std::vector<std::uint64_t> bits(core::words_for(count));
    for (auto& word : bits) word = random_() & random_();
    const auto before = obvious_.pages.size();
    const auto told = real_.merge(static_cast<block_index>(block), first, count, bits);
    for (std::uint64_t i = 0; i < count; ++i)
      if ((bits[i / 64] >> (i % 64)) & 1) obvious_.mark(static_cast<block_index>(block), first + i, 1);
    BOOST_REQUIRE(told.added == obvious_.pages.size() - before);
    compare_count();
  }

  void discard() {
    const auto [block, first, count] = somewhere();
    real_.discarded({static_cast<block_index>(block), first, count});
    obvious_.discard(static_cast<block_index>(block), first, count);
    compare_count();
  }

  void populate() {
    const auto [block, first, count] = somewhere();
    real_.populated({static_cast<block_index>(block), first, count});
    obvious_.populate(static_cast<block_index>(block), first, count);
    compare_count();
  }

  void mark_everything() {
    if (random_() % 4 != 0) return;
    real_.mark_everything();
    for (block_index block = 0; block < sizes_.size(); ++block) obvious_.mark(block, 0, sizes_[block]);
    compare_count();
  }

  void forget() {
    if (random_() % 8 != 0) return;
    real_.forget_everything();
    obvious_.pages.clear();
    obvious_.gone.clear();
    compare_count();
  }

  void begin_again() { at_ = {}, obvious_at_ = {}; }

  void take() {
    const auto pages_max = 1 + random_() % 40;
    std::vector<page_run> runs(pages_max);
    const auto taken = real_.take(at_, pages_max, runs);
    runs.resize(taken.runs);
    const auto pages = pages_of(runs);
    BOOST_REQUIRE(taken.pages == pages.size());
    BOOST_REQUIRE(pages == obvious_.take(obvious_at_, pages_max));
    go_where_it_stands();
    for (std::size_t i = 1; i < runs.size(); ++i)  // one run for pages that follow each other
      BOOST_REQUIRE(runs[i].block != runs[i - 1].block || runs[i].first_page > runs[i - 1].first_page + runs[i - 1].pages);
    compare_count();
  }

  /// It may stand further on than behind the last page that it took, but behind no page that is dirty.
  void go_where_it_stands() {
    const page at{at_.block, at_.page};
    const auto next = obvious_.pages.lower_bound(obvious_at_);
    BOOST_REQUIRE((next == obvious_.pages.end() || at <= *next));
    obvious_at_ = std::max(at, obvious_at_);
  }

  /// The dirty pages of the next chunk that has any, from where the others have come to.
  void take_words() {
    std::array<std::uint64_t, core::words_per_chunk> words;
    const auto taken = real_.take_words(at_, words);
    std::vector<page> pages;
    for (std::uint64_t i = 0; i < taken.range.pages; ++i)
      if ((words[i / 64] >> (i % 64)) & 1) pages.emplace_back(taken.range.block, taken.range.first_page + i);
    BOOST_REQUIRE(taken.pages == pages.size());
    const auto next = obvious_.pages.lower_bound(obvious_at_);
    if (next == obvious_.pages.end()) {
      BOOST_REQUIRE(pages.empty());
      obvious_at_ = {~block_index{0}, 0};
      return;
    }
    const page end{next->first, (next->second / core::bits_per_chunk + 1) * core::bits_per_chunk};
    const std::vector<page> expected(next, obvious_.pages.lower_bound(end));
    BOOST_REQUIRE(pages == expected);
    for (const auto& one : expected) obvious_.pages.erase(one);
    obvious_at_ = end;
    go_where_it_stands();
    compare_count();
  }

  void compare_count() { BOOST_REQUIRE(real_.dirty_pages() == obvious_.pages.size()); }

  std::mt19937_64& random_;
  std::vector<std::uint64_t> sizes_;
  dirty_union real_;
  reference obvious_;
  dirty_union::position at_;
  page obvious_at_{};
};

}  // namespace

// covers R29 R30 R31
BOOST_AUTO_TEST_CASE(the_union_equals_the_obvious_one) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 500; ++round) {
    both pair(random);
    for (int step = 0; step < 60; ++step) pair.step();
  }
}

}  // namespace tidemark::dirty
