// SPDX-License-Identifier: Apache-2.0

#include "ring/loop.hpp"

namespace tidemark::ring {

loop::~loop() {
  running here(*this);  // what is destroyed below may still post: that must not wake a loop that is half gone
  shutdown();
  while (auto item = posted_.pop()) item.reset();
  for (auto& [place, entry] : timers_) entry->place_.reset();
}

void loop::post(std::unique_ptr<work> item) noexcept {
  bool was_empty;
  {
    std::lock_guard lock(mutex_);
    was_empty = posted_.empty();
    posted_.push(std::move(item));
  }
  if (was_empty && !in_loop()) wake();
}

bool loop::has_posted() const noexcept {
  std::lock_guard lock(mutex_);
  return !posted_.empty();
}

std::optional<clock::time_point> loop::next_timer() const noexcept {
  if (timers_.empty()) return std::nullopt;
  return timers_.begin()->first.when;
}

bool loop::run_ready() {
  work_queue batch;
  {
    std::lock_guard lock(mutex_);
    std::swap(batch, posted_);
  }
  bool ran = !batch.empty();
  while (auto item = batch.pop()) item->run();

  run_due_timers(ran);
  return ran;
}

void loop::run_due_timers(bool& ran) {
  if (timers_.empty()) return;  // reading the clock is a system call where the kernel does not trust the processor's
  const auto due = now();
  const auto armed_before = armings_;
  auto at = timers_.begin();
  while (at != timers_.end() && at->first.when <= due) {
    const turn place = at->first;
    if (place.number < armed_before) {
      at->second->resume_waiter();  // which may arm, cancel and destroy any timer: look the next one up
      ran = true;
    }
    at = timers_.upper_bound(place);
  }
}

void timer::arm(clock::time_point when, std::coroutine_handle<> waiting) {
  came_ = true;
  waiting_ = waiting;
  place_ = owner_.timers_.emplace(loop::turn{when, owner_.armings_++}, this).first;
}

void timer::disarm() noexcept {
  if (place_) owner_.timers_.erase(*std::exchange(place_, std::nullopt));
}

void timer::resume_waiter() {
  disarm();
  std::exchange(waiting_, nullptr).resume();
}

void timer::cancel() noexcept {
  if (!place_) return;
  came_ = false;
  auto node = owner_.timers_.extract(*place_);
  node.key() = {clock::time_point::min(), owner_.armings_++};  // due at once, in the next turn
  place_ = owner_.timers_.insert(std::move(node)).position;
}

}  // namespace tidemark::ring
