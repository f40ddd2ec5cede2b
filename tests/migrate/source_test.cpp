// SPDX-License-Identifier: Apache-2.0
//
// A source by itself, with a target that is told what to answer: what it asks of targets that are no destination.

#include "migrate/source.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

namespace {

/// Takes everything, and keeps the order in which it was asked.
class told_target final : public target {
 public:
  explicit told_target(bool pages) : pages_(pages) {}

  bool takes_pages() const noexcept override { return pages_; }
  bool takes_over() const noexcept override { return false; }
  ring::task<result<welcome>> open() override {
    asked.emplace_back("open");
    co_return welcome{};
  }
  ring::task<void> begin_round() override {
    asked.emplace_back("round");
    co_return;
  }
  ring::task<result<delivery>> send(std::span<const page_run> runs) override {
    for (const auto& run : runs) sent_pages += run.pages;
    co_return delivery{};
  }
  ring::task<result<std::uint64_t>> send_device(unsigned, const device_states&) override { co_return std::uint64_t{0}; }
  ring::task<result<void>> touch() override { co_return result<void>{}; }
  ring::task<result<void>> finish() override {
    asked.emplace_back("finish");
    if (fails) co_return kernel_error(operation::migrate, ENOSPC, {}, "the snapshot");
    co_return result<void>{};
  }
  ring::task<result<void>> hand_over() override {
    asked.emplace_back("hand over");
    co_return result<void>{};
  }
  ring::task<result<std::string>> compare(std::vector<std::string>) override {
    asked.emplace_back("compare");
    co_return std::string();
  }
  ring::task<void> leave(const error* why) override {
    asked.emplace_back(why ? "leave: " + why->detail : "leave");
    co_return;
  }
  void cut(const error*) noexcept override {}
  void set_bandwidth(std::uint64_t) noexcept override {}
  std::uint64_t wire_bytes() const noexcept override { return 0; }
  unsigned channels() const noexcept override { return 0; }

  std::vector<std::string> asked;
  std::uint64_t sent_pages = 0;
  bool fails = false;

 private:
  bool pages_;
};

result<migration_summary> run(two_sides& sides, told_target& to) {
  source sender(sides.source_parts(to), sides.options, sides.on_progress);
  return sides.host.wait_for(sender.run());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(source_with_another_target)

BOOST_AUTO_TEST_CASE(a_guest_that_goes_nowhere_goes_on_here) {
  two_sides sides({20, 3});
  told_target to(true);
  const auto ended = run(sides, to);
  BOOST_REQUIRE(ended.has_value());
  BOOST_TEST(to.sent_pages == 25u);
  BOOST_TEST(ended->sent_bytes == 25 * page_bytes);
  BOOST_TEST(sides.vm.running());
  BOOST_TEST(!sides.host.tracking());
  BOOST_TEST(sides.stream->dirty_pages() == 0u);
  const std::vector<std::string> wanted{"open", "round", "round", "round", "finish", "leave"};
  BOOST_TEST(to.asked == wanted, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_target_that_has_the_memory_itself_is_sent_no_pages_and_nothing_is_tracked) {
  two_sides sides({20, 3});
  told_target to(false);
  bool tracked = false;
  sides.vm.on_pause = [&]() -> result<void> {
    tracked = sides.host.tracking();
    return {};
  };
  BOOST_REQUIRE(run(sides, to).has_value());
  BOOST_TEST(!tracked);
  BOOST_TEST(to.sent_pages == 0u);
  BOOST_TEST(sides.vm.running());
  const std::vector<std::string> wanted{"open", "finish", "leave"};
  BOOST_TEST(to.asked == wanted, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_target_that_fails_is_left_with_the_reason_and_the_guest_runs_on) {
  two_sides sides({20, 3});
  told_target to(true);
  to.fails = true;
  const auto ended = run(sides, to);
  BOOST_REQUIRE(ended.has_error());
  BOOST_TEST(says(ended.error(), "the guest runs on here"));
  BOOST_TEST(to.asked.back() == "leave: the snapshot");
  BOOST_TEST(sides.vm.running());
  BOOST_TEST(!sides.host.tracking());
}

// It dirties all of its pages in every round, so it is slowed down; then it is let go.
BOOST_AUTO_TEST_CASE(a_guest_that_was_slowed_down_for_a_snapshot_is_let_go) {
  two_sides sides({20, 3});
  sides.vm.on_pause = {};
  sides.options.downtime_target = std::chrono::milliseconds(0);
  sides.options.rounds_max = 8;
  std::vector<unsigned> asked;
  sides.vm.on_throttle = [&](unsigned percent) { asked.push_back(percent); };
  std::uint32_t round = 0;
  sides.on_progress = [&](const migration_progress& now) {
    if (std::exchange(round, now.round) == now.round) return;
    for (std::uint64_t page = 0; page != 20; ++page) sides.host.write_by_cpu(0, page, static_cast<unsigned char>(round));
  };
  told_target to(true);
  BOOST_REQUIRE(run(sides, to).has_value());
  BOOST_TEST(sides.vm.running());
  BOOST_REQUIRE(asked.size() >= 2u);
  BOOST_TEST(asked.front() == 25u);
  BOOST_TEST(asked.back() == 0u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
