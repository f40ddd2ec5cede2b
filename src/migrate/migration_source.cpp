// SPDX-License-Identifier: Apache-2.0

#include <tidemark/migration_source.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "migrate/network_target.hpp"
#include "migrate/snapshot_target.hpp"
#include "migrate/socket_network.hpp"
#include "migrate/source.hpp"
#include "ring/loop_thread.hpp"
#include "ring/offload.hpp"

namespace tidemark {

using ring::task;

class migration_source::state : public std::enable_shared_from_this<state> {
 public:
  state(parts with, migration_peer to, migration_options options, progress_call on_progress)
      : with_(std::move(with)), to_(std::move(to)), options_(options), on_progress_(std::move(on_progress)) {}

  const any_io_executor& executor() const noexcept { return with_.executor; }

  task<result<migration_summary>> run() {
    const auto self = shared_from_this();
    if (auto good = check(); !good) co_return good.error();
    if (!with_.devices.empty()) devices_.emplace(with_.devices, with_.executor, with_.threads);
    if (auto made = co_await make_target(); !made) co_return made.error();
    source_.emplace(migrate::source::parts{with_.executor, *clock_, *target_, with_.space, with_.stream, with_.vm,
                                           with_.threads, devices_ ? &*devices_ : nullptr},
                    options_, on_progress_);
    if (held_) source_->hold();
    if (cancelled_) source_->cancel();
    auto done = co_await source_->run();
    source_.reset();
    target_.reset();
    network_.reset();
    thread_.reset();
    co_return done;
  }

  void cancel() noexcept {
    cancelled_ = true;
    if (source_) source_->cancel();
  }
  void hold() noexcept {
    held_ = true;
    if (source_) source_->hold();
  }
  void release() {
    held_ = false;
    if (source_) source_->release();
  }
  void set_bandwidth(std::uint64_t bytes_per_s) noexcept {
    options_.bandwidth_bytes_per_s = bytes_per_s;
    if (source_) source_->set_bandwidth(bytes_per_s);
  }

 private:
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& device : with_.devices) all.push_back(device.name());
    return all;
  }

  task<result<void>> make_target() {
    constexpr std::string_view file_prefix = "file:";
    if (to_.address.starts_with(file_prefix)) co_return make_snapshot(to_.address.substr(file_prefix.size()));
    // Names are resolved and threads made beside the executor.
    auto made = co_await ring::offload(with_.threads, with_.executor, [this] { return migrate::socket_network::make(to_); });
    if (!made) co_return made.error();
    network_ = std::move(*made);
    clock_ = &network_->loop(0);
    target_ = std::make_unique<migrate::network_target>(
        migrate::network_target::parts{with_.executor, *network_, with_.space.blocks(), names(), migrate::session::random(),
                                       options_.pages, options_.recovery_window, with_.threads, hands_over()});
    co_return result<void>{};
  }

  result<void> make_snapshot(std::string path) {
    auto thread = ring::loop_thread::make("tidemark-file");
    if (!thread) return thread.error();
    thread_ = std::move(*thread);
    clock_ = &thread_->loop();
    target_ = std::make_unique<migrate::snapshot_target>(migrate::snapshot_target::parts{
        with_.executor, thread_->loop(), std::move(path), with_.space.blocks(), with_.threads});
    return {};
  }

  bool hands_over() const noexcept { return to_.address.starts_with("fd:"); }

  result<void> check() const {
    if (to_.channels == 0 || to_.channels > migrate::channels_max)
      return kernel_error(
          operation::migrate, EINVAL, {},
          std::to_string(to_.channels) + " channels; allowed: 1 to " + std::to_string(migrate::channels_max));
    for (const auto& block : with_.space.blocks())
      if (hands_over() && block.memory_file < 0)
        return kernel_error(operation::migrate, EINVAL, {},
                            "RAM block " + block.name + " is of no memory file, so it cannot be handed over");
    return {};
  }

  const parts with_;
  const migration_peer to_;
  migration_options options_;
  const progress_call on_progress_;
  bool cancelled_ = false;
  bool held_ = false;
  std::unique_ptr<ring::loop_thread> thread_;
  std::unique_ptr<migrate::socket_network> network_;
  ring::loop* clock_ = nullptr;
  std::optional<migrate::device_states> devices_;
  std::unique_ptr<migrate::target> target_;
  std::optional<migrate::source> source_;
};

migration_source::migration_source(parts with, migration_peer to, migration_options options, progress_call on_progress)
    : state_(std::make_shared<state>(std::move(with), std::move(to), options, std::move(on_progress))) {}
migration_source::~migration_source() = default;

void migration_source::start_run(completion<migration_summary> done) {
  if (auto slot = boost::asio::get_associated_cancellation_slot(done); slot.is_connected())
    slot.assign([state = std::weak_ptr(state_)](boost::asio::cancellation_type) {
      if (const auto alive = state.lock()) alive->cancel();
    });
  ring::spawn(state_->executor(), state_->run(), std::move(done));
}

void migration_source::cancel() noexcept { state_->cancel(); }
void migration_source::hold() noexcept { state_->hold(); }
void migration_source::release() { state_->release(); }
void migration_source::set_bandwidth(std::uint64_t bytes_per_s) noexcept { state_->set_bandwidth(bytes_per_s); }

}  // namespace tidemark
