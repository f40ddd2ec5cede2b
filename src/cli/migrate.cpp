// SPDX-License-Identifier: Apache-2.0

#include "cli/migrate.hpp"

#include <tidemark/kernel.hpp>
#include <tidemark/migration_source.hpp>

#include <boost/json/object.hpp>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/end_signals.hpp"
#include "cli/host_name.hpp"
#include "cli/kernel_of.hpp"
#include "cli/log.hpp"
#include "cli/migration_html.hpp"
#include "cli/migration_record.hpp"
#include "cli/migration_settings.hpp"
#include "cli/migration_view.hpp"
#include "cli/synthetic_guest.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {

using ring::resume_on;
using ring::task;

namespace {

result<guest_plan> plan_of(const migrate_request& request) {
  const auto& chosen = request.config;
  guest_plan plan{.fill = request.ram.empty(),
                  .cpu_rate_bytes = chosen.guest_cpu_rate_bytes,
                  .device = request.device,
                  .device_rate_bytes = chosen.guest_device_rate_bytes,
                  .seed = chosen.guest_seed};
  for (const auto& file : request.ram) {
    auto memory = guest_memory::of_file(file);
    if (!memory) return memory.error();
    plan.memory.push_back(std::move(*memory));
  }
  if (!plan.memory.empty()) return plan;
  const bool handed_over = request.to.address.starts_with("fd:");
  auto memory = handed_over ? guest_memory::make_shared("ram0", chosen.guest_memory_bytes)
                            : guest_memory::make("ram0", chosen.guest_memory_bytes);
  if (!memory) return memory.error();
  plan.memory.push_back(std::move(*memory));
  return plan;
}

std::string now_in_words() {
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::localtime_r(&now, &parts);
  char text[64] = {};
  std::strftime(text, sizeof text, "%F %T %Z", &parts);
  return text;
}

error cannot_write(const std::string& report) {
  return kernel_error(operation::migrate, errno, {}, "--report: cannot write " + report);
}

/// Asked before anything has begun: a guest that has gone cannot be sent again for the page.
result<void> check_report(const std::string& report) {
  if (report.empty() || std::ofstream(report, std::ios::app)) return {};
  return cannot_write(report);
}

/// What is shown of it while it runs, and kept of it for the page.
class shown_migration {
 public:
  explicit shown_migration(const migrate_request& request)
      : request_(request), view_(request.json, std::chrono::milliseconds(request.config.downtime_ms)) {
    subject_.target = request.to.address;
    subject_.source_host = host_name();
    subject_.began = now_in_words();
    subject_.channels = request.to.channels;
    subject_.options = migration_options_of(request.config);
  }

  void begin(const std::vector<ram_block>& blocks) {
    for (const auto& block : blocks) subject_.blocks.push_back({block.name, block.size, -1});
    record_.emplace(subject_);
  }

  void progress(const migration_progress& now) {
    view_.progress(now);
    record_->add(now);
  }

  /// Nothing was begun.
  void refuse(const error& why) { view_.failed(why); }

  /// Of the guest's device, when it was paused: the destination tells the same.
  void device(const std::string& name, std::uint64_t doorbells) {
    if (request_.json) return view_.put(boost::json::object{{"event", "device"}, {"name", name}, {"doorbells", doorbells}});
    own_.rows.emplace_back("device", name + " stopped after " + std::to_string(doorbells) + " doorbells");
  }

  /// Whether the page, if one was asked for, could be written.
  bool finish(const result<migration_summary>& outcome) {
    if (!record_) record_.emplace(subject_);
    if (outcome) {
      view_.summary(*outcome, own_);
      record_->finish(*outcome);
    } else {
      view_.failed(outcome.error());
      record_->fail(outcome.error());
    }
    return request_.report.empty() || write_page();
  }

 private:
  bool write_page() {
    std::ofstream file(request_.report, std::ios::binary | std::ios::trunc);
    file << migration_html(*record_);
    file.close();
    if (!file) log(log_level::error, cannot_write(request_.report).message());
    return !file.fail();
  }

  const migrate_request& request_;
  migration_view view_;
  own_summary own_;
  migration_subject subject_;
  std::optional<migration_record> record_;
};

/// What lives on the loop: the guest and its migration.
class leaving {
 public:
  leaving(ring::uring_loop& loop, kernel::files& kernel, const migrate_request& request, shown_migration& view,
          guest_plan plan, end_signals& signals)
      : loop_(loop), request_(request), view_(view), signals_(signals), vm_(loop, kernel, std::move(plan)) {}

  task<void> run() {
    signals_.listen(loop_, [this] { cancel(); });
    outcome_ = co_await migrate();
    co_await vm_.stop();
    co_await signals_.close();
    loop_.stop();
  }

  const result<migration_summary>& outcome() const noexcept { return outcome_; }

 private:
  task<result<migration_summary>> migrate() {
    const resume_on here{loop_.get_executor()};
    if (auto prepared = co_await vm_.prepare(); !prepared) co_return prepared.error();
    stream_.emplace(vm_.space(), vm_.cpu_sources(), dirty_stream_options{.batch_pages_max = request_.config.batch_pages});
    source_.emplace(
        migration_source::parts{
            .executor = here.where, .space = vm_.space(), .stream = *stream_, .vm = vm_, .devices = devices()},
        request_.to, migration_options_of(request_.config), [this](const migration_progress& now) { view_.progress(now); });
    view_.begin(vm_.space().blocks());
    if (cancelled_) source_->cancel();
    vm_.start();
    auto done = co_await source_->async_run(here);
    if (done) tell_device();
    co_return done;
  }

  void cancel() {
    cancelled_ = true;
    if (source_) source_->cancel();
  }

  void tell_device() {
    if (const auto doorbells = vm_.doorbells_at_pause()) view_.device(vm_.test_device()->name(), *doorbells);
  }

  std::vector<device> devices() const {
    std::vector<device> all;
    if (vm_.test_device()) all.push_back(*vm_.test_device());
    return all;
  }

  ring::uring_loop& loop_;
  const migrate_request& request_;
  shown_migration& view_;
  end_signals& signals_;
  bool cancelled_ = false;
  synthetic_guest vm_;
  std::optional<dirty_stream> stream_;
  std::optional<migration_source> source_;
  result<migration_summary> outcome_ = make_error(operation::migrate, errc::closed);
};

result<migration_summary> migrate(const migrate_request& request, shown_migration& view) {
  end_signals signals;
  auto loop = ring::uring_loop::make();
  if (!loop) return loop.error();
  auto plan = plan_of(request);
  if (!plan) return plan.error();
  const kernel_of kernel(request.config.kernel);
  leaving guest_and_migration(**loop, kernel.files(), request, view, std::move(*plan), signals);
  ring::start(guest_and_migration.run());
  if (auto ran = (*loop)->run(); !ran) return ran.error();
  return guest_and_migration.outcome();
}

}  // namespace

int run_migrate(const migrate_request& request) {
  shown_migration view(request);
  if (const auto writable = check_report(request.report); !writable) {
    view.refuse(writable.error());
    return 1;
  }
  const auto outcome = migrate(request, view);
  const bool told = view.finish(outcome);
  return outcome && told ? 0 : 1;
}

}  // namespace tidemark::cli
