// SPDX-License-Identifier: Apache-2.0

#include <tidemark/dirty_stream.hpp>

#include <linux/vfio.h>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <deque>
#include <optional>
#include <set>

#include "simulation/small_host.hpp"

namespace tidemark::simulation {

namespace {

using page = std::pair<block_index, std::uint64_t>;
using pages = std::set<page>;
using batch = dirty_stream::batch;

constexpr std::uint64_t iova = 0x100000;
constexpr std::uint64_t other_iova = 0x900000;

/// A stream over a small host, with its operations as calls.
class pulled {
 public:
  pulled(small_host& host, std::uint64_t batch_pages_max)
      : host_(host),
        stream_(std::in_place, host.space(), sources(host), dirty_stream_options{.batch_pages_max = batch_pages_max}) {}

  void start() {
    BOOST_REQUIRE(host_.wait([&](auto token) { return stream_->async_start(token); }).has_value());
  }
  void stop() {
    BOOST_REQUIRE(host_.wait([&](auto token) { return stream_->async_stop(token); }).has_value());
  }
  dirty_round begin_round() {
    auto round = host_.wait([&](auto token) { return stream_->async_begin_round(token); });
    BOOST_REQUIRE(round.has_value());
    return *round;
  }
  batch next() {
    auto taken = host_.wait([&](auto token) { return stream_->async_next(token); });
    BOOST_REQUIRE(taken.has_value());
    return std::move(*taken);
  }
  std::uint64_t dirty_pages() const { return stream_->dirty_pages(); }
  void destroy() { stream_.reset(); }

  /// The rest of the round, acknowledged. No page comes twice.
  pages rest() {
    pages all;
    for (auto taken = std::make_optional(next()); !taken->empty(); taken.emplace(next())) {
      add(all, *taken);
      taken->acknowledge();
    }
    return all;
  }
  pages round() {
    begin_round();
    return rest();
  }

  static void add(pages& all, const batch& taken) {
    for (const auto& run : taken.runs())
      for (std::uint64_t i = 0; i < run.pages; ++i) BOOST_TEST(all.insert({run.block, run.first_page + i}).second);
  }

 private:
  static std::vector<cpu_dirty_source*> sources(small_host& host) { return {&host.log()}; }

  small_host& host_;
  std::optional<dirty_stream> stream_;
};

}  // namespace

// covers R25
BOOST_AUTO_TEST_CASE(the_first_round_is_every_page_and_the_next_is_none) {
  small_host host({70, 3});
  host.add(iova, 10, 0, 5);
  pulled stream(host, 16);
  stream.start();
  BOOST_TEST(host.tracking());
  const auto first = stream.begin_round();
  BOOST_TEST(first.number == 1u);
  BOOST_TEST(first.dirty_pages == 73u);
  BOOST_TEST(stream.rest().size() == 73u);
  const auto second = stream.begin_round();
  BOOST_TEST(second.number == 2u);
  BOOST_TEST(second.dirty_pages == 0u);
  BOOST_TEST(stream.next().empty());
}

BOOST_AUTO_TEST_CASE(batches_are_bounded_and_bounds_of_runs_fall_anywhere) {
  small_host host({70, 3});
  pulled stream(host, 16);
  stream.start();
  stream.begin_round();
  std::uint64_t sum = 0;
  std::size_t batches = 0;
  for (auto taken = std::make_optional(stream.next()); !taken->empty(); taken.emplace(stream.next())) {
    std::uint64_t counted = 0;
    for (const auto& run : taken->runs()) counted += run.pages;
    BOOST_TEST(taken->pages() == counted);
    BOOST_TEST(counted <= 16u);
    sum += counted;
    ++batches;
    taken->acknowledge();
  }
  BOOST_TEST(sum == 73u);
  BOOST_TEST(batches == 5u);  // the last of one block and the first of the next share one
}

BOOST_AUTO_TEST_CASE(a_stream_asked_for_batches_of_no_pages_hands_out_single_ones) {
  small_host host({3});
  pulled stream(host, 0);
  stream.start();
  stream.begin_round();
  BOOST_TEST(stream.next().pages() == 1u);
}

// covers R31
BOOST_AUTO_TEST_CASE(discarded_pages_are_handed_out_when_they_are_populated_again) {
  small_host host({16});
  region granular{{iova, 8 * page_bytes}, 0, 4 * page_bytes, true};
  granular.granule = 2 * page_bytes;
  const auto change = [&](bool populate, std::uint64_t granule, std::uint64_t count) {
    const iova_range range{iova + granule * 2 * page_bytes, count * 2 * page_bytes};
    auto& space = host.space();
    const auto changed = populate ? host.wait([&](auto token) { return space.async_populate(range, token); })
                                  : host.wait([&](auto token) { return space.async_discard(range, token); });
    BOOST_REQUIRE(changed.has_value());
  };
  BOOST_REQUIRE(host.wait([&](auto token) { return host.space().async_add(granular, token); }).has_value());
  change(true, 0, 2);
  pulled stream(host, 3);
  stream.start();
  BOOST_TEST(stream.begin_round().dirty_pages == 12u);  // all but granules 2 and 3: pages 8 to 11
  for (const auto& [block, which] : stream.rest()) BOOST_TEST((which < 8 || which > 11));

  host.write_by_device(iova);
  host.write_by_device(iova + 2 * page_bytes);
  host.write_by_cpu(0, 9);  // what a guest that gave it back may still do
  change(false, 1, 1);
  BOOST_TEST((stream.round() == pages{{0, 4}}));
  host.write_by_device(iova);
  {
    stream.begin_round();
    const auto unsent = stream.next();
    BOOST_TEST(unsent.pages() == 1u);
    change(false, 0, 1);
  }  // given back when there is nothing to send any more
  BOOST_TEST(stream.round().empty());
  change(true, 0, 3);
  BOOST_TEST((stream.round() == pages{{0, 4}, {0, 5}, {0, 6}, {0, 7}, {0, 8}, {0, 9}}));
  change(false, 0, 1);
  stream.stop();
  stream.start();  // tells anew what is discarded
  BOOST_TEST(stream.round().size() == 12u);
  stream.stop();
}

// covers R29, R30
BOOST_AUTO_TEST_CASE(what_cpus_and_devices_dirtied_is_one_union) {
  small_host host({100, 100}, 2);
  host.add(iova, 100, 0);
  host.add(other_iova, 20, 1, 40);
  pulled stream(host, 1000);
  stream.start();
  stream.round();
  host.write_by_cpu(0, 7);
  host.write_by_cpu(0, 99);
  host.write_by_device(iova + 7 * page_bytes);
  host.write_by_device(iova + 64 * page_bytes, 1, 1);
  host.write_by_device(other_iova + 19 * page_bytes);
  BOOST_TEST((stream.round() == pages{{0, 7}, {0, 64}, {0, 99}, {1, 59}}));
  BOOST_TEST(stream.round().empty());
}

// covers R30
BOOST_AUTO_TEST_CASE(a_page_dirtied_at_two_iovas_comes_once) {
  small_host host({100});
  host.add(iova, 50, 0, 10);
  host.add(other_iova, 50, 0, 20);
  pulled stream(host, 1000);
  stream.start();
  stream.round();
  host.write_by_device(iova + 15 * page_bytes);
  host.write_by_device(other_iova + 5 * page_bytes);
  host.write_by_device(other_iova + 49 * page_bytes);
  BOOST_TEST((stream.round() == pages{{0, 25}, {0, 69}}));
}

// covers R17, R30
BOOST_AUTO_TEST_CASE(what_was_dirtied_in_a_region_that_went_and_came_is_not_lost) {
  small_host host({100}, 2);
  host.add(iova, 50, 0, 10);
  pulled stream(host, 1000);
  stream.start();
  stream.round();
  host.write_by_device(iova + 3 * page_bytes);
  host.write_by_device(iova + 49 * page_bytes, 1, 1);
  host.remove(iova, 50);
  host.add(iova, 20, 0, 60);
  host.write_by_device(iova);
  BOOST_TEST((stream.round() == pages{{0, 13}, {0, 59}, {0, 60}}));
}

BOOST_AUTO_TEST_CASE(a_container_attached_in_the_middle_is_tracked_from_then_on) {
  small_host host({100});
  host.add(iova, 50, 0);
  pulled stream(host, 1000);
  stream.start();
  stream.round();
  host.add_container(1);
  host.write_by_device(iova + 5 * page_bytes, 1, 1);
  host.write_by_device(iova + 6 * page_bytes);
  BOOST_TEST((stream.round() == pages{{0, 5}, {0, 6}}));
}

// A map takes its time in one container when the other has made it, and its devices write.
BOOST_AUTO_TEST_CASE(what_was_dirtied_in_a_region_that_is_being_added_is_not_lost) {
  small_host host({100}, 2);
  pulled stream(host, 1000);
  stream.start();
  stream.round();
  bool added = false;
  host.space().async_add({{iova, 50 * page_bytes}, 0, 0, true}, [&](result<void> outcome) { added = outcome.has_value(); });
  while (host.model().mapping_count() == 0) BOOST_REQUIRE(host.loop().run_next());
  BOOST_REQUIRE(host.model().mapping_count() == 1u);
  const auto first = static_cast<unsigned>(host.model().mappings().front().container);
  host.write_by_device(iova + 5 * page_bytes, 1, first);
  BOOST_TEST((stream.round() == pages{{0, 5}}));
  BOOST_TEST(added);
}

BOOST_AUTO_TEST_CASE(a_batch_not_acknowledged_comes_in_the_next_round_and_not_in_this_one) {
  small_host host({40});
  pulled stream(host, 8);
  stream.start();
  stream.begin_round();
  pages dropped;
  {
    const auto first = stream.next();
    pulled::add(dropped, first);
    BOOST_TEST(stream.dirty_pages() == 32u);
  }
  BOOST_TEST(stream.dirty_pages() == 40u);
  const auto rest = stream.rest();
  BOOST_TEST(rest.size() == 32u);
  for (const auto& each : dropped) BOOST_TEST(!rest.contains(each));
  BOOST_TEST((stream.round() == dropped));
}

BOOST_AUTO_TEST_CASE(a_batch_that_was_moved_from_gives_nothing_back) {
  small_host host({8});
  pulled stream(host, 8);
  stream.start();
  stream.begin_round();
  {
    auto first = stream.next();
    auto moved = std::move(first);
    moved.acknowledge();
  }
  BOOST_TEST(stream.dirty_pages() == 0u);
}

// Consumers that pull, keep, acknowledge and drop at random, in any order; pages are dirtied meanwhile, and a region comes
// and goes.
BOOST_AUTO_TEST_CASE(no_page_comes_twice_in_a_round_and_none_is_lost) {
  small_host host({150, 30});
  host.add(iova, 100, 0, 50);
  pulled stream(host, 7);
  stream.start();
  auto& luck = host.luck();
  pages due;  // what must still come: everything at first
  for (std::uint64_t i = 0; i < 150; ++i) due.insert({0, i});
  for (std::uint64_t i = 0; i < 30; ++i) due.insert({1, i});
  std::deque<batch> held;
  const auto let_go = [&](bool acknowledged) {
    for (const auto& run : held.front().runs())
      for (std::uint64_t i = 0; i < run.pages; ++i)
        if (!acknowledged) due.insert({run.block, run.first_page + i});
    if (acknowledged) held.front().acknowledge();
    held.pop_front();
  };
  for (int round = 0; round < 60; ++round) {
    stream.begin_round();
    pages in_this;
    bool at_end = false;
    while (!at_end) {
      auto taken = stream.next();
      at_end = taken.empty();
      pulled::add(in_this, taken);
      for (const auto& run : taken.runs())
        for (std::uint64_t i = 0; i < run.pages; ++i) due.erase({run.block, run.first_page + i});
      held.push_back(std::move(taken));
      while (held.size() > luck.below(5)) let_go(!luck.one_in(3));
      if (luck.one_in(3)) {
        const auto block = static_cast<block_index>(luck.below(2));
        const auto at = luck.below(30);
        host.write_by_cpu(block, at);
        due.insert({block, at});
      }
      if (luck.one_in(3)) {
        const auto at = luck.below(100);
        host.write_by_device(iova + at * page_bytes);
        due.insert({0, 50 + at});
      }
      if (luck.one_in(10)) {
        host.remove(iova, 100);
        host.add(iova, 100, 0, 50);
      }
    }
  }
  while (!held.empty()) let_go(false);
  BOOST_TEST(!due.empty());
  BOOST_TEST((stream.round() == due));
  BOOST_TEST(stream.round().empty());
}

BOOST_AUTO_TEST_CASE(a_batch_destroyed_after_its_stream_is_harmless) {
  small_host host({40});
  std::optional<batch> left;
  {
    pulled stream(host, 8);
    stream.start();
    stream.begin_round();
    left.emplace(stream.next());
    stream.stop();
  }
  left.reset();
  BOOST_TEST(!host.tracking());
}

BOOST_AUTO_TEST_CASE(a_stopped_stream_holds_nothing_and_starts_again_with_everything) {
  small_host host({40});
  host.add(iova, 40, 0);
  pulled stream(host, 8);
  stream.start();
  stream.begin_round();
  {
    const auto dropped_after_the_stop = stream.next();
    host.write_by_device(iova);
    stream.stop();
  }
  BOOST_TEST(!host.tracking());
  BOOST_TEST(stream.dirty_pages() == 0u);
  stream.start();
  BOOST_TEST(host.tracking());
  BOOST_TEST(stream.begin_round().number == 1u);
  BOOST_TEST(stream.rest().size() == 40u);
  BOOST_TEST(stream.round().empty());
}

// covers R26
BOOST_AUTO_TEST_CASE(a_query_that_fails_makes_its_whole_region_dirty) {
  small_host host({100, 10});
  host.add(iova, 50, 0, 10);
  host.add(other_iova, 10, 1);
  pulled stream(host, 1000);
  stream.start();
  stream.round();
  host.write_by_device(other_iova + 3 * page_bytes);
  unsigned queries = 0;
  host.kernel().fault = [&](unsigned long request, std::uintptr_t) -> std::optional<int> {
    return request == VFIO_IOMMU_DIRTY_PAGES && queries++ == 0 ? std::optional(-EFAULT) : std::nullopt;
  };
  pages expected{{1, 3}};
  for (std::uint64_t i = 10; i < 60; ++i) expected.insert({0, i});
  BOOST_TEST((stream.round() == expected));
  BOOST_TEST(queries == 2u);
  BOOST_TEST(stream.round().empty());
}

BOOST_AUTO_TEST_CASE(a_stream_that_cannot_start_holds_nothing) {
  small_host host({100});
  host.kernel().fault = [](unsigned long request, std::uintptr_t) -> std::optional<int> {
    return request == VFIO_IOMMU_DIRTY_PAGES ? std::optional(-ENOMEM) : std::nullopt;
  };
  dirty_stream stream(host.space(), {&host.log()});
  const auto started = host.wait([&](auto token) { return stream.async_start(token); });
  BOOST_REQUIRE(started.has_error());
  BOOST_TEST(started.error().code == boost::system::errc::not_enough_memory);
  BOOST_TEST(stream.dirty_pages() == 0u);
}

BOOST_AUTO_TEST_CASE(a_batch_of_before_the_stop_leaves_the_next_start_alone) {
  small_host host({40});
  pulled stream(host, 8);
  stream.start();
  stream.begin_round();
  auto old = std::make_optional(stream.next());
  stream.stop();
  stream.start();
  BOOST_TEST(stream.round().size() == 40u);
  old.reset();
  BOOST_TEST(stream.dirty_pages() == 0u);
  stream.stop();
}

}  // namespace tidemark::simulation
