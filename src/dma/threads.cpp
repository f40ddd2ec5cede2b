// SPDX-License-Identifier: Apache-2.0

#include <pthread.h>
#include <tidemark/threads.hpp>

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
    {
      std::lock_guard lock(mutex_);
      if (std::exchange(woken_, true)) return;
    }
    changed_.notify_one();
  }

 private:
  void serve() {
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return woken_ || ending_; });
        if (ending_) return;
        woken_ = false;
      }
      job_();
    }
  }

  std::function<void()> job_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
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
