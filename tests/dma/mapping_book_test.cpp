// SPDX-License-Identifier: Apache-2.0
//
// The book beside a plain ordered map: entries come and go by the thousand, so that its leaves are split, joined and erased.

#include "dma/mapping_book.hpp"

#include <boost/test/unit_test.hpp>
#include <iterator>
#include <map>
#include <random>

using namespace tidemark;
using namespace tidemark::dma;

namespace {

constexpr std::uint64_t page = 4096;

struct plain {
  std::uint64_t size;
  bool continues;
};

class beside {
 public:
  explicit beside(std::uint64_t seed) : random_(seed) {}

  void add_somewhere(std::uint64_t places) {
    const auto iova = below(places) * 4 * page;
    const auto size = (1 + below(4)) * page;
    if (!is_free({iova, size})) return;
    const bool continues = below(4) == 0 && iova != 0 && !is_free({iova - 1, 1});
    add(iova, size, continues);
  }

  void add(std::uint64_t iova, std::uint64_t size, bool continues = false) {
    book.add(iova, {size, nullptr, true, continues});
    held.emplace(iova, plain{size, continues});
  }

  void remove(iova_range range) {
    book.remove(range);
    const auto from = held.lower_bound(range.iova);
    const auto to = held.upper_bound(range.iova + (range.size - 1));
    if (from == to) return;
    const auto next = held.erase(from, to);
    if (next != held.end()) next->second.continues = false;
  }

  bool is_free(iova_range range) const {
    const auto after = held.upper_bound(range.iova + (range.size - 1));
    if (after == held.begin()) return true;
    const auto before = std::prev(after);
    return before->first < range.iova && range.iova - before->first >= before->second.size;
  }

  void check() const {
    BOOST_REQUIRE(book.size() == held.size());
    auto expected = held.begin();
    for (auto at = book.begin(); at != book.end(); ++at, ++expected) {
      BOOST_REQUIRE(at->first == expected->first);
      BOOST_REQUIRE(at->second.size() == expected->second.size);
      BOOST_REQUIRE(at->second.continues() == expected->second.continues);
      if (at != book.begin()) BOOST_REQUIRE(std::next(std::prev(at)) == at);
    }
    BOOST_REQUIRE(expected == held.end());
  }

  void ask(iova_range range) const {
    BOOST_REQUIRE(book.is_free(range) == is_free(range));
    const auto found = book.find(range.iova);
    BOOST_REQUIRE((found != book.end()) == held.contains(range.iova));
    book.prefetch(range.iova);  // changes nothing, wherever it is
  }

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  mapping_book book;
  std::map<std::uint64_t, plain> held;

 private:
  std::mt19937_64 random_;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(mapping_books)

BOOST_AUTO_TEST_CASE(a_book_is_an_ordered_map) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    beside both(seed);
    const std::uint64_t places = seed % 4 == 0 ? 40 : 4000;
    for (int round = 0; round < 12; ++round) {
      const auto adds = both.below(3000);
      for (std::uint64_t i = 0; i < adds; ++i) {
        both.add_somewhere(places);
        both.ask({both.below(places) * 4 * page, (1 + both.below(40)) * page});
      }
      both.check();
      const auto removals = both.below(400);
      for (std::uint64_t i = 0; i < removals; ++i) {
        const auto pages = both.below(10) == 0 ? both.below(places * 2) : both.below(12);
        both.remove({both.below(places) * 4 * page, (1 + pages) * page});
      }
      both.check();
    }
    both.remove({0, 0 - page});
    both.check();
    BOOST_TEST((both.book.begin() == both.book.end()));
  }
}

// As regions come: from below, from above, and into what is there already.
BOOST_AUTO_TEST_CASE(entries_may_come_in_any_order) {
  for (const bool upwards : {true, false}) {
    beside both(1);
    for (std::uint64_t i = 0; i < 1000; ++i) both.add((upwards ? i : 999 - i) * 2 * page, page);
    for (std::uint64_t i = 0; i < 1000; i += 3) both.add((2 * i + 1) * page, page);
    both.check();
    for (std::uint64_t i = 0; i < 2000; i += 7) both.remove({i * page, page});
    both.check();
  }
}

// From above, as a guest's driver may free: what is left must not keep a leaf each.
BOOST_AUTO_TEST_CASE(a_book_shrinks_with_what_it_holds) {
  for (const bool upwards : {true, false}) {
    beside both(1);
    constexpr std::uint64_t count = 9600;
    for (std::uint64_t i = 0; i < count; ++i) both.add(i * page, page);
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto at = upwards ? i : count - 1 - i;
      if (at % 48 != 0) both.remove({at * page, page});
    }
    both.check();
    BOOST_TEST(both.book.bytes() <= both.book.size() * 200);
  }
}

BOOST_AUTO_TEST_CASE(the_last_page_of_the_address_space_is_a_page) {
  beside both(1);
  both.add(0 - page, page);
  both.add(0, page);
  both.check();
  both.remove({0 - page, page});
  both.check();
  both.remove({0, page});
  both.check();
}

BOOST_AUTO_TEST_SUITE_END()
