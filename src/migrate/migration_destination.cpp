// SPDX-License-Identifier: Apache-2.0

#include <tidemark/migration_destination.hpp>

#include <utility>

#include "migrate/destination.hpp"
#include "migrate/socket_network.hpp"

namespace tidemark {

using ring::task;

class migration_destination::state : public std::enable_shared_from_this<state> {
 public:
  state(const parts& with, std::unique_ptr<migrate::socket_arrivals> arrivals)
      : executor_(with.executor),
        arrivals_(std::move(arrivals)),
        destination_({with.executor, arrivals_->clock(), *arrivals_, with.vm, with.threads, with.make_room, with.refused}) {}

  const any_io_executor& executor() const noexcept { return executor_; }
  const std::string& address() const noexcept { return arrivals_->address(); }
  void cancel() { destination_.cancel(); }

  task<result<migration_arrival>> run() {
    const auto self = shared_from_this();
    auto done = co_await destination_.run();
    if (!done) co_return done.error();
    co_return migration_arrival{*done};
  }

 private:
  const any_io_executor executor_;
  const std::unique_ptr<migrate::socket_arrivals> arrivals_;
  migrate::destination destination_;
};

result<std::unique_ptr<migration_destination>> migration_destination::listen(parts with, migration_peer at) {
  auto arrivals = migrate::socket_arrivals::listen(with.executor, at);
  if (!arrivals) return arrivals.error();
  return std::unique_ptr<migration_destination>(
      new migration_destination(std::make_shared<state>(with, std::move(*arrivals))));
}

migration_destination::migration_destination(std::shared_ptr<state> made) : state_(std::move(made)) {}
migration_destination::~migration_destination() = default;

const std::string& migration_destination::address() const noexcept { return state_->address(); }
void migration_destination::cancel() { state_->cancel(); }

void migration_destination::start_run(completion<migration_arrival> done) {
  ring::spawn(state_->executor(), state_->run(), std::move(done));
}

}  // namespace tidemark
