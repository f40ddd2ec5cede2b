// SPDX-License-Identifier: Apache-2.0
//
// A migration in a program with a loop of its own: both sides complete there, beside its timers, and its run() ends by
// itself. Built on each of Asio's I/O backends, as embed_test.cpp.

#include <tidemark/dirty_log.hpp>
#include <tidemark/dirty_stream.hpp>
#include <tidemark/kernel_model.hpp>
#include <tidemark/migration_destination.hpp>
#include <tidemark/migration_source.hpp>

#include <algorithm>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using namespace tidemark;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t bytes = 4 << 20;

struct aligned {
  std::byte* at = static_cast<std::byte*>(std::aligned_alloc(page_bytes, bytes));
  aligned() { std::fill_n(at, bytes, std::byte{0}); }
  aligned(const aligned&) = delete;
  ~aligned() { std::free(at); }
};

struct posting_guest final : guest {
  posting_guest(asio::io_context& on, bool runs) : loop(on), running(runs) {}
  void start_pause(completion<void> done) override { become(false, std::move(done)); }
  void start_resume(completion<void> done) override { become(true, std::move(done)); }
  void become(bool runs, completion<void> done) {
    running = runs;
    asio::post(loop, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
  }
  asio::io_context& loop;
  bool running;
};

struct temporary_folder {
  std::string path = (std::filesystem::temp_directory_path() / "tidemark-embed-XXXXXX").string();
  temporary_folder() { BOOST_REQUIRE(::mkdtemp(path.data()) != nullptr); }
  temporary_folder(const temporary_folder&) = delete;
  ~temporary_folder() { std::filesystem::remove_all(path); }
};

/// Both sides of a migration on the loop of one program, which also has a timer that ticks until both have completed.
struct two_guests {
  two_guests() {
    std::mt19937_64 numbers(1);
    for (std::uint64_t i = 0; i != bytes; ++i) memory.at[i] = static_cast<std::byte>(numbers());
    BOOST_REQUIRE(space.add_block({"ram0", memory.at, bytes}).has_value());
    log.emplace(space.blocks());
    stream.emplace(space, std::vector<cpu_dirty_source*>{&*log});
    auto listens = migration_destination::listen({loop.get_executor(), arriving, make_room}, {address});
    BOOST_REQUIRE(listens.has_value());
    to = std::move(*listens);
    from.emplace(migration_source::parts{loop.get_executor(), space, *stream, leaving}, migration_peer{address},
                 migration_options{}, [this](const migration_progress& now) { on_progress(now); });
  }

  void run() {
    from->async_run(asio::bind_cancellation_slot(cancel.slot(), [this](result<migration_summary> done) { left = done; }));
    to->async_run([this](result<migration_arrival> done) { came = done; });
    tick();
    loop.run();
    BOOST_REQUIRE((left && came));
    BOOST_TEST(ticks > 0u);
  }
  void tick() {
    timer.expires_after(100us);
    timer.async_wait([this](boost::system::error_code) {
      ++ticks;
      if (!left || !came) tick();
    });
  }

  temporary_folder folder;
  std::string address = "unix:" + folder.path + "/socket";
  asio::io_context loop;
  asio::steady_timer timer{loop};
  asio::cancellation_signal cancel;
  kernel::model kernel;
  tidemark::host host{kernel};
  address_space space{loop.get_executor(), host};
  aligned memory;
  aligned memory_there;
  posting_guest leaving{loop, true};
  posting_guest arriving{loop, false};
  migration_destination::make_room_call make_room = [this](const std::vector<block_description>& wanted) {
    return result<std::vector<ram_block>>({{wanted.front().name, memory_there.at, bytes}});
  };
  std::optional<dirty_log> log;
  std::optional<dirty_stream> stream;
  std::unique_ptr<migration_destination> to;
  std::optional<migration_source> from;
  std::function<void(const migration_progress&)> on_progress = [](const migration_progress&) {};
  std::optional<result<migration_summary>> left;
  std::optional<result<migration_arrival>> came;
  unsigned ticks = 0;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(embed_a_migration)

BOOST_FIXTURE_TEST_CASE(a_guest_leaves_and_arrives_while_the_program_goes_on, two_guests) {
  unsigned told = 0;
  on_progress = [&](const migration_progress& now) {
    ++told;
    if (now.phase != migration_phase::pre_copy) return;
    memory.at[5 * page_bytes] = static_cast<std::byte>(told);  // a CPU that goes on writing
    log->record(0, 5, 1);
  };
  run();
  BOOST_REQUIRE_MESSAGE(left->has_value(), left->error().message());
  BOOST_REQUIRE_MESSAGE(came->has_value(), came->error().message());
  BOOST_TEST((*left)->sent_bytes == (*came)->received_bytes);
  BOOST_TEST(std::equal(memory.at, memory.at + bytes, memory_there.at));
  BOOST_TEST(!leaving.running);
  BOOST_TEST(arriving.running);
  BOOST_TEST(told > 0u);
}

BOOST_FIXTURE_TEST_CASE(its_slot_cancels_it_and_the_guest_runs_on, two_guests) {
  from->set_bandwidth(1 << 20);
  on_progress = [&](const migration_progress& now) {
    if (now.sent_bytes != 0) cancel.emit(asio::cancellation_type::terminal);
  };
  run();
  BOOST_REQUIRE((left->has_error() && came->has_error()));
  BOOST_TEST(left->error().code == asio::error::operation_aborted);
  BOOST_TEST(came->error().message().find("the migration was cancelled") != std::string::npos, came->error().message());
  BOOST_TEST(leaving.running);
  BOOST_TEST(!arriving.running);
}

BOOST_FIXTURE_TEST_CASE(a_destination_that_nobody_comes_to_is_cancelled, two_guests) {
  to->async_run([this](result<migration_arrival> done) { came = done; });
  asio::post(loop, [this] { to->cancel(); });
  loop.run();
  BOOST_REQUIRE((came && came->has_error()));
  BOOST_TEST(came->error().code == asio::error::operation_aborted);
  BOOST_TEST(!std::filesystem::exists(folder.path + "/socket"));
}

BOOST_AUTO_TEST_SUITE_END()
