// SPDX-License-Identifier: Apache-2.0
//
// A program with a loop of its own: timers and sockets on it work beside Tidemark's operations, and its run() ends by itself
// when all are done, and not before. This source is built on Asio's epoll backend and on its io_uring backend.

#include <linux/vfio.h>
#include <sys/mman.h>
#include <tidemark/address_space.hpp>
#include <tidemark/container.hpp>
#include <tidemark/kernel_model.hpp>

#include <array>
#include <atomic>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using asio::awaitable;
using asio::use_awaitable;
using namespace tidemark;
using namespace std::chrono_literals;

#if defined(BOOST_ASIO_HAS_IO_URING_AS_DEFAULT) != defined(BOOST_ASIO_HAS_IO_URING)
#error "Asio did not take the backend that this program was to be built on"
#endif

namespace {

constexpr std::uint64_t pages = 16;
alignas(page_bytes) std::array<std::byte, pages * page_bytes> memory;

mapping page_at(std::uint64_t n) { return {{n * page_bytes, page_bytes}, memory.data(), true}; }

/// What the test device is told: eight bytes at an IOVA (three words, as its interface says).
bool device_writes(const device& by, std::uint64_t iova) {
  const std::array<std::uint64_t, 3> doorbell{iova, 8, 0x55};
  return by.kernel().write(by.file(), doorbell.data(), sizeof doorbell) == ssize_t{sizeof doorbell};
}

struct program {
  asio::io_context loop;
  kernel::model kernel;
  container here{loop.get_executor(), kernel, thread_workers()};

  template <class Work>
  void run(Work work) {
    bool ended = false;
    asio::co_spawn(
        loop,
        [&]() -> awaitable<void> {
          co_await work();
          ended = true;
        },
        asio::detached);
    loop.run();
    BOOST_TEST(ended);
    loop.restart();
  }
};

/// Remembers which pages of the first block it was told of.
struct pages_told final : dirty_sink, page_sink {
  std::atomic<std::uint64_t> mask = 0;
  page_sink& from(dirty_origin) noexcept override { return *this; }
  void merge(block_index, std::uint64_t first, std::uint64_t, std::span<const std::uint64_t> bits) override {
    mask |= bits[0] << first;
  }
  void mark(page_run run) override { mask |= ((std::uint64_t{1} << run.pages) - 1) << run.first_page; }
  void discarded(page_run) override {}
  void populated(page_run) override {}
};

}  // namespace

BOOST_AUTO_TEST_SUITE(embed_on_asio_s_own_loop)

BOOST_FIXTURE_TEST_CASE(coroutines_map_query_and_unmap, program) {
  run([&]() -> awaitable<void> {
    const auto info = co_await here.async_connect(0, use_awaitable);
    BOOST_TEST(info.value().can_track_dirty);
    const auto opened = co_await here.async_open_device(0, "tidemark-test.0", use_awaitable);
    BOOST_REQUIRE(opened.has_value());
    for (std::uint64_t n = 0; n < pages; ++n) BOOST_TEST((co_await here.async_map(page_at(n), use_awaitable)).has_value());
    BOOST_TEST((co_await here.async_start_dirty_tracking(use_awaitable)).has_value());
    BOOST_TEST(device_writes(*opened, 3 * page_bytes));
    std::vector<std::uint64_t> dirty(1);
    BOOST_TEST((co_await here.async_query_dirty({0, pages * page_bytes}, dirty, use_awaitable)).has_value());
    BOOST_TEST(dirty[0] == 8U);
    BOOST_TEST((co_await here.async_unmap({0, pages * page_bytes}, use_awaitable)).value() == pages * page_bytes);
    BOOST_TEST(!device_writes(*opened, 3 * page_bytes));
  });
  BOOST_TEST(kernel.mapping_count() == 0U);
}

BOOST_FIXTURE_TEST_CASE(timers_and_sockets_work_beside_it, program) {
  asio::local::stream_protocol::socket one(loop);
  asio::local::stream_protocol::socket other(loop);
  asio::local::connect_pair(one, other);
  std::uint64_t ticks = 0;
  std::string heard;
  std::uint64_t mapped = 0;
  bool stop = false;

  asio::co_spawn(
      loop,
      [&]() -> awaitable<void> {
        asio::steady_timer timer(loop);
        while (!stop) {
          timer.expires_after(100us);
          co_await timer.async_wait(use_awaitable);
          ++ticks;
        }
      },
      asio::detached);
  asio::co_spawn(
      loop,
      [&]() -> awaitable<void> {
        for (char byte = 0; byte != '.';) {
          co_await asio::async_read(other, asio::buffer(&byte, 1), use_awaitable);
          heard += byte;
        }
      },
      asio::detached);
  run([&]() -> awaitable<void> {
    BOOST_REQUIRE((co_await here.async_connect(0, use_awaitable)).has_value());
    for (int round = 0; round < 200; ++round) {
      if ((co_await here.async_map(page_at(0), use_awaitable)).has_value()) ++mapped;
      co_await asio::async_write(one, asio::buffer("m", 1), use_awaitable);
      if ((co_await here.async_unmap({0, page_bytes}, use_awaitable)).value() == page_bytes) ++mapped;
    }
    asio::steady_timer timer(loop, 1ms);
    co_await timer.async_wait(use_awaitable);
    co_await asio::async_write(one, asio::buffer(".", 1), use_awaitable);
    stop = true;
  });
  BOOST_TEST(mapped == 400U);
  BOOST_TEST(ticks > 0U);
  BOOST_TEST(heard == std::string(200, 'm') + ".");
}

BOOST_FIXTURE_TEST_CASE(the_loop_returns_when_callbacks_were_called_and_not_before, program) {
  int called = 0;
  here.async_connect(0, [&](const result<container_info>& connected) { called += connected ? 1 : 0; });
  for (std::uint64_t n = 0; n < pages; ++n)
    here.async_map(page_at(n), [&](const result<void>& mapped) { called += mapped ? 1 : 0; });
  here.async_unmap({0, 3 * page_bytes}, [&](const result<std::uint64_t>& unmapped) {
    called += unmapped.value() == 3 * page_bytes ? 1 : 0;
    here.async_unmap({1, 1}, [&](const result<std::uint64_t>& failed) { called += failed ? 0 : 1; });  // and it goes on
  });
  BOOST_TEST(called == 0);
  loop.run();
  BOOST_TEST(called == 3 + static_cast<int>(pages));
  BOOST_TEST(kernel.mapping_count() == pages - 3);
}

BOOST_FIXTURE_TEST_CASE(one_operation_is_cancelled_and_no_other, program) {
  std::vector<asio::cancellation_signal> cancel(1000);
  std::uint64_t mapped = 0;
  std::uint64_t aborted = 0;
  here.async_connect(0, [&](const result<container_info>& connected) { BOOST_TEST(connected.has_value()); });
  for (std::uint64_t n = 0; n < cancel.size(); ++n)
    here.async_map(page_at(n), asio::bind_cancellation_slot(cancel[n].slot(), [&, n](const result<void>& outcome) {
                     if (outcome) return void(++mapped);
                     BOOST_TEST(outcome.error().code == asio::error::operation_aborted);
                     BOOST_TEST(n % 2 == 1);
                     ++aborted;
                   }));
  for (std::size_t n = 1; n < cancel.size(); n += 2) cancel[n].emit(asio::cancellation_type::total);
  loop.run();
  BOOST_TEST(mapped + aborted == cancel.size());
  BOOST_TEST(kernel.mapping_count() == mapped);
}

BOOST_FIXTURE_TEST_CASE(an_address_space_lives_on_the_program_s_loop, program) {
  host around(kernel);
  address_space space(loop.get_executor(), around);
  BOOST_REQUIRE(space.add_block({"ram", memory.data(), memory.size()}));
  pages_told told;
  run([&]() -> awaitable<void> {
    const auto attached = co_await space.async_attach("/sys/bus/platform/devices/tidemark-test.0", use_awaitable);
    BOOST_REQUIRE(attached.has_value());
    BOOST_TEST((co_await space.async_add({{0, 8 * page_bytes}, 0, 0, true}, use_awaitable)).has_value());
    BOOST_TEST((co_await space.async_add({{0, page_bytes}, 0, 0, true}, use_awaitable)).error().code ==
               make_error_code(errc::region_overlaps));
    BOOST_TEST((co_await space.async_start_tracking(told, use_awaitable)).has_value());
    BOOST_TEST(device_writes(*attached, 2 * page_bytes));
    BOOST_TEST((co_await space.async_sync_dirty(use_awaitable)).has_value());
    BOOST_TEST(told.mask == 4U);
    BOOST_TEST(device_writes(*attached, 5 * page_bytes));
    BOOST_TEST((co_await space.async_remove({0, 8 * page_bytes}, use_awaitable)).has_value());
    BOOST_TEST(told.mask == 36U);
    BOOST_TEST((co_await space.async_stop_tracking(use_awaitable)).has_value());
    BOOST_TEST((co_await space.async_detach(*attached, use_awaitable)).has_value());
    BOOST_TEST(kernel.open_descriptors() == 0U);
  });
  BOOST_TEST(kernel.mapping_count() == 0U);
}

BOOST_AUTO_TEST_CASE(a_loop_that_is_destroyed_early_leaves_nothing_behind) {
  kernel::model kernel;
  {
    asio::io_context loop;
    container here(loop.get_executor(), kernel, thread_workers());
    here.async_connect(0, [](const result<container_info>&) {});
    asio::co_spawn(
        loop, [&]() -> awaitable<void> { (void)co_await here.async_map(page_at(0), use_awaitable); }, asio::detached);
    loop.poll_one();
  }
  BOOST_TEST(kernel.open_descriptors() == 0U);
  BOOST_TEST(kernel.mapping_count() == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
