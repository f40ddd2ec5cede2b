// SPDX-License-Identifier: Apache-2.0

#include "cli/receive.hpp"

#include <tidemark/migration_destination.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/object.hpp>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "cli/guest_memory.hpp"
#include "cli/human.hpp"
#include "cli/log.hpp"
#include "cli/migration_view.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {

using ring::resume_on;
using ring::task;

namespace {

/// Where the guest arrives. It has no CPU here: what was received stays as it is.
class arrived_guest final : public guest {
 public:
  arrived_guest(any_io_executor executor, std::vector<std::string> files)
      : executor_(std::move(executor)), files_(std::move(files)) {}

  result<std::vector<ram_block>> make_room(const std::vector<block_description>& wanted) {
    if (!files_.empty() && files_.size() != wanted.size())
      return kernel_error(operation::migrate, EINVAL, {},
                          "the source has " + std::to_string(wanted.size()) + " RAM blocks, and there are " +
                              std::to_string(files_.size()) + " --ram files");
    std::vector<ram_block> blocks;
    for (const auto& block : wanted) {
      auto made = memory_for(block, blocks.size());
      if (!made) return made.error();
      if (made->block().size != block.size)
        return kernel_error(operation::migrate, EINVAL, {},
                            files_[blocks.size()] + " has " + std::to_string(made->block().size) + " bytes, RAM block " +
                                block.name + " has " + std::to_string(block.size));
      blocks.push_back(memory_.emplace_back(std::move(*made)).block());
    }
    return blocks;
  }

  void start_pause(completion<void> done) override { answer(std::move(done)); }
  void start_resume(completion<void> done) override { answer(std::move(done)); }

 private:
  result<guest_memory> memory_for(const block_description& block, std::size_t index) const {
    if (block.memory_file >= 0) return guest_memory::of_descriptor(block.name, block.size, block.memory_file);
    return files_.empty() ? guest_memory::make(block.name, block.size) : guest_memory::of_file(files_[index]);
  }
  void answer(completion<void> done) {
    boost::asio::post(executor_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
  }

  any_io_executor executor_;
  std::vector<std::string> files_;
  std::vector<guest_memory> memory_;
};

task<void> take_in(migration_destination& arriving, ring::uring_loop& loop, result<migration_arrival>& outcome) {
  outcome = co_await arriving.async_run(resume_on{loop.get_executor()});
  loop.stop();
}

void tell_listening(const receive_request& request, migration_view& view, const std::string& address) {
  if (request.json) {
    view.put(boost::json::object{{"event", "listening"}, {"address", address}});
  } else {
    view.put("Listening at " + address + "; start the source with: tidemark migrate " + address);
  }
}

result<migration_arrival> receive(const receive_request& request, migration_view& view) {
  auto loop = ring::uring_loop::make();
  if (!loop) return loop.error();
  const any_io_executor executor = (*loop)->get_executor();
  arrived_guest vm(executor, request.ram);
  auto arriving = migration_destination::listen(
      {executor, vm, [&vm](const auto& wanted) { return vm.make_room(wanted); },
       [](const error& stranger) { log(log_level::warning, "refused a connection: " + stranger.message()); }},
      request.at);
  if (!arriving) return arriving.error();
  tell_listening(request, view, (*arriving)->address());
  result<migration_arrival> outcome = make_error(operation::migrate, errc::closed);
  ring::start(take_in(**arriving, **loop, outcome));
  if (auto ran = (*loop)->run(); !ran) return ran.error();
  return outcome;
}

void tell_arrived(const receive_request& request, migration_view& view, const migration_arrival& arrived) {
  if (request.json) {
    view.put(boost::json::object{{"event", "arrived"}, {"received_bytes", arrived.received_bytes}});
  } else {
    view.put("The guest arrived: " + human_bytes(arrived.received_bytes) + " of pages");
  }
}

}  // namespace

int run_receive(const receive_request& request) {
  migration_view view(request.json, {});
  const auto outcome = receive(request, view);
  if (outcome) {
    tell_arrived(request, view, *outcome);
  } else {
    view.failed(outcome.error());
  }
  return outcome ? 0 : 1;
}

}  // namespace tidemark::cli
