// SPDX-License-Identifier: Apache-2.0

#include "ring/deadline.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <chrono>
#include <optional>

#include "support/manual_loop.hpp"

using namespace tidemark::ring;
using namespace std::chrono_literals;

namespace {

/// What became of work that takes so long and is waited for so long.
struct outcome {
  std::optional<int> answer;
  unsigned calls = 0;
  clock::duration took{};
};

task<int> work_for(loop& by, clock::duration time, bool& give_up) {
  timer pause(by);
  for (const auto end = by.now() + time; !give_up && by.now() < end;) co_await pause.until(std::min(end, by.now() + 1ms));
  co_return give_up ? -1 : 1;
}

outcome wait_for(clock::duration work, clock::duration limit) {
  tidemark::tests::manual_loop on;
  outcome came;
  bool give_up = false;
  const auto wait = [&]() -> task<> {
    const resume_on here{on.get_executor()};
    came.answer = co_await with_deadline(on, on.now() + limit, here, work_for(on, work, give_up), [&] {
      give_up = true;
      ++came.calls;
    });
  };
  const auto began = on.now();
  start(wait());
  on.run();
  came.took = on.now() - began;
  return came;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(deadline)

BOOST_AUTO_TEST_CASE(work_that_ends_in_time_is_left_alone) {
  const auto came = wait_for(5ms, 10ms);
  BOOST_TEST((came.answer == 1));
  BOOST_TEST(came.calls == 0u);
  BOOST_TEST((came.took < 10ms));
}

BOOST_AUTO_TEST_CASE(work_that_is_late_is_told_once_and_waited_for) {
  const auto came = wait_for(100ms, 10ms);
  BOOST_TEST((came.answer == -1));
  BOOST_TEST(came.calls == 1u);
  BOOST_TEST((came.took < 20ms));
}

BOOST_AUTO_TEST_CASE(work_that_ends_when_it_is_too_late_is_not_told_afterwards) {
  const auto came = wait_for(10ms, 10ms);
  BOOST_TEST((came.answer == 1));
  BOOST_TEST(came.calls == 0u);
}

BOOST_AUTO_TEST_CASE(a_time_that_is_over_is_told_at_once) {
  const auto came = wait_for(10ms, -1ms);
  BOOST_TEST((came.answer == -1));
  BOOST_TEST(came.calls == 1u);
}

BOOST_AUTO_TEST_SUITE_END()
