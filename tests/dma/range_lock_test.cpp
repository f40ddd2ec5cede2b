// SPDX-License-Identifier: Apache-2.0

#include "dma/range_lock.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "ring/task.hpp"

using namespace tidemark;
using dma::range_lock;

namespace {

/// What the lock does, written so that nobody can doubt it.
class reference {
 public:
  void ask(std::size_t who, iova_range range) {
    queue_.push_back({who, range, false});
    grant();
  }
  void give_back(std::size_t who) {
    std::erase_if(queue_, [&](const entry& e) { return e.who == who; });
    grant();
  }
  std::vector<std::size_t> holders() const {
    std::vector<std::size_t> all;
    for (const auto& e : queue_)
      if (e.granted) all.push_back(e.who);
    std::sort(all.begin(), all.end());
    return all;
  }

 private:
  struct entry {
    std::size_t who;
    iova_range range;
    bool granted;
  };

  void grant() {
    for (std::size_t i = 0; i < queue_.size(); ++i)
      queue_[i].granted =
          queue_[i].granted || std::none_of(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(i),
                                            [&](const entry& e) { return dma::overlap(e.range, queue_[i].range); });
  }

  std::vector<entry> queue_;
};

/// Somebody who asks for a range and holds it until told.
struct asker {
  std::optional<range_lock::hold> held;
  bool left = false;

  static ring::task<> ask(range_lock& lock, iova_range range, std::shared_ptr<asker> self) {
    self->held.emplace(co_await lock.lock(range));
  }
};

std::vector<std::size_t> holders(const std::vector<std::shared_ptr<asker>>& all) {
  std::vector<std::size_t> those;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i]->held && !all[i]->left) those.push_back(i);
  return those;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(range_locks)

BOOST_AUTO_TEST_CASE(ranges_overlap_when_they_share_a_byte) {
  constexpr std::uint64_t top = ~std::uint64_t{0};
  BOOST_TEST(dma::overlap({0, 2}, {1, 1}));
  BOOST_TEST(!dma::overlap({0, 2}, {2, 1}));
  BOOST_TEST(dma::overlap({0, top}, {top - 1, 2}));
  BOOST_TEST(!dma::overlap({0, top}, {top, 1}));
  BOOST_TEST(dma::overlap({top, 1}, {top, 1}));
  BOOST_TEST(!dma::overlap({5, 0}, {0, 10}));
}

BOOST_AUTO_TEST_CASE(it_grants_what_the_obvious_reference_grants) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      std::mt19937_64 engine(seed);
      range_lock lock;
      reference expected;
      std::vector<std::shared_ptr<asker>> all;
      for (int step = 0; step < 150; ++step) {
        const auto now = holders(all);
        if (!now.empty() && engine() % 2 == 0) {
          const auto who = now[engine() % now.size()];
          all[who]->left = true;
          expected.give_back(who);
          auto given_back = std::move(all[who]->held);
        } else {
          const bool everything = engine() % 20 == 0;
          const iova_range range = everything ? iova_range{0, ~std::uint64_t{0}} : iova_range{engine() % 40, engine() % 9};
          expected.ask(all.size(), range);
          ring::start(asker::ask(lock, range, all.emplace_back(std::make_shared<asker>())));
        }
        const auto is = holders(all);
        const auto must = expected.holders();
        BOOST_REQUIRE_EQUAL_COLLECTIONS(is.begin(), is.end(), must.begin(), must.end());
      }
      for (auto now = holders(all); !now.empty(); now = holders(all)) {
        all[now.front()]->left = true;
        auto given_back = std::move(all[now.front()]->held);
      }
      BOOST_TEST(lock.empty());
      BOOST_TEST(std::all_of(all.begin(), all.end(), [](const auto& each) { return each->left; }));
    }
  }
}

BOOST_AUTO_TEST_CASE(many_that_wait_for_one_range_do_not_nest) {
  range_lock lock;
  std::size_t had_it = 0;
  auto first = std::make_shared<asker>();
  ring::start(asker::ask(lock, {0, 1}, first));
  for (int i = 0; i < 200'000; ++i)
    ring::start([](range_lock& on, std::size_t& count) -> ring::task<> {
      const auto held = co_await on.lock({0, 1});
      ++count;
    }(lock, had_it));
  BOOST_TEST(had_it == 0U);
  first->held.reset();
  BOOST_TEST(had_it == 200'000U);
  BOOST_TEST(lock.empty());
}

BOOST_AUTO_TEST_CASE(a_million_disjoint_ranges_are_held_without_a_walk) {
  range_lock lock;
  std::vector<std::shared_ptr<asker>> all;
  for (std::uint64_t i = 0; i < 1'000'000; ++i) {
    ring::start(asker::ask(lock, {i * 2, 1}, all.emplace_back(std::make_shared<asker>())));
    if (!all.back()->held) BOOST_FAIL("a disjoint range waits");
  }
  all.clear();
  BOOST_TEST(lock.empty());
}

BOOST_AUTO_TEST_SUITE_END()
