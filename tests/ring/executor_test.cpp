// SPDX-License-Identifier: Apache-2.0

#include "ring/executor.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/defer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/test/unit_test.hpp>

#include <memory>
#include <string>

#include "support/manual_loop.hpp"

namespace asio = boost::asio;
using tidemark::ring::executor;
using tidemark::ring::make_work;
using tidemark::tests::manual_loop;

static_assert(asio::execution::is_executor_v<executor>);
static_assert(std::is_convertible_v<executor, asio::any_io_executor>);
static_assert(std::is_nothrow_copy_constructible_v<executor>);

BOOST_AUTO_TEST_SUITE(executor_suite)

BOOST_AUTO_TEST_CASE(its_context_is_the_loop) {
  manual_loop owner;
  const asio::any_io_executor any = owner.get_executor();
  BOOST_TEST(&asio::query(any, asio::execution::context) == &owner);
  BOOST_TEST((any == asio::any_io_executor(owner.get_executor())));
  manual_loop other;
  BOOST_TEST((any != asio::any_io_executor(other.get_executor())));
}

template <class Executor>
std::string order_of_calls(manual_loop& owner, const Executor& on) {
  std::string log;
  owner.post(make_work([&] {
    asio::post(on, [&] { log += 'p'; });
    asio::defer(on, [&] { log += 'f'; });
    asio::dispatch(on, [&] { log += 'd'; });
    log += '.';
  }));
  asio::dispatch(on, [&] { log += 'o'; });
  BOOST_TEST(log == "");
  owner.run_until_idle();
  return log;
}

BOOST_AUTO_TEST_CASE(dispatch_inside_the_loop_runs_inline_and_post_never) {
  manual_loop owner;
  BOOST_TEST(order_of_calls(owner, owner.get_executor()) == "d.opf");
  BOOST_TEST(order_of_calls(owner, asio::any_io_executor(owner.get_executor())) == "d.opf");
}

BOOST_AUTO_TEST_CASE(a_bound_handler_that_only_moves_completes_on_the_loop) {
  manual_loop owner;
  bool ran_inside = false;
  asio::post(asio::bind_executor(owner.get_executor(),
                                 [&, value = std::make_unique<int>(1)] { ran_inside = owner.in_loop() && *value == 1; }));
  owner.run_until_idle();
  BOOST_TEST(ran_inside);
}

BOOST_AUTO_TEST_SUITE_END()
