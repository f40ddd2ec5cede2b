// SPDX-License-Identifier: Apache-2.0

#include "simulation/simulated_network.hpp"

#include <cerrno>
#include <utility>

namespace tidemark::simulation {

using ring::task;

bool simulated_arrivals::offer(std::unique_ptr<ring::byte_stream> stream) {
  if (closed_) return false;
  came_.push_back(std::move(stream));
  changed_.notify();
  return true;
}

task<result<migrate::arrival>> simulated_arrivals::next() {
  while (came_.empty() && !closed_) co_await changed_.wait();
  if (closed_) co_return make_error(operation::receive, errc::closed);
  migrate::arrival made{nullptr, &loop_, nullptr, std::move(came_.front())};
  came_.pop_front();
  co_return made;
}

void simulated_arrivals::close() noexcept {
  closed_ = true;
  came_.clear();
  changed_.notify();
}

task<result<simulated_network::stream>> simulated_network::connect(unsigned) {
  ring::timer pause(loop_);
  co_await pause.until(loop_.now() + luck_.within(50us));
  const auto number = cuts_.size();
  auto wire = simulation::connect(loop_, luck_, number < how_.cuts.size() ? how_.cuts[number].forth : connection::never,
                                  number < how_.cuts.size() ? how_.cuts[number].back : connection::never);
  cuts_.push_back(wire.cut);
  if (how_.at_source) wire.source = how_.at_source(std::move(wire.source), number);
  if (how_.at_destination) wire.destination = how_.at_destination(std::move(wire.destination), number);
  const bool reached = !how_.reaches || how_.reaches(number);
  if (!reached || !to_->offer(std::move(wire.destination)))
    co_return kernel_error(operation::connect_peer, ECONNREFUSED, {}, "nobody listens there");
  co_return std::move(wire.source);
}

}  // namespace tidemark::simulation
