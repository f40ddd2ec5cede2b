// SPDX-License-Identifier: Apache-2.0
//
// The bridge between our coroutines and Asio, as containers and address spaces use it: on the program's own loops, not on
// ours.

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/test/unit_test.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "dma/hand_workers.hpp"
#include "ring/await.hpp"
#include "ring/mutex.hpp"
#include "ring/offload.hpp"

using namespace tidemark;
namespace asio = boost::asio;
using int_handler = asio::any_completion_handler<void(int)>;

namespace {

ring::task<int> the_answer() { co_return 42; }

}  // namespace

BOOST_AUTO_TEST_SUITE(coroutines)

BOOST_AUTO_TEST_CASE(spawn_never_completes_inside_the_call) {
  asio::io_context context;
  int told = 0;
  ring::spawn(context.get_executor(), the_answer(), int_handler([&](int value) { told = value; }));
  BOOST_TEST(told == 0);
  context.run();
  BOOST_TEST(told == 42);
}

BOOST_AUTO_TEST_CASE(the_loop_of_a_handler_does_not_run_dry_before_the_handler_was_called) {
  asio::io_context context;
  asio::io_context of_handler;
  bool told = false;
  ring::spawn(context.get_executor(), the_answer(),
              int_handler(asio::bind_executor(of_handler.get_executor(), [&](int) { told = true; })));
  of_handler.poll();
  BOOST_TEST(!of_handler.stopped());
  while (context.poll_one() != 0) {
    of_handler.poll();
    BOOST_TEST((told || !of_handler.stopped()));
  }
  of_handler.run();
  BOOST_TEST(told);
}

BOOST_AUTO_TEST_CASE(a_handler_not_yet_called_is_freed_with_the_loop) {
  auto owned = std::make_shared<int>();
  {
    asio::io_context context;
    ring::spawn(context.get_executor(), the_answer(), int_handler([owned](int) {}));
    BOOST_TEST(owned.use_count() == 2);
  }
  BOOST_TEST(owned.use_count() == 1);
}

BOOST_AUTO_TEST_CASE(work_on_another_loop_comes_back_to_where_it_was_awaited) {
  asio::io_context here;
  asio::io_context there;
  std::string log;
  const auto story = [](asio::io_context& home, asio::io_context& away, std::string& notes) -> ring::task<int> {
    const auto value = co_await ring::run_on<int>(away.get_executor(), the_answer(), ring::resume_on{home.get_executor()});
    notes += home.get_executor().running_in_this_thread() ? "home" : "?";
    co_return value;
  };
  ring::spawn(here.get_executor(), story(here, there, log), int_handler([&](int value) { log += std::to_string(value); }));
  here.poll();
  BOOST_TEST(!here.stopped());
  there.run();
  here.run();
  BOOST_TEST(log == "home42");
}

BOOST_AUTO_TEST_CASE(offloaded_work_runs_on_a_worker_and_comes_back) {
  asio::io_context context;
  tests::hand_workers threads;
  std::string log;
  const auto story = [](asio::io_context& home, tests::hand_workers& hands, std::string& notes) -> ring::task<int> {
    const auto value = co_await ring::offload(hands, home.get_executor(), [&] {
      notes += home.get_executor().running_in_this_thread() ? "?" : "away ";
      return 42;
    });
    notes += home.get_executor().running_in_this_thread() ? "home" : "?";
    co_return value;
  };
  ring::spawn(context.get_executor(), story(context, threads, log), int_handler([](int) {}));
  context.poll();
  BOOST_TEST(!context.stopped());  // though nothing but the worker is busy
  BOOST_TEST(threads.run());
  context.run();
  BOOST_TEST(log == "away home");
}

BOOST_AUTO_TEST_CASE(a_mutex_gives_turns_in_the_order_they_were_asked_for) {
  ring::mutex mutex;
  std::string log;
  auto first = std::make_unique<std::optional<ring::mutex::turn>>();
  ring::start([](ring::mutex& on, std::optional<ring::mutex::turn>& kept) -> ring::task<> {
    kept.emplace(co_await on.lock());
  }(mutex, *first));
  for (const char name : {'a', 'b', 'c'})
    ring::start([](ring::mutex& on, std::string& notes, char who) -> ring::task<> {
      const auto turn = co_await on.lock();
      notes += who;
    }(mutex, log, name));
  BOOST_TEST(log.empty());
  first.reset();
  BOOST_TEST(log == "abc");
  ring::start([](ring::mutex& on, std::string& notes) -> ring::task<> {
    const auto turn = co_await on.lock();
    notes += '.';
  }(mutex, log));
  BOOST_TEST(log == "abc.");
}

BOOST_AUTO_TEST_SUITE_END()
