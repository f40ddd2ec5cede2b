// SPDX-License-Identifier: Apache-2.0

#include "migrate/device_states.hpp"

#include <utility>

#include "ring/offload.hpp"

namespace tidemark::migrate {

using backend::device_state;
using ring::task;

namespace {

constexpr auto changing = operation::change_device_state;

bool has_file(device_state state) noexcept {
  return state == device_state::pre_copy || state == device_state::pre_copy_p2p || state == device_state::stop_copy ||
         state == device_state::resuming;
}

bool is_pre_copying(device_state state) noexcept {
  return state == device_state::pre_copy || state == device_state::pre_copy_p2p;
}

bool is_stopped(device_state state) noexcept { return state == device_state::stop || state == device_state::stop_copy; }

/// The first, with what else failed.
void join(std::optional<error>& all, const error& more) {
  if (all) {
    all->detail += "; and " + more.message();
  } else {
    all = more;
  }
}

result<void> outcome_of(std::optional<error> failure) {
  if (failure) return std::move(*failure);
  return {};
}

}  // namespace

// --- who goes where ---

auto device_states::to_pre_copy(const member& of) -> std::optional<way> {
  if (!of.has_pre_copy() || of.state != device_state::running) return std::nullopt;
  return way{device_state::pre_copy, device_state::running};
}

auto device_states::to_p2p(const member& of) -> std::optional<way> {
  if (!of.has_p2p()) return std::nullopt;
  if (of.state == device_state::running) return way{device_state::running_p2p, device_state::running};
  if (of.state == device_state::pre_copy) return way{device_state::pre_copy_p2p, device_state::pre_copy};
  return std::nullopt;
}

auto device_states::to_stop_copy(const member& of) -> std::optional<way> {
  if (of.state == device_state::stop_copy) return std::nullopt;
  return way{device_state::stop_copy, device_state::stop};  // it stays still until resume() has all of them answer
}

auto device_states::without_p2p_to_stop_copy(const member& of) -> std::optional<way> {
  return of.has_p2p() ? std::nullopt : to_stop_copy(of);
}

// From here on the only other choice is a reset, so a way that fails is tried twice.

auto device_states::back_to_p2p(const member& of) -> std::optional<way> {
  if (!of.has_p2p() || !(is_stopped(of.state) || of.state == device_state::pre_copy_p2p)) return std::nullopt;
  return way{device_state::running_p2p, device_state::running_p2p};
}

auto device_states::to_running(const member& of) -> std::optional<way> {
  if (of.state == device_state::running) return std::nullopt;
  return way{device_state::running, device_state::running};
}

auto device_states::without_p2p_to_running(const member& of) -> std::optional<way> {
  return of.has_p2p() ? std::nullopt : to_running(of);
}

auto device_states::to_resuming(const member&) -> std::optional<way> {
  return way{device_state::resuming, device_state::running};
}

auto device_states::from_resuming(const member& of) -> std::optional<way> {
  if (of.state != device_state::resuming) return std::nullopt;
  return way{device_state::stop, device_state::resuming};
}

auto device_states::to_reset(const member& of) -> std::optional<way> {
  if (of.state == device_state::running) return std::nullopt;
  return way{device_state::running, device_state::running, true};
}

// --- going there ---

device_states::device_states(const std::vector<device>& devices, boost::asio::any_io_executor executor, workers& threads)
    : executor_(std::move(executor)), threads_(threads) {
  devices_.reserve(devices.size());
  for (const auto& each : devices) devices_.push_back({each, device_state::running, std::make_shared<data_slot>()});
}

device_states::~device_states() {
  for (const auto& each : devices_) each.data->close();
}

state_file device_states::file(std::size_t index, state_place where) const {
  const auto& of = devices_.at(index);
  return {of.of.kernel(), of.of.name(), of.data, std::move(where)};
}

/// On a worker: all that may block.
backend::state_change device_states::change(const member& of, way where) {
  backend::state_change changed;
  if (where.reset) {
    const auto done = backend::reset_device(of.of);
    changed.now = done ? device_state::running : device_state::error;
    if (!done) changed.failure = make_error(changing, errc::device_lost, {}, done.error().message());
  } else {
    changed = backend::change_state(of.of, where.to, where.recover);
  }
  if (changed.data) {
    of.data->open(std::move(changed.data));
  } else if (!has_file(changed.now)) {
    of.data->close();
  }
  return changed;
}

task<> device_states::move_one(step& one, ring::latch& done) {
  auto changed = co_await ring::offload(threads_, executor_, [&one] { return change(one.who, one.where); });
  one.who.state = changed.now;
  one.failure = std::move(changed.failure);
  done.count_down();
}

/// All those chosen, at once. Fails when one does, after all have come to an end.
task<result<void>> device_states::move_all(choice which) {
  std::vector<step> steps;
  for (auto& each : devices_) {
    if (each.state == device_state::error) continue;
    if (const auto where = which(each)) steps.push_back({each, *where, {}});
  }
  ring::latch done(steps.size());
  for (auto& one : steps) ring::start(move_one(one, done));
  co_await done;
  std::optional<error> failure;
  for (const auto& one : steps)
    if (one.failure) join(failure, *one.failure);
  co_return outcome_of(std::move(failure));
}

/// All that are not lost run, however many fail on the way.
task<result<void>> device_states::run_all() {
  std::optional<error> failure;
  for (const choice which : {back_to_p2p, without_p2p_to_running, to_running}) {
    const auto moved = co_await move_all(which);
    if (!moved) join(failure, moved.error());
  }
  co_return outcome_of(std::move(failure));
}

// --- the calls ---

result<void> device_states::check() const {
  for (const auto& each : devices_) {
    const auto& name = each.of.name();
    if (!each.of.is_open()) return make_error(changing, errc::closed, {}, name + ": it was detached");
    if (each.state == device_state::error)
      return make_error(changing, errc::device_lost, {}, name + ": detach it before migrating");
    if (!each.of.info().migration.stop_copy)
      return make_error(changing, errc::not_migratable, {},
                        name + ": its driver cannot save and restore its state: detach it before migrating");
  }
  return {};
}

task<result<void>> device_states::start_pre_copy() {
  if (auto able = check(); !able) co_return able;
  co_return co_await move_all(to_pre_copy);
}

task<result<devices_left>> device_states::pre_copy_left() {
  auto left = co_await ring::offload(threads_, executor_, [this] { return ask_left(); });
  co_return left;
}

result<devices_left> device_states::ask_left() const {
  devices_left all;
  for (const auto& each : devices_) {
    device_left one{each.of.name(), 0, 0, std::nullopt};
    const auto file = each.data->get();
    if (file && is_pre_copying(each.state)) {
      const auto told = backend::pre_copy_left(each.of, file->get());
      if (!told) return told.error();
      one.initial_bytes = told->initial_bytes;
      one.dirty_bytes = told->dirty_bytes;
    }
    one.stop_copy_bytes = backend::stop_copy_bytes(each.of);
    all.pre_copy_bytes += one.initial_bytes + one.dirty_bytes;
    all.stop_copy_bytes += one.stop_copy_bytes.value_or(0);
    all.stop_copy_known = all.stop_copy_known && one.stop_copy_bytes.has_value();
    all.devices.push_back(std::move(one));
  }
  return all;
}

task<result<void>> device_states::stop() {
  if (auto able = check(); !able) co_return able;
  for (const choice which : {to_p2p, without_p2p_to_stop_copy, to_stop_copy}) {
    auto moved = co_await move_all(which);
    if (!moved) co_return moved;
  }
  co_return result<void>{};
}

task<result<void>> device_states::resume() { return run_all(); }

task<result<void>> device_states::start_resuming() {
  if (auto able = check(); !able) co_return able;
  co_return co_await move_all(to_resuming);
}

task<result<void>> device_states::load() { return move_all(from_resuming); }

task<result<void>> device_states::finish() {
  if (auto loaded = co_await load(); !loaded) co_return loaded;
  co_return co_await run_all();
}

task<result<void>> device_states::give_up() { return move_all(to_reset); }

}  // namespace tidemark::migrate
