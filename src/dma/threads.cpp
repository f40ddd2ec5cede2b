// SPDX-License-Identifier: Apache-2.0

#include <pthread.h>
#include <tidemark/threads.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace tidemark {

namespace {

class thread_worker final : public worker {
 public:
  thread_worker(const std::string& name, std::function<void()> job) : job_(std::move(job)), thread_([this] { serve(); }) {
    pthread_setname_np(thread_.native_handle(), name.substr(0, 15).c_str());
  }

  ~thread_worker() override {
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  void wake() noexcept override {
    if (woken_.exchange(true)) return;
    if (looking_) return;  // it sees it, or sleeps behind the lock below with its eyes open
    { std::lock_guard lock(mutex_); }
    changed_.notify_one();
  }

 private:
  void serve() {
    for (;;) {
      look_for_a_while();
      {
        std::unique_lock lock(mutex_);
        looking_ = false;
        changed_.wait(lock, [this] { return woken_ || ending_; });
        if (ending_) return;
        woken_ = false;
      }
      job_();
      looking_ = true;
    }
  }

  /// More work comes soon, more often than not, and sleeping costs both sides more than looking for so long.
  void look_for_a_while() const noexcept {
    if (!looking_) return;
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
    while (!woken_ && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  }

  std::function<void()> job_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> woken_ = false;
  std::atomic<bool> looking_ = false;  // awake, and about to look at woken_ once more
  bool ending_ = false;
  std::thread thread_;  // last: it uses the others
};

class threads final : public workers {
 public:
  std::unique_ptr<worker> make(const std::string& name, std::function<void()> job) override {
    return std::make_unique<thread_worker>(name, std::move(job));
  }
};

}  // namespace

workers& thread_workers() noexcept {
  static threads instance;
  return instance;
}

}  // namespace tidemark
