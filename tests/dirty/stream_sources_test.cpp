// SPDX-License-Identifier: Apache-2.0
//
// A dirty stream and its CPU sources: who is started, asked and stopped when, what a failure costs, and what statistics say.

#include <tidemark/dirty_stream.hpp>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "simulation/small_host.hpp"

namespace tidemark::simulation {

namespace {

constexpr std::uint64_t iova = 0x100000;

/// Tells what it is told to.
class scripted_source final : public cpu_dirty_source {
 public:
  explicit scripted_source(std::string name) : name_(std::move(name)) {}

  std::string_view name() const noexcept override { return name_; }
  result<void> start() override {
    calls += "start ";
    if (refuses_to_start) return kernel_error(operation::query_cpu_dirty, ENOSYS, {}, name_);
    return {};
  }
  result<void> harvest(page_sink& to) override {
    calls += "harvest ";
    for (const auto& run : std::exchange(next, {})) to.mark(run);
    if (std::exchange(fails, false)) return kernel_error(operation::query_cpu_dirty, EIO, {}, name_);
    return {};
  }
  void stop() noexcept override { calls += "stop "; }

  std::string calls;
  std::vector<page_run> next;
  bool fails = false;
  bool refuses_to_start = false;

 private:
  const std::string name_;
};

struct two_sources {
  two_sources() : host({100, 50}) {
    host.add(iova, 100, 0);
    options.batch_pages_max = 64;
    options.now = [this] { return now; };
    stream.emplace(host.space(), std::vector<cpu_dirty_source*>{&first, &second}, options);
  }

  result<void> start() {
    return host.wait([&](auto token) { return stream->async_start(token); });
  }
  void stop() {
    BOOST_REQUIRE(host.wait([&](auto token) { return stream->async_stop(token); }));
  }
  std::uint64_t begin_round() {
    auto round = host.wait([&](auto token) { return stream->async_begin_round(token); });
    BOOST_REQUIRE(round);
    return round->dirty_pages;
  }
  dirty_stream::batch next() {
    auto taken = host.wait([&](auto token) { return stream->async_next(token); });
    BOOST_REQUIRE(taken);
    return std::move(*taken);
  }
  dirty_stream::bitmap_batch next_bitmap() {
    auto taken = host.wait([&](auto token) { return stream->async_next_bitmap(token); });
    BOOST_REQUIRE(taken);
    return std::move(*taken);
  }
  /// The rest of the round, acknowledged.
  std::uint64_t drain() {
    std::uint64_t pages = 0;
    for (;;) {
      auto batch = next();
      if (batch.empty()) return pages;
      pages += batch.pages();
      batch.acknowledge();
    }
  }
  dirty_source_statistics told_by(const std::string& name) const {
    for (const auto& one : stream->statistics().sources)
      if (one.name == name) return one;
    BOOST_FAIL("no source " + name);
    return {};
  }

  small_host host;
  scripted_source first{"first"};
  scripted_source second{"second"};
  std::chrono::steady_clock::time_point now{};
  dirty_stream_options options;
  std::optional<dirty_stream> stream;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(sources_of_a_stream)

// covers R29
BOOST_FIXTURE_TEST_CASE(each_is_started_asked_once_a_round_and_stopped, two_sources) {
  BOOST_REQUIRE(start());
  begin_round();
  begin_round();
  stop();
  BOOST_TEST(first.calls == "start harvest harvest stop ");
  BOOST_TEST(second.calls == first.calls);
}

BOOST_FIXTURE_TEST_CASE(none_is_asked_before_the_start, two_sources) {
  const auto round = host.wait([&](auto token) { return stream->async_begin_round(token); });
  BOOST_TEST(round.has_error());
  BOOST_TEST(first.calls.empty());
}

BOOST_FIXTURE_TEST_CASE(one_that_does_not_start_stops_those_before_it_and_the_devices, two_sources) {
  second.refuses_to_start = true;
  const auto started = start();
  BOOST_REQUIRE(started.has_error());
  BOOST_TEST(started.error().code.value() == ENOSYS);
  BOOST_TEST(first.calls == "start stop ");
  BOOST_TEST(second.calls == "start ");
  BOOST_TEST(!host.tracking());
  BOOST_TEST(stream->dirty_pages() == 0U);
  second.refuses_to_start = false;
  BOOST_REQUIRE(start());
  BOOST_TEST(begin_round() == 150U);
  stop();
}

// covers R26: what it lost could be any page
BOOST_FIXTURE_TEST_CASE(one_that_fails_has_everything_count_as_dirty_and_the_others_are_asked, two_sources) {
  BOOST_REQUIRE(start());
  begin_round();
  drain();
  first.fails = true;
  second.next = {{1, 3, 1}};
  BOOST_TEST(begin_round() == 150U);
  BOOST_TEST(told_by("second").told_pages == 1U);
  BOOST_TEST(told_by("lost").told_pages == 150U);
  drain();
  BOOST_TEST(begin_round() == 0U);
  first.next = {{0, 90, 1000}, {2, 0, 5}};  // more than there is
  BOOST_TEST(begin_round() == 10U);
  stop();
}

// covers R29: where each page came from is counted
BOOST_FIXTURE_TEST_CASE(pages_are_counted_by_who_told_them, two_sources) {
  BOOST_REQUIRE(start());
  begin_round();
  drain();
  first.next = {{0, 10, 5}, {1, 0, 1}};
  second.next = {{0, 12, 5}};
  host.write_by_device(iova + 11 * page_bytes);
  host.write_by_device(iova + 50 * page_bytes);
  BOOST_TEST(begin_round() == 9U);
  BOOST_TEST(told_by("first").told_pages == 6U);
  BOOST_TEST(told_by("second").told_pages == 5U);
  BOOST_TEST(told_by("second").told_bytes() == 5 * page_bytes);
  BOOST_TEST(told_by("container").told_pages == 2U);
  const auto all = stream->statistics();
  std::uint64_t news = 0;
  for (const auto& one : all.sources) news += one.new_pages;
  BOOST_TEST(news == 9U);
  BOOST_TEST(all.dirty_pages == 9U);
  {
    auto kept = next();
    BOOST_TEST(kept.pages() == 9U);
    kept.acknowledge();
  }
  BOOST_TEST(stream->statistics().acknowledged_pages == 159U);
  stop();
}

BOOST_FIXTURE_TEST_CASE(the_dirty_rate_is_what_became_dirty_from_round_to_round, two_sources) {
  BOOST_REQUIRE(start());
  begin_round();
  drain();
  BOOST_TEST(stream->statistics().rates.empty());
  now += std::chrono::milliseconds(500);
  first.next = {{0, 0, 40}};
  begin_round();
  now += std::chrono::milliseconds(250);
  first.next = {{0, 30, 20}};  // ten of them are known
  begin_round();
  const auto told = stream->statistics();
  BOOST_REQUIRE(told.rates.size() == 2U);
  BOOST_TEST(told.rates[0].round == 2U);
  BOOST_TEST(told.rates[0].pages == 40U);
  BOOST_TEST(told.rates[0].bytes_per_s() == 80 * page_bytes);
  BOOST_TEST(told.rates[1].pages == 10U);
  BOOST_TEST(told.rates[1].bytes_per_s() == 40 * page_bytes);
  BOOST_TEST(told.sync.count == 3U);
  stop();
}

BOOST_FIXTURE_TEST_CASE(a_batch_is_bounded_in_bytes_too, two_sources) {
  options.batch_bytes_max = 3 * page_bytes + 1;
  stream.emplace(host.space(), std::vector<cpu_dirty_source*>{}, options);
  BOOST_REQUIRE(start());
  begin_round();
  BOOST_TEST(next().pages() == 3U);
  stop();
}

BOOST_FIXTURE_TEST_CASE(bitmaps_hold_what_batches_would_and_go_back_like_them, two_sources) {
  BOOST_REQUIRE(start());
  begin_round();
  drain();
  first.next = {{0, 3, 1}, {0, 70, 2}, {1, 49, 1}};
  begin_round();
  {
    const auto dropped = next_bitmap();
    BOOST_TEST((dropped.range() == page_run{0, 0, 100}));
    BOOST_TEST(dropped.bits().size() == 2U);
    BOOST_TEST(dropped.bits()[0] == 1ULL << 3);
    BOOST_TEST(dropped.bits()[1] == 3ULL << 6);
    BOOST_TEST(dropped.pages() == 3U);
  }
  {
    auto kept = next_bitmap();
    BOOST_TEST((kept.range() == page_run{1, 0, 50}));
    BOOST_TEST(kept.bits()[0] == 1ULL << 49);
    kept.acknowledge();
  }
  BOOST_TEST(next_bitmap().empty());
  BOOST_TEST(stream->statistics().given_back_pages == 3U);
  BOOST_TEST(begin_round() == 3U);
  BOOST_TEST(drain() == 3U);
  stop();
}

// Consumers of both kinds share a round: what one has had the other does not get.
BOOST_FIXTURE_TEST_CASE(batches_and_bitmaps_share_a_round, two_sources) {
  options.batch_pages_max = 10;
  stream.emplace(host.space(), std::vector<cpu_dirty_source*>{}, options);
  BOOST_REQUIRE(start());
  begin_round();
  auto runs = next();
  auto bits = next_bitmap();
  BOOST_TEST(runs.pages() == 10U);
  BOOST_TEST(bits.pages() == 90U);
  BOOST_TEST(bits.bits()[0] == ~std::uint64_t{0} << 10);
  runs.acknowledge();
  bits.acknowledge();
  BOOST_TEST(drain() == 50U);
  stop();
}

BOOST_FIXTURE_TEST_CASE(a_block_that_was_added_since_is_in_the_next_tracking, two_sources) {
  BOOST_REQUIRE(start());
  stop();
  memory more(7 * page_bytes);
  BOOST_REQUIRE(host.space().add_block({"more", more.bytes().data(), more.bytes().size()}));
  BOOST_REQUIRE(start());
  BOOST_TEST(begin_round() == 157U);
  stop();
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::simulation
