// SPDX-License-Identifier: Apache-2.0

#include "cli/dirtier.hpp"

#include <pthread.h>
#include <tidemark/address_space.hpp>

#include <algorithm>
#include <chrono>
#include <utility>

namespace tidemark::cli {

namespace {

constexpr std::chrono::milliseconds tick{1};
/// A tick that comes late is made up for, but not without end: after a stall the rate matters more than the sum.
constexpr double owed_ticks_max = 50;

}  // namespace

dirtier::dirtier(const std::string& name, std::uint64_t bytes_per_s, dirty_call dirty)
    : bytes_per_s_(bytes_per_s), dirty_(std::move(dirty)), thread_([this] { serve(); }) {
  pthread_setname_np(thread_.native_handle(), name.c_str());
}

dirtier::~dirtier() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void dirtier::pause(std::function<void()> paused) {
  {
    std::lock_guard lock(mutex_);
    paused_call_ = std::move(paused);
  }
  changed_.notify_one();
}

void dirtier::resume() {
  {
    std::lock_guard lock(mutex_);
    running_ = true;
    since_ = std::chrono::steady_clock::now();
    owed_pages_ = 0;
  }
  changed_.notify_one();
}

void dirtier::serve() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    if (paused_call_) {
      running_ = false;
      std::exchange(paused_call_, nullptr)();
    }
    if (!running_) {
      changed_.wait(lock, [this] { return running_ || paused_call_ || ending_; });
      continue;
    }
    lock.unlock();
    dirty_what_is_due();
    lock.lock();
    changed_.wait_for(lock, tick, [this] { return paused_call_ || ending_; });
  }
}

void dirtier::dirty_what_is_due() {
  const auto now = std::chrono::steady_clock::now();
  const double rate_pages = static_cast<double>(bytes_per_s_) / static_cast<double>(page_bytes);
  const double tick_pages = rate_pages * std::chrono::duration<double>(tick).count();
  owed_pages_ = std::min(owed_pages_ + rate_pages * std::chrono::duration<double>(now - since_).count(),
                         1 + owed_ticks_max * tick_pages);
  since_ = now;
  const auto due = static_cast<std::uint64_t>(owed_pages_);
  if (due == 0) return;
  owed_pages_ -= static_cast<double>(due);
  pages_ += dirty_(due);
}

}  // namespace tidemark::cli
