// SPDX-License-Identifier: Apache-2.0

#include "cli/migration_rounds.hpp"

#include <algorithm>
#include <utility>

namespace tidemark::cli {

std::uint64_t migration_round::sent_bytes_per_s() const noexcept {
  const double s = std::chrono::duration<double>(time()).count();
  return s <= 0 ? 0 : static_cast<std::uint64_t>(static_cast<double>(sent_bytes) / s);
}

std::string name_of(const migration_round& round) {
  return round.stop_and_copy ? "stop-and-copy" : "round " + std::to_string(round.number);
}

bool is_paused(migration_phase phase) noexcept {
  return phase == migration_phase::stop_and_copy || phase == migration_phase::handed_over;
}

/// A connection that is made anew says nothing about the guest: it stands where it stood.
bool migration_rounds::stands_still(const migration_progress& now) const noexcept {
  if (is_paused(now.phase)) return true;
  return now.phase != migration_phase::pre_copy && round_ && round_->stop_and_copy;
}

bool migration_rounds::is_turn(const migration_progress& now) const noexcept {
  const bool still = stands_still(now);
  if (!round_) return still || now.round != 0;
  return still != round_->stop_and_copy || (!still && now.round != round_->number);
}

std::optional<migration_round> migration_rounds::add(const migration_progress& now) {
  std::optional<migration_round> ended;
  if (is_turn(now)) ended = turn(now);
  last_sent_bytes_ = now.sent_bytes;
  if (!round_) return ended;
  round_->ended = std::max(now.elapsed, round_->began);
  round_->sent_bytes = now.sent_bytes - std::min(now.sent_bytes, began_sent_bytes_);
  round_->left_bytes = now.remaining_bytes;
  // What was dirtied last is known a while after the guest stands still.
  round_->dirty_bytes = std::max(round_->dirty_bytes, round_->sent_bytes + now.remaining_bytes);
  return ended;
}

std::optional<migration_round> migration_rounds::turn(const migration_progress& now) {
  auto ended = std::exchange(round_, migration_round{});
  round_->number = now.round;
  round_->stop_and_copy = stands_still(now);
  round_->began = now.elapsed;
  began_sent_bytes_ = last_sent_bytes_;
  if (!ended) return ended;
  ended->ended = std::max(now.elapsed, ended->began);
  if (now.dirty_bytes_per_s != 0 || !round_->stop_and_copy) ended->dirtied_bytes_per_s = now.dirty_bytes_per_s;
  if (ended->sent_bytes == 0 && !ended->stop_and_copy) return std::nullopt;
  return ended;
}

std::optional<migration_round> migration_rounds::close(std::chrono::nanoseconds at) {
  if (round_) round_->ended = std::max(at, round_->ended);
  return std::exchange(round_, std::nullopt);
}

}  // namespace tidemark::cli
