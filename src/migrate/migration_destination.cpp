// SPDX-License-Identifier: Apache-2.0

#include <tidemark/migration_destination.hpp>

#include <optional>
#include <string_view>
#include <utility>

#include "migrate/destination.hpp"
#include "migrate/restore.hpp"
#include "migrate/socket_network.hpp"
#include "ring/loop_thread.hpp"

namespace tidemark {

using ring::task;

/// Where guests come from: an address that is listened at, or a file.
class migration_destination::state {
 public:
  explicit state(parts with) : with_(std::move(with)) {
    if (!with_.devices.empty()) devices_.emplace(with_.devices, with_.executor, with_.threads);
  }
  virtual ~state() = default;

  const any_io_executor& executor() const noexcept { return with_.executor; }
  virtual const std::string& address() const noexcept = 0;
  virtual task<result<std::uint64_t>> take_in() = 0;
  virtual void cancel() = 0;

 protected:
  migrate::device_states* devices() noexcept { return devices_ ? &*devices_ : nullptr; }

  const parts with_;

 private:
  std::optional<migrate::device_states> devices_;
};

namespace {

constexpr std::string_view file_prefix = "file:";

}  // namespace

class migration_destination::listening final : public state {
 public:
  listening(const parts& with, std::unique_ptr<migrate::socket_arrivals> arrivals)
      : state(with),
        arrivals_(std::move(arrivals)),
        destination_({with.executor, arrivals_->clock(), *arrivals_, with.vm, with.threads, with.make_room, with.refused,
                      devices()}) {}

  const std::string& address() const noexcept override { return arrivals_->address(); }
  task<result<std::uint64_t>> take_in() override { return destination_.run(); }
  void cancel() override { destination_.cancel(); }

 private:
  const std::unique_ptr<migrate::socket_arrivals> arrivals_;
  migrate::destination destination_;
};

class migration_destination::reading final : public state {
 public:
  reading(const parts& with, std::string address, std::unique_ptr<ring::loop_thread> thread)
      : state(with), address_(std::move(address)), thread_(std::move(thread)) {}

  const std::string& address() const noexcept override { return address_; }
  task<result<std::uint64_t>> take_in() override {
    return migrate::restore({with_.executor, thread_->loop(), with_.vm, with_.make_room, with_.threads, devices()},
                            address_.substr(file_prefix.size()));
  }
  void cancel() override {}  // a file does not stand still

 private:
  const std::string address_;
  const std::unique_ptr<ring::loop_thread> thread_;
};

result<std::unique_ptr<migration_destination>> migration_destination::listen(parts with, migration_peer at) {
  std::shared_ptr<state> made;
  if (at.address.starts_with(file_prefix)) {
    auto thread = ring::loop_thread::make("tidemark-file");
    if (!thread) return thread.error();
    made = std::make_shared<reading>(with, at.address, std::move(*thread));
  } else {
    auto arrivals = migrate::socket_arrivals::listen(with.executor, at);
    if (!arrivals) return arrivals.error();
    made = std::make_shared<listening>(with, std::move(*arrivals));
  }
  return std::unique_ptr<migration_destination>(new migration_destination(std::move(made)));
}

migration_destination::migration_destination(std::shared_ptr<state> made) : state_(std::move(made)) {}
migration_destination::~migration_destination() = default;

const std::string& migration_destination::address() const noexcept { return state_->address(); }
void migration_destination::cancel() { state_->cancel(); }

void migration_destination::start_run(completion<migration_arrival> done) {
  auto run = [](std::shared_ptr<state> self) -> task<result<migration_arrival>> {
    auto taken = co_await self->take_in();
    if (!taken) co_return taken.error();
    co_return migration_arrival{*taken};
  };
  ring::spawn(state_->executor(), run(state_), std::move(done));
}

}  // namespace tidemark
