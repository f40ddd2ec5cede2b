// SPDX-License-Identifier: Apache-2.0

#include "cli/migration_record.hpp"

#include <algorithm>
#include <utility>

namespace tidemark::cli {

migration_record::migration_record(migration_subject what, std::size_t samples_most)
    : what_(std::move(what)), samples_(samples_most) {}

void migration_record::add(const migration_progress& now) {
  samples_.add(now.elapsed, now);
  if (const auto ended = turns_.add(now)) rounds_.add(ended->began, *ended);
  note_phase(now);
  if (now.recoveries > last_.recoveries) recoveries_.add(now.elapsed, now.elapsed);
  throttle_most_percent_ = std::max(throttle_most_percent_, now.throttle_percent);
  last_ = now;
}

void migration_record::note_phase(const migration_progress& now) {
  if (phase_) phase_->ended = std::max(phase_->began, now.elapsed);
  if (phase_ && phase_->phase == now.phase) return;
  if (phase_) phases_.add(phase_->began, *phase_);
  phase_ = phase_span{now.phase, now.elapsed, now.elapsed};
}

void migration_record::finish(const migration_summary& done) {
  summary_ = done;
  close();
}

void migration_record::fail(const error& failure) {
  failure_ = failure;
  close();
}

void migration_record::close() {
  if (const auto ended = turns_.close(end())) rounds_.add(ended->began, *ended);
  if (!phase_) return;
  phase_->ended = end();
  phases_.add(phase_->began, *phase_);
  phase_.reset();
}

std::chrono::nanoseconds migration_record::end() const noexcept {
  return summary_ ? std::max(last_.elapsed, summary_->total) : last_.elapsed;
}

std::uint64_t migration_record::total_bytes() const noexcept {
  if (summary_ && summary_->total_bytes != 0) return summary_->total_bytes;
  if (last_.total_bytes != 0) return last_.total_bytes;
  std::uint64_t bytes = 0;
  for (const auto& block : what_.blocks) bytes += block.size;
  return bytes;
}

}  // namespace tidemark::cli
