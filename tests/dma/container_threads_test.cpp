// SPDX-License-Identifier: Apache-2.0
//
// Many threads on one container. For the thread sanitizer above all.

#include <tidemark/container.hpp>

#include <atomic>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/test/unit_test.hpp>

#include <optional>
#include <thread>
#include <vector>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;
namespace asio = boost::asio;

BOOST_AUTO_TEST_SUITE(container_threads)

// Each thread maps pages of its own; every other one it unmaps again, right behind and without waiting.
BOOST_AUTO_TEST_CASE(several_threads_submit_while_others_complete) {
  constexpr std::uint64_t submitters = 4;
  constexpr std::uint64_t each = 2000;
  kernel::model model;
  const memory ram(1);
  asio::io_context context;
  std::optional<container> here(std::in_place, context.get_executor(), model, thread_workers());
  here->async_connect(0, [](const result<container_info>& connected) { BOOST_REQUIRE(connected); });
  std::atomic<std::uint64_t> good = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < submitters; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < each; ++i) {
        const iova_range at{(t * each + i) * page, page};
        here->async_map({at, ram.data(), true}, [&](const result<void>& mapped) { good += mapped ? 1U : 0U; });
        if (i % 2 == 0)
          here->async_unmap(at,
                            [&](const result<std::uint64_t>& unmapped) { good += unmapped && *unmapped == page ? 1U : 0U; });
      }
    });
  for (auto& thread : threads) thread.join();
  std::thread second([&] { context.run(); });
  context.run();
  second.join();
  BOOST_TEST(good == submitters * each * 3 / 2);
  BOOST_TEST(model.mapping_count() == submitters * each / 2);
  here.reset();
  BOOST_TEST(model.mapping_count() == 0U);
}

// Signals come on the handlers' thread, while the worker takes the requests up.
BOOST_AUTO_TEST_CASE(every_request_completes_once_whoever_is_first) {
  kernel::model model;
  const memory ram(1);
  asio::io_context context;
  container here(context.get_executor(), model, thread_workers());
  here.async_connect(0, [](const result<container_info>& connected) { BOOST_REQUIRE(connected); });
  context.run();
  context.restart();
  std::uint64_t mapped = 0;
  std::uint64_t aborted = 0;
  std::vector<asio::cancellation_signal> cancel(3000);
  auto open_end = asio::make_work_guard(context);
  for (std::uint64_t i = 0; i < cancel.size(); ++i) {
    here.async_map({{i * page, page}, ram.data(), true},
                   asio::bind_cancellation_slot(cancel[i].slot(),
                                                [&](const result<void>& outcome) { ++(outcome ? mapped : aborted); }));
    if (i >= 2) cancel[i - 2].emit(asio::cancellation_type::total);
    if (i % 16 == 0) context.poll();
  }
  open_end.reset();
  context.run();
  BOOST_TEST(mapped + aborted == cancel.size());
  BOOST_TEST(model.mapping_count() == mapped);
}

// The loop turns in one thread, requests come from another, and the container ends in a third.
BOOST_AUTO_TEST_CASE(a_container_ends_while_its_completions_run) {
  for (int round = 0; round < 50; ++round) {
    kernel::model model;
    const memory ram(1);
    asio::io_context context;
    std::atomic<std::uint64_t> ended = 0;
    std::optional<container> here(std::in_place, context.get_executor(), model, thread_workers());
    here->async_connect(0, [&](const result<container_info>&) { ++ended; });
    for (std::uint64_t i = 0; i < 200; ++i)
      here->async_map({{i * page, page}, ram.data(), true}, [&](const result<void>&) { ++ended; });
    std::thread loop([&] { context.run(); });
    here.reset();
    loop.join();
    BOOST_TEST(ended == 201U);
    BOOST_TEST(model.open_descriptors() == 0U);
  }
}

BOOST_AUTO_TEST_SUITE_END()
