// SPDX-License-Identifier: Apache-2.0
//
// A thread that dirties pages at a set rate: the demo's CPU, or what makes its device write.
//
// Threading: pause(), resume() and the destructor from one thread; `dirty` is called on the dirtier's own. Starts paused.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace tidemark::cli {

class dirtier {
 public:
  /// `dirty(n)` dirties n pages, and gives how many it really dirtied.
  using dirty_call = std::function<std::uint64_t(std::uint64_t pages)>;

  dirtier(const std::string& name, std::uint64_t bytes_per_s, dirty_call dirty);
  ~dirtier();

  /// No page is dirtied between the call of `paused` (on the dirtier's thread) and resume().
  void pause(std::function<void()> paused);
  void resume();

  /// So far. Any thread.
  std::uint64_t pages() const noexcept { return pages_; }

 private:
  void serve();
  void dirty_what_is_due();

  const std::uint64_t bytes_per_s_;
  const dirty_call dirty_;
  std::atomic<std::uint64_t> pages_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> paused_call_;
  bool running_ = false;
  bool ending_ = false;

  std::chrono::steady_clock::time_point since_;
  double owed_pages_ = 0;
  std::thread thread_;  // last: it uses the others
};

}  // namespace tidemark::cli
