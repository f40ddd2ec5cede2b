// SPDX-License-Identifier: Apache-2.0

#include "cli/demo_destination.hpp"

#include <sys/resource.h>

#include <boost/asio/post.hpp>

#include <optional>
#include <vector>

#include "cli/demo_view.hpp"
#include "cli/guest_memory.hpp"
#include "migrate/destination.hpp"
#include "ring/executor.hpp"
#include "ring/tcp.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {

using ring::task;

namespace {

/// Where the guest arrives: memory of the sizes the source names, empty until pages come.
class arrival final : public guest {
 public:
  arrival(any_io_executor executor, bool flip_byte) : executor_(std::move(executor)), flip_byte_(flip_byte) {}

  result<std::vector<ram_block>> make_room(const std::vector<block_description>& wanted) {
    std::vector<ram_block> blocks;
    for (const auto& block : wanted) {
      auto made = guest_memory::make(block.name, block.size);
      if (!made) return made.error();
      blocks.push_back(memory_.emplace_back(std::move(*made)).block());
    }
    return blocks;
  }

  void start_pause(completion<void> done) override { answer(std::move(done)); }

  /// The demo's guest has no CPU here: what was received stays as it is, to be compared. --inject flip-byte spoils it.
  void start_resume(completion<void> done) override {
    if (flip_byte_) memory_.front().block().host[0] ^= std::byte{1};
    answer(std::move(done));
  }

 private:
  void answer(completion<void> done) {
    boost::asio::post(executor_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
  }

  any_io_executor executor_;
  bool flip_byte_;
  std::vector<guest_memory> memory_;
};

class destination_side {
 public:
  destination_side(ring::uring_loop& loop, const demo_request& request)
      : loop_(loop), to_(loop.get_executor(), request.flip_byte) {}

  task<void> run(ring::listener& at) {
    outcome_ = co_await take_in(at);
    loop_.stop();
  }

  result<std::uint64_t> outcome() { return std::move(outcome_); }

 private:
  task<result<std::uint64_t>> take_in(ring::listener& at) {
    auto accepted = co_await at.accept();
    if (!accepted) co_return accepted.error();
    at.close();
    from_.emplace(loop_, std::move(*accepted), 0);
    migrate::destination destination(*from_, to_, thread_workers(),
                                     [this](const auto& wanted) { return to_.make_room(wanted); });
    co_return co_await destination.run();
  }

  ring::uring_loop& loop_;
  arrival to_;
  std::optional<migrate::channel> from_;
  result<std::uint64_t> outcome_ = make_error(operation::migrate, errc::closed);
};

}  // namespace

result<destination_outcome> run_destination(const demo_request& request, demo_view& view) {
  const auto at = ring::resolve(request.address);
  if (!at) return at.error();
  auto loop = ring::uring_loop::make();
  if (!loop) return loop.error();
  auto listener = ring::listener::open(**loop, *at);
  if (!listener) return listener.error();
  view.listening(request.address.substr(0, request.address.rfind(':')), (*listener)->port());

  destination_side side(**loop, request);
  ring::start(side.run(**listener));
  if (auto ran = (*loop)->run(); !ran) return ran.error();
  auto received = side.outcome();
  if (!received) return received.error();
  return destination_outcome{*received, peak_memory_bytes(RUSAGE_SELF)};
}

}  // namespace tidemark::cli
