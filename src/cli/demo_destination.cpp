// SPDX-License-Identifier: Apache-2.0

#include "cli/demo_destination.hpp"

#include <sys/resource.h>
#include <tidemark/migration_destination.hpp>

#include <boost/asio/post.hpp>

#include <string>
#include <vector>

#include "cli/demo_view.hpp"
#include "cli/guest_memory.hpp"
#include "cli/log.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"
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

task<void> take_in(migration_destination& arriving, ring::uring_loop& loop, result<migration_arrival>& outcome) {
  outcome = co_await arriving.async_run(ring::resume_on{loop.get_executor()});
  loop.stop();
}

}  // namespace

result<destination_outcome> run_destination(const demo_request& request, demo_view& view) {
  auto loop = ring::uring_loop::make();
  if (!loop) return loop.error();
  arrival to((*loop)->get_executor(), request.flip_byte);
  auto arriving =
      migration_destination::listen({(*loop)->get_executor(), to, [&to](const auto& wanted) { return to.make_room(wanted); },
                                     [](const error& who) { log(log_level::warning, who.message()); }},
                                    {.address = "tcp:" + request.address, .plain = true});
  if (!arriving) return arriving.error();
  const auto& address = (*arriving)->address();
  view.listening(request.address.substr(0, request.address.rfind(':')),
                 static_cast<unsigned>(std::stoul(address.substr(address.rfind(':') + 1))));

  result<migration_arrival> outcome = make_error(operation::migrate, errc::closed);
  ring::start(take_in(**arriving, **loop, outcome));
  if (auto ran = (*loop)->run(); !ran) return ran.error();
  if (!outcome) return outcome.error();
  return destination_outcome{outcome->received_bytes, peak_memory_bytes(RUSAGE_SELF)};
}

}  // namespace tidemark::cli
