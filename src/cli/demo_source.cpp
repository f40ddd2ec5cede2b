// SPDX-License-Identifier: Apache-2.0

#include "cli/demo_source.hpp"

#include <sys/resource.h>
#include <tidemark/migration_source.hpp>

#include <memory>
#include <optional>

#include "cli/demo_view.hpp"
#include "cli/kernel_of.hpp"
#include "cli/migration_settings.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {

using ring::resume_on;
using ring::task;

namespace {

migration_options options_of(const settings& chosen) {
  auto options = migration_options_of(chosen);
  options.bandwidth_bytes_per_s = chosen.demo_bandwidth_bytes.value_or(0);  // it has one of its own
  options.compare = true;
  return options;
}

result<guest_plan> plan_of(const demo_request& request) {
  const auto& chosen = request.config;
  guest_plan plan{.cpu_rate_bytes = chosen.cpu_rate_bytes,
                  .device = request.device,
                  .device_rate_bytes = chosen.device_rate_bytes,
                  .region_changes_per_second = chosen.region_changes_per_second,
                  .seed = chosen.seed};
  for (std::uint64_t i = 0; i < chosen.blocks; ++i) {
    auto memory = guest_memory::make("ram" + std::to_string(i), chosen.memory_bytes / chosen.blocks);
    if (!memory) return memory.error();
    plan.memory.push_back(std::move(*memory));
  }
  return plan;
}

/// What lives on the loop: the guest and its migration.
class source_side {
 public:
  source_side(ring::uring_loop& loop, kernel::files& kernel, const demo_request& request, demo_view& view, guest_plan plan)
      : loop_(loop), request_(request), view_(view), vm_(loop, kernel, std::move(plan)) {}

  task<void> run(std::string address) {
    outcome_ = co_await migrate(std::move(address));
    const auto activity = vm_.activity();
    co_await vm_.stop();
    if (outcome_) outcome_->activity = activity;
    loop_.stop();
  }

  result<source_outcome> outcome() { return std::move(outcome_); }

 private:
  task<result<source_outcome>> migrate(std::string address) {
    const any_io_executor executor = loop_.get_executor();
    if (auto prepared = co_await vm_.prepare(); !prepared) co_return prepared.error();
    view_.begin(request_, vm_.test_device()->group());
    stream_.emplace(vm_.space(), vm_.cpu_sources(), dirty_stream_options{.batch_pages_max = request_.config.batch_pages});
    leaving_.emplace(migration_source::parts{executor, vm_.space(), *stream_, vm_},
                     migration_peer{.address = "tcp:" + address,
                                    .channels = static_cast<unsigned>(request_.config.channels),
                                    .plain = true,
                                    .congestion_control = request_.config.congestion_control},
                     options_of(request_.config), [this](const migration_progress& now) { view_.progress(now); });
    vm_.start();
    auto done = co_await leaving_->async_run(resume_on{executor});
    if (!done) co_return done.error();
    co_return source_outcome{*done, {}, stream_->statistics(), 0};
  }

  ring::uring_loop& loop_;
  const demo_request& request_;
  demo_view& view_;
  synthetic_guest vm_;
  std::optional<dirty_stream> stream_;
  std::optional<migration_source> leaving_;
  result<source_outcome> outcome_ = make_error(operation::migrate, errc::closed);
};

}  // namespace

result<source_outcome> run_source(const demo_request& request, const std::string& address, demo_view& view) {
  auto loop = ring::uring_loop::make();
  if (!loop) return loop.error();
  const kernel_of kernel(request.config.kernel);
  auto plan = plan_of(request);
  if (!plan) return plan.error();
  source_side side(**loop, kernel.files(), request, view, std::move(*plan));
  ring::start(side.run(address));
  if (auto ran = (*loop)->run(); !ran) return ran.error();
  auto outcome = side.outcome();
  if (outcome) outcome->memory_peak_bytes = peak_memory_bytes(RUSAGE_SELF);
  return outcome;
}

}  // namespace tidemark::cli
