// SPDX-License-Identifier: Apache-2.0

#include "cli/receive.hpp"

#include <tidemark/address_space.hpp>
#include <tidemark/host.hpp>
#include <tidemark/migration_destination.hpp>

#include <boost/asio/post.hpp>
#include <boost/json/object.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/end_signals.hpp"
#include "cli/guest_memory.hpp"
#include "cli/host_name.hpp"
#include "cli/human.hpp"
#include "cli/kernel_of.hpp"
#include "cli/log.hpp"
#include "cli/migration_view.hpp"
#include "kernel/test_device.h"
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
  explicit arrived_guest(any_io_executor executor) : executor_(std::move(executor)) {}

  /// Before anybody sends: what is wrong with them is said at once, and nobody waits for their pages.
  result<void> open(const std::vector<std::string>& files) {
    for (const auto& file : files) {
      auto memory = guest_memory::of_file(file);
      if (!memory) return memory.error();
      files_.push_back(std::move(*memory));
    }
    return {};
  }

  result<std::vector<ram_block>> make_room(const std::vector<block_description>& wanted) {
    if (!files_.empty() && files_.size() != wanted.size())
      return kernel_error(operation::migrate, EINVAL, {},
                          "the source has " + std::to_string(wanted.size()) + " RAM blocks, and there are " +
                              std::to_string(files_.size()) + " --ram files");
    std::vector<ram_block> blocks;
    for (const auto& block : wanted) {
      auto made = files_.empty() ? memory_for(block) : result<ram_block>(files_[blocks.size()].block());
      if (!made) return made.error();
      if (made->size != block.size)
        return kernel_error(operation::migrate, EINVAL, {},
                            made->name + " has " + std::to_string(made->size) + " bytes, RAM block " + block.name + " has " +
                                std::to_string(block.size));
      made->name = block.name;  // which snapshots go by; a file's own is its path, and it may lie elsewhere here
      blocks.push_back(std::move(*made));
    }
    return blocks;
  }

  void start_pause(completion<void> done) override { answer(std::move(done)); }
  void start_resume(completion<void> done) override { answer(std::move(done)); }

 private:
  result<ram_block> memory_for(const block_description& block) {
    auto made = block.memory_file < 0 ? guest_memory::make(block.name, block.size)
                                      : guest_memory::of_descriptor(block.name, block.size, block.memory_file);
    if (!made) return made.error();
    return memory_.emplace_back(std::move(*made)).block();
  }
  void answer(completion<void> done) {
    boost::asio::post(executor_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
  }

  any_io_executor executor_;
  std::vector<guest_memory> files_;
  std::vector<guest_memory> memory_;
};

/// What the source is started with, for a person to take over; where it has files of its own, FILE.
std::string source_command(const receive_request& request, std::string address) {
  for (const std::string_view anywhere : {"tcp:0.0.0.0:", "tcp:[::]:"})
    if (address.starts_with(anywhere)) address = "tcp:" + host_name() + address.substr(anywhere.size() - 1);
  auto command = "tidemark migrate " + address;
  if (request.at.plain) command += " --plain";
  if (!request.at.identity.psk.empty()) command += " --psk FILE";
  if (!request.at.identity.certificate.empty()) command += " --tls-certificate FILE --tls-key FILE --tls-authority FILE";
  for (std::size_t i = 0; i != request.ram.size(); ++i) command += " --ram FILE";
  if (!request.device.empty()) command += " --device " TIDEMARK_TEST_DEVICE_NAME ".0";
  if (!request.device.empty() && request.config.kernel == kernel_choice::host) command += " --kernel linux";
  return command;
}

void tell_listening(const receive_request& request, migration_view& view, const std::string& address) {
  if (request.json) {
    view.put(boost::json::object{{"event", "listening"}, {"address", address}});
  } else {
    view.put("Listening at " + address + "; start the source with: " + source_command(request, address));
  }
}

void tell_arrived(const receive_request& request, migration_view& view, const migration_arrival& arrived) {
  if (request.json) {
    view.put(boost::json::object{{"event", "arrived"}, {"received_bytes", arrived.received_bytes}});
  } else {
    const bool handed_over = request.at.address.starts_with("fd:");
    view.put("The guest arrived: " +
             (handed_over ? "its memory was handed over" : human_bytes(arrived.received_bytes) + " of pages"));
  }
}

/// What lives on the loop: the guest's place, its device, and who takes it in.
class arriving {
 public:
  arriving(ring::uring_loop& loop, kernel::files& kernel, const receive_request& request, migration_view& view,
           end_signals& signals)
      : loop_(loop),
        request_(request),
        view_(view),
        signals_(signals),
        vm_(loop.get_executor()),
        host_(kernel, thread_workers(), {.warn = [](const error& what) { log(log_level::warning, what.message()); }}),
        space_(loop.get_executor(), host_) {}

  task<void> run() {
    if (is_restored())
      signals_.let_through();  // nobody waits for its end but who sent them
    else
      signals_.listen(loop_, [this] { cancel(); });
    outcome_ = co_await take_in();
    if (outcome_) tell_arrived(request_, view_, *outcome_);
    if (device_) {
      tell_device();
      if (auto detached = co_await space_.async_detach(*device_, resume_on{loop_.get_executor()}); !detached)
        log(log_level::error, detached.error().message());
    }
    co_await signals_.close();
    loop_.stop();
  }

  const result<migration_arrival>& outcome() const noexcept { return outcome_; }

 private:
  task<result<migration_arrival>> take_in() {
    const resume_on here{loop_.get_executor()};
    if (auto opened = vm_.open(request_.ram); !opened) co_return opened.error();
    if (!request_.device.empty()) {
      auto attached = co_await space_.async_attach("/sys/bus/platform/devices/" + request_.device, here);
      if (!attached) co_return attached.error();
      device_.emplace(std::move(*attached));
    }
    migration_destination::parts parts{.executor = here.where,
                                       .vm = vm_,
                                       .make_room = [this](const auto& wanted) { return vm_.make_room(wanted); },
                                       .refused = tell_refused};
    if (device_) parts.devices.push_back(*device_);
    auto listening = migration_destination::listen(std::move(parts), request_.at);
    if (!listening) co_return listening.error();
    destination_ = std::move(*listening);
    if (cancelled_) destination_->cancel();
    if (!is_restored()) tell_listening(request_, view_, destination_->address());
    co_return co_await destination_->async_run(here);
  }

  /// From a file, where there is no peer.
  bool is_restored() const { return request_.at.address.starts_with("file:"); }

  void cancel() {
    cancelled_ = true;
    if (destination_) destination_->cancel();
  }

  static void tell_refused(const error& stranger) { log(log_level::warning, "refused a connection: " + stranger.message()); }

  /// That its counter goes on where it stopped.
  void tell_device() {
    tidemark_test_state state{};
    if (!outcome_ || device_->kernel().read(device_->file(), &state, sizeof state) != sizeof state) return;
    if (request_.json) {
      view_.put(boost::json::object{{"event", "device"}, {"name", device_->name()}, {"doorbells", state.doorbells}});
    } else {
      view_.put(device_->name() + " goes on after " + std::to_string(state.doorbells) + " doorbells");
    }
  }

  ring::uring_loop& loop_;
  const receive_request& request_;
  migration_view& view_;
  end_signals& signals_;
  bool cancelled_ = false;
  arrived_guest vm_;
  host host_;
  address_space space_;
  std::optional<device> device_;
  std::unique_ptr<migration_destination> destination_;
  result<migration_arrival> outcome_ = make_error(operation::migrate, errc::closed);
};

result<migration_arrival> receive(const receive_request& request, migration_view& view) {
  end_signals signals;
  auto loop = ring::uring_loop::make();
  if (!loop) return loop.error();
  const kernel_of kernel(request.config.kernel);
  arriving guest_and_device(**loop, kernel.files(), request, view, signals);
  ring::start(guest_and_device.run());
  if (auto ran = (*loop)->run(); !ran) return ran.error();
  return guest_and_device.outcome();
}

}  // namespace

int run_receive(const receive_request& request) {
  migration_view view(request.json, {});
  const auto outcome = receive(request, view);
  if (!outcome) view.failed(outcome.error());
  return outcome ? 0 : 1;
}

}  // namespace tidemark::cli
