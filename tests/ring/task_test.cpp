// SPDX-License-Identifier: Apache-2.0

#include "ring/task.hpp"

#include <boost/test/unit_test.hpp>

#include <memory>
#include <stdexcept>

using namespace tidemark::ring;

namespace {

task<int> number(int value) { co_return value; }

task<std::unique_ptr<int>> boxed(int value) { co_return std::make_unique<int>(value); }

task<int> failing() {
  throw std::runtime_error("on purpose");
  co_return 0;
}

task<> note(bool& ran) {
  ran = true;
  co_return;
}

task<> add_ones(int count, int& sum) {
  for (int i = 0; i < count; ++i) sum += co_await number(1);
}

task<int> depth(int left) {
  if (left == 0) co_return 0;
  const int below = co_await depth(left - 1);
  co_return below + 1;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(task_suite)

BOOST_AUTO_TEST_CASE(a_task_runs_when_it_is_started_and_not_before) {
  bool ran = false;
  auto work = note(ran);
  BOOST_TEST(!ran);
  start(std::move(work));
  BOOST_TEST(ran);
}

BOOST_AUTO_TEST_CASE(a_task_nobody_awaits_destroys_its_arguments) {
  auto counted = std::make_shared<int>(0);
  {
    auto work = [](std::shared_ptr<int> owned) -> task<> {
      ++*owned;
      co_return;
    }(counted);
    BOOST_TEST(counted.use_count() == 2);
  }
  BOOST_TEST(counted.use_count() == 1);
  BOOST_TEST(*counted == 0);
}

BOOST_AUTO_TEST_CASE(awaiting_answers_the_value_even_one_that_only_moves) {
  int seen = 0;
  start([](int& out) -> task<> {
    auto box = co_await boxed(5);
    out = *box + co_await number(2);
  }(seen));
  BOOST_TEST(seen == 7);
}

BOOST_AUTO_TEST_CASE(an_exception_reaches_the_awaiter) {
  bool caught = false;
  start([](bool& out) -> task<> {
    try {
      co_await failing();
    } catch (const std::runtime_error&) {
      out = true;
    }
  }(caught));
  BOOST_TEST(caught);
}

// Compilers turn the transfer between coroutines into a jump only where they optimise, and sanitizers keep some from it.
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr int many = 1'000'000;
#else
constexpr int many = 1'000;
#endif

BOOST_AUTO_TEST_CASE(awaiting_in_a_loop_costs_no_stack) {
  int sum = 0;
  start(add_ones(many, sum));
  BOOST_TEST(sum == many);
}

BOOST_AUTO_TEST_CASE(a_deep_chain_costs_no_stack) {
  int seen = 0;
  start([](int& out) -> task<> { out = co_await depth(many / 10); }(seen));
  BOOST_TEST(seen == many / 10);
}

BOOST_AUTO_TEST_CASE(a_latch_lets_go_when_counted_down) {
  latch three(3);
  bool passed = false;
  start([](latch& gate, bool& out) -> task<> {
    co_await gate;
    out = true;
  }(three, passed));
  three.count_down();
  three.count_down();
  BOOST_TEST(!passed);
  three.count_down();
  BOOST_TEST(passed);
}

BOOST_AUTO_TEST_CASE(a_latch_captured_by_reference_is_awaited_itself_and_not_a_copy) {
  latch one(1);
  bool passed = false;
  const auto wait = [&]() -> task<> {
    co_await one;
    passed = true;
  };
  start(wait());
  one.count_down();
  BOOST_TEST(passed);
}

BOOST_AUTO_TEST_CASE(a_latch_of_none_does_not_wait) {
  latch none(0);
  bool passed = false;
  start([](latch& gate, bool& out) -> task<> {
    co_await gate;
    out = true;
  }(none, passed));
  BOOST_TEST(passed);
}

BOOST_AUTO_TEST_SUITE_END()
