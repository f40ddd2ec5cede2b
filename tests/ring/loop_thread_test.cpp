// SPDX-License-Identifier: Apache-2.0

#include "ring/loop_thread.hpp"

#include <boost/test/unit_test.hpp>

#include <pthread.h>

#include <array>
#include <atomic>
#include <future>
#include <optional>
#include <string>

#include "ring/coroutines.hpp"

using namespace tidemark;
using namespace tidemark::ring;
using tests::held;
using tests::hold;

namespace {

std::string name_of_this_thread() {
  std::array<char, 16> name{};
  pthread_getname_np(pthread_self(), name.data(), name.size());
  return name.data();
}

/// Makes itself heard when it goes.
struct bell {
  explicit bell(std::atomic<bool>& on) : rung(on) {}
  ~bell() { rung = true; }
  std::atomic<bool>& rung;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(loop_thread_suite)

BOOST_AUTO_TEST_CASE(work_runs_on_a_thread_of_its_own_that_has_a_name) {
  const auto other = loop_thread::make("fifteen-letters").value();
  std::promise<std::string> told;
  other->loop().post(
      make_work([&] { told.set_value(other->loop().in_loop() ? name_of_this_thread() : "not in the loop"); }));
  BOOST_TEST(told.get_future().get() == "fifteen-letters");
  BOOST_TEST(!other->loop().in_loop());
}

BOOST_AUTO_TEST_CASE(after_stop_nothing_runs_and_what_is_left_may_be_destroyed_here) {
  auto other = loop_thread::make("stops").value();
  std::atomic<bool> rung = false;
  std::promise<void> waiting;
  std::optional<held> frame;
  const auto wait = [&]() -> task<> {
    const bell inside(rung);
    timer never(other->loop());
    waiting.set_value();
    co_await never.until(clock::time_point::max());
  };
  other->loop().post(make_work([&] { frame.emplace(hold(wait())); }));
  waiting.get_future().wait();
  other->stop();
  other->stop();
  bool ran = false;
  other->loop().post(make_work([&ran] { ran = true; }));
  BOOST_TEST(!rung);
  frame.reset();
  BOOST_TEST(rung);
  other.reset();
  BOOST_TEST(!ran);
}

BOOST_AUTO_TEST_SUITE_END()
