// SPDX-License-Identifier: Apache-2.0

#include "ring/loop.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "ring/coroutines.hpp"
#include "support/manual_loop.hpp"

using namespace std::chrono_literals;
using namespace tidemark::ring;
using tidemark::tests::held;
using tidemark::tests::hold;
using tidemark::tests::manual_loop;

namespace {

task<> wait_then_note(timer& bell, clock::time_point when, std::string& log, char name) {
  const bool came = co_await bell.until(when);
  log += came ? name : '!';
}

task<> ring_forever(manual_loop& owner, int& rings) {
  timer bell(owner);
  for (;;) {
    co_await bell.until(owner.now());
    ++rings;
  }
}

struct on_destruction {
  explicit on_destruction(std::function<void()> what) : call(std::move(what)) {}
  on_destruction(on_destruction&&) = default;
  ~on_destruction() {
    if (call) call();
  }
  std::function<void()> call;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(loop_suite)

BOOST_AUTO_TEST_CASE(work_runs_in_the_order_it_was_posted_and_never_inside_post) {
  manual_loop owner;
  std::string log;
  owner.post(make_work([&] {
    owner.post(make_work([&] { log += 'c'; }));
    log += 'a';
  }));
  owner.post(make_work([&] { log += 'b'; }));
  BOOST_TEST(log == "");
  BOOST_TEST(owner.turn());
  BOOST_TEST(log == "ab");
  BOOST_TEST(owner.turn());
  BOOST_TEST(log == "abc");
  BOOST_TEST(!owner.turn());
}

BOOST_AUTO_TEST_CASE(only_the_thread_that_runs_a_turn_is_in_the_loop) {
  manual_loop owner;
  BOOST_TEST(!owner.in_loop());
  bool inside = false;
  bool elsewhere = true;
  owner.post(make_work([&] {
    inside = owner.in_loop();
    std::thread([&] { elsewhere = owner.in_loop(); }).join();
  }));
  owner.turn();
  BOOST_TEST(inside);
  BOOST_TEST(!elsewhere);
  BOOST_TEST(!owner.in_loop());
}

BOOST_AUTO_TEST_CASE(timers_come_in_the_order_of_their_time_and_equal_ones_as_they_were_armed) {
  manual_loop owner;
  std::string log;
  timer late(owner), first(owner), second(owner), early(owner);
  const auto start_time = owner.now();
  start(wait_then_note(late, start_time + 30ms, log, 'l'));
  start(wait_then_note(first, start_time + 20ms, log, '1'));
  start(wait_then_note(second, start_time + 20ms, log, '2'));
  start(wait_then_note(early, start_time + 10ms, log, 'e'));
  owner.run_for(10ms - 1ns);
  BOOST_TEST(log == "");
  owner.run_for(1ns);
  BOOST_TEST(log == "e");
  owner.run();
  BOOST_TEST(log == "e12l");
  BOOST_TEST((owner.now() == start_time + 30ms));
}

BOOST_AUTO_TEST_CASE(random_timers_and_cancels_agree_with_a_sorted_list) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    manual_loop owner;
    std::vector<std::unique_ptr<timer>> bells;
    std::vector<std::pair<int, int>> expected;
    std::vector<int> came;
    int cancelled = 0;
    for (int i = 0; i < 50; ++i) {
      const int delay_ms = static_cast<int>(random() % 20);
      bells.push_back(std::make_unique<timer>(owner));
      start([](timer& bell, clock::time_point when, int name, std::vector<int>& out, int& gone) -> task<> {
        const bool rang = co_await bell.until(when);
        if (rang) out.push_back(name);
        gone += !rang;
      }(*bells.back(), owner.now() + std::chrono::milliseconds(delay_ms), i, came, cancelled));
      if (random() % 4 != 0) {
        expected.emplace_back(delay_ms, i);
      } else {
        bells.back()->cancel();
      }
    }
    owner.run();
    std::sort(expected.begin(), expected.end());
    BOOST_TEST_REQUIRE(came.size() == expected.size());
    for (std::size_t i = 0; i < came.size(); ++i) BOOST_TEST_REQUIRE(came[i] == expected[i].second);
    BOOST_TEST_REQUIRE(cancelled == 50 - static_cast<int>(came.size()));
  }
}

BOOST_AUTO_TEST_CASE(a_cancelled_timer_resumes_its_waiter_from_the_loop_without_time_passing) {
  manual_loop owner;
  std::string log;
  timer bell(owner);
  start(wait_then_note(bell, owner.now() + 1h, log, 'x'));
  bell.cancel();
  bell.cancel();
  BOOST_TEST(log == "");
  const auto before = owner.now();
  owner.run();
  BOOST_TEST(log == "!");
  BOOST_TEST((owner.now() == before));
  bell.cancel();  // nobody waits
  start(wait_then_note(bell, owner.now() + 1s, log, 'x'));
  owner.run();
  BOOST_TEST(log == "!x");
}

BOOST_AUTO_TEST_CASE(a_timer_for_now_does_not_starve_posted_work) {
  manual_loop owner;
  int rings = 0;
  int posts = 0;
  const held forever = hold(ring_forever(owner, rings));
  owner.post(make_work([&] { owner.post(make_work([&] { ++posts; })); }));
  for (int i = 0; i < 5; ++i) owner.turn();
  BOOST_TEST(posts == 1);
  BOOST_TEST(rings == 5);
}

BOOST_AUTO_TEST_CASE(work_that_keeps_posting_does_not_starve_timers) {
  manual_loop owner;
  std::string log;
  timer bell(owner);
  start(wait_then_note(bell, owner.now() + 1ms, log, 'x'));
  int posts = 0;
  std::function<void()> again = [&] {
    ++posts;
    owner.post(make_work([&] { again(); }));
  };
  again();
  owner.turn();
  owner.set_now(owner.now() + 1ms);
  owner.turn();
  BOOST_TEST(log == "x");
  BOOST_TEST(posts == 3);
}

BOOST_AUTO_TEST_CASE(one_that_a_timer_resumes_may_destroy_another_due_in_the_same_turn) {
  manual_loop owner;
  std::string log;
  timer second(owner), third(owner);
  std::optional<held> victim;
  timer first(owner);
  start([](timer& bell, timer& other, manual_loop& loop, std::optional<held>& whom) -> task<> {
    co_await bell.until(loop.now());
    whom.reset();
    other.cancel();
  }(first, third, owner, victim));
  victim.emplace(hold([](manual_loop& loop, std::string& out) -> task<> {
    timer own(loop);
    co_await own.until(loop.now());
    out += 'v';
  }(owner, log)));
  start(wait_then_note(third, owner.now(), log, '3'));
  owner.run();
  BOOST_TEST(log == "!");
}

BOOST_AUTO_TEST_CASE(a_cancelled_waiter_may_be_destroyed_before_its_turn) {
  manual_loop owner;
  std::string log;
  {
    timer bell(owner);
    const held waiting = hold(wait_then_note(bell, owner.now() + 1s, log, 'x'));
    bell.cancel();
  }
  owner.run();
  BOOST_TEST(log == "");
}

BOOST_AUTO_TEST_CASE(a_waiter_may_outlive_the_loop) {
  std::optional<manual_loop> owner(std::in_place);
  std::string log;
  int rings = 0;
  timer bell(*owner);
  const held first = hold(wait_then_note(bell, owner->now() + 1s, log, 'x'));
  const held second = hold(ring_forever(*owner, rings));
  owner.reset();
  BOOST_TEST(log == "");
}

BOOST_AUTO_TEST_CASE(a_destroyed_loop_destroys_posted_work_unrun_even_what_that_posts) {
  int ran = 0;
  int destroyed = 0;
  {
    manual_loop owner;
    const auto count = [&] { ++destroyed; };
    owner.post(make_work([&ran, guard = on_destruction([&owner, count] {
                                  count();
                                  owner.post(make_work([inner = on_destruction(count)] {}));
                                })] { ++ran; }));
  }
  BOOST_TEST(ran == 0);
  BOOST_TEST(destroyed == 2);
}

BOOST_AUTO_TEST_SUITE_END()
