// SPDX-License-Identifier: Apache-2.0
//
// migrate take ADDRESS   waits for a guest, and lets it run for a while
// migrate send ADDRESS   has a guest, and sends it there (unix:PATH, which needs no certificates)
//
// The smallest VMM there is. Its guest counts, with a page of its memory each time, and goes on counting in another process.
// The VMM knows what its guest writes, so a dirty_log is its CPU source; with vCPUs it would be a kvm_log_source.

#include <tidemark/dirty_log.hpp>
#include <tidemark/dirty_stream.hpp>
#include <tidemark/migration_destination.hpp>
#include <tidemark/migration_source.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

using boost::asio::awaitable;
using boost::asio::io_context;
using boost::asio::use_awaitable;
using tidemark::result;

namespace {

constexpr std::size_t memory_bytes = 64 << 20;
constexpr std::uint64_t pages = memory_bytes / tidemark::page_bytes;

/// Its first page has the count, the others what it was when it came to them. Lives until the loop has ended.
class counting_guest final : public tidemark::guest {
 public:
  using write_call = std::function<void(std::uint64_t page)>;

  counting_guest(io_context& loop, std::byte* memory) : loop_(loop), tick_(loop), memory_(memory) {}

  void run() {
    running_ = true;
    count_on();
  }
  void stop() {
    running_ = false;  // cancel() alone is too late for a timer that is due already
    tick_.cancel();
  }
  std::uint64_t count() { return word_of(0); }
  std::byte* memory() const { return memory_; }

  void start_resume(tidemark::completion<void> done) override {
    run();
    complete(std::move(done));
  }
  void start_pause(tidemark::completion<void> done) override {
    stop();
    complete(std::move(done));
  }

  write_call wrote = [](std::uint64_t) {};

 private:
  void count_on() {
    ++word_of(0);
    const auto page = 1 + count() % (pages - 1);
    word_of(page) = count();
    wrote(0);
    wrote(page);
    tick_.expires_after(std::chrono::microseconds(100));
    tick_.async_wait([this](boost::system::error_code) {
      if (running_) count_on();
    });
  }
  std::uint64_t& word_of(std::uint64_t page) {
    return *reinterpret_cast<std::uint64_t*>(memory_ + page * tidemark::page_bytes);
  }
  /// Never inside the call.
  void complete(tidemark::completion<void> done) {
    boost::asio::post(loop_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
  }

  io_context& loop_;
  boost::asio::steady_timer tick_;
  std::byte* memory_;
  bool running_ = false;
};

void say(const char* what, std::uint64_t count) {
  std::printf("%s %llu\n", what, static_cast<unsigned long long>(count));
  std::fflush(stdout);
}

awaitable<void> sleep_for(io_context& loop, std::chrono::milliseconds time) {
  boost::asio::steady_timer timer(loop, time);
  co_await timer.async_wait(use_awaitable);
}

awaitable<result<void>> take_in(io_context& loop, counting_guest& vm, std::string address) {
  const auto make_room = [&](const auto&) -> result<std::vector<tidemark::ram_block>> {
    return std::vector{tidemark::ram_block{"ram0", vm.memory(), memory_bytes}};
  };
  auto arriving = tidemark::migration_destination::listen({loop.get_executor(), vm, make_room}, {std::move(address)});
  if (!arriving) co_return arriving.error();
  std::printf("listening at %s\n", (*arriving)->address().c_str());
  std::fflush(stdout);
  const auto arrived = co_await (*arriving)->async_run(use_awaitable);
  if (!arrived) co_return arrived.error();
  say("the guest runs here, and has counted to", vm.count());
  co_await sleep_for(loop, std::chrono::milliseconds(100));
  say("and on to", vm.count());
  vm.stop();
  co_return result<void>{};
}

awaitable<result<void>> send_away(io_context& loop, counting_guest& vm, std::string address) {
  tidemark::host host(tidemark::kernel::host_kernel());
  tidemark::address_space space(loop.get_executor(), host);
  const auto block = space.add_block({"ram0", vm.memory(), memory_bytes});
  if (!block) co_return block.error();
  tidemark::dirty_log log(space.blocks());
  tidemark::dirty_stream stream(space, {&log});
  vm.wrote = [&](std::uint64_t page) { log.record(*block, page, 1); };
  vm.run();

  tidemark::migration_source leaving({loop.get_executor(), space, stream, vm}, {std::move(address)});
  const auto left = co_await leaving.async_run(use_awaitable);
  vm.stop();  // where it could not leave it was running
  if (!left) co_return left.error();
  say("the guest left, and had counted to", vm.count());
  const auto microseconds = [](auto time) { return static_cast<long long>(time.count() / 1000); };
  std::printf("it stood still for %lld us, %lld were predicted; %u rounds before\n", microseconds(left->blackout.total()),
              microseconds(left->predicted.total()), left->rounds);
  co_return result<void>{};
}

}  // namespace

int main(int count, char** arguments) {
  const std::string what = count == 3 ? arguments[1] : "";
  if (what != "take" && what != "send") return std::fprintf(stderr, "usage: migrate take|send ADDRESS\n"), 2;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(tidemark::page_bytes, memory_bytes));
  if (memory == nullptr) return std::fprintf(stderr, "no memory\n"), 1;
  std::fill_n(memory, memory_bytes, std::byte{0});
  io_context loop;
  counting_guest vm(loop, memory);
  int status = 1;
  const auto run = [&]() -> awaitable<void> {
    auto* side = what == "take" ? take_in : send_away;
    const auto done = co_await side(loop, vm, arguments[2]);
    if (done) {
      status = 0;
    } else {
      std::fprintf(stderr, "%s\n", done.error().message().c_str());
    }
  };
  boost::asio::co_spawn(loop, run, boost::asio::detached);
  loop.run();
  std::free(memory);
  return status;
}
