// SPDX-License-Identifier: Apache-2.0
//
// Workers without threads: a job runs when the test says so, and wakes are counted.
// Threading: one thread. The object outlives the workers it made.

#pragma once

#include <tidemark/threads.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tidemark::tests {

class hand_workers final : public workers {
 public:
  std::unique_ptr<worker> make(const std::string&, std::function<void()> job) override {
    return std::make_unique<hand_worker>(*this, std::move(job));
  }

  /// Runs the job of each worker that was woken, once. True if there was one.
  bool run() {
    bool ran = false;
    for (auto* each : std::vector(all_)) ran = run(*each) || ran;
    return ran;
  }

  /// Runs only the worker made as the n-th of those that live, from 0.
  bool run_only(std::size_t n) { return run(*all_.at(n)); }

  /// Workers that live now.
  std::size_t count() const noexcept { return all_.size(); }

  std::size_t wakes() const noexcept { return wakes_; }

 private:
  class hand_worker final : public worker {
   public:
    hand_worker(hand_workers& owner, std::function<void()> job) : owner_(owner), job_(std::move(job)) {
      owner_.all_.push_back(this);
    }
    ~hand_worker() override { std::erase(owner_.all_, this); }
    void wake() noexcept override {
      ++owner_.wakes_;
      woken_ = true;
    }

   private:
    friend class hand_workers;
    hand_workers& owner_;
    std::function<void()> job_;
    bool woken_ = false;
  };

  bool run(hand_worker& which) {
    if (std::find(all_.begin(), all_.end(), &which) == all_.end() || !std::exchange(which.woken_, false)) return false;
    which.job_();
    return true;
  }

  std::vector<hand_worker*> all_;
  std::size_t wakes_ = 0;
};

}  // namespace tidemark::tests
