// SPDX-License-Identifier: Apache-2.0

#include "cli/demo_source.hpp"

#include <sys/resource.h>
#include <tidemark/kernel_model.hpp>

#include <memory>
#include <optional>

#include "cli/demo_view.hpp"
#include "cli/kernel_of.hpp"
#include "migrate/source.hpp"
#include "ring/await.hpp"
#include "ring/loop_thread.hpp"
#include "ring/tcp.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {

using ring::resume_on;
using ring::task;

namespace {

migration_options options_of(const settings& chosen) {
  migration_options options;
  options.downtime_target = std::chrono::milliseconds(chosen.downtime_ms);
  options.bandwidth_bytes_per_s = chosen.bandwidth_bytes.value_or(0);
  options.rounds_max = static_cast<std::uint32_t>(chosen.rounds_max);
  options.compare = true;
  return options;
}

/// What lives on the main loop: the guest and its migration.
class source_side {
 public:
  source_side(ring::uring_loop& main, ring::uring_loop& network, kernel::files& kernel, const demo_request& request,
              demo_view& view)
      : main_(main), network_(network), request_(request), view_(view), vm_(main, kernel, request) {}

  task<void> run(const ring::address& peer) {
    outcome_ = co_await migrate(peer);
    const auto activity = vm_.activity();
    co_await vm_.stop();
    if (outcome_) outcome_->activity = activity;
    main_.stop();
  }

  result<source_outcome> outcome() { return std::move(outcome_); }

 private:
  task<result<source_outcome>> migrate(const ring::address& peer) {
    const any_io_executor executor = main_.get_executor();
    const any_io_executor network = network_.get_executor();
    auto connected = co_await ring::run_on(network, ring::connect(network_, peer), resume_on{executor});
    if (!connected) co_return connected.error();
    if (auto prepared = co_await vm_.prepare(); !prepared) co_return prepared.error();
    view_.begin(request_, vm_.group());
    const auto options = options_of(request_.config);
    channel_.emplace(network_, std::move(*connected), options.bandwidth_bytes_per_s);
    stream_.emplace(vm_.space(), std::vector<cpu_dirty_source*>{&vm_.cpu_source()},
                    dirty_stream_options{.batch_pages_max = request_.config.batch_pages});
    vm_.start();
    migrate::source source({executor, *channel_, vm_.space(), *stream_, vm_, thread_workers()}, options,
                           [this](const migration_progress& now) { view_.progress(now); });
    auto done = co_await source.run();
    if (!done) co_return done.error();
    co_return source_outcome{*done, {}, stream_->statistics(), 0};
  }

  ring::uring_loop& main_;
  ring::uring_loop& network_;
  const demo_request& request_;
  demo_view& view_;
  demo_guest vm_;
  std::optional<migrate::channel> channel_;
  std::optional<dirty_stream> stream_;
  result<source_outcome> outcome_ = make_error(operation::migrate, errc::closed);
};

}  // namespace

result<source_outcome> run_source(const demo_request& request, const std::string& address, demo_view& view) {
  const auto peer = ring::resolve(address);
  if (!peer) return peer.error();
  auto main = ring::uring_loop::make();
  if (!main) return main.error();
  auto network = ring::loop_thread::make("tidemark-net");
  if (!network) return network.error();
  const kernel_of kernel(request.config.kernel);

  source_side side(**main, (*network)->loop(), kernel.files(), request, view);
  ring::start(side.run(*peer));
  const auto ran = (*main)->run();
  (*network)->stop();  // before the side goes, whose channel is on it
  if (!ran) return ran.error();
  auto outcome = side.outcome();
  if (outcome) outcome->memory_peak_bytes = peak_memory_bytes(RUSAGE_SELF);
  return outcome;
}

}  // namespace tidemark::cli
