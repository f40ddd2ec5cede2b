// SPDX-License-Identifier: Apache-2.0
//
// Where calls that block are made. VFIO's ioctls take no io_uring command and a map can pin for seconds, so each lane has a
// worker beside the loop. Workers come in through constructors: `thread_workers()` gives each its own thread, a simulation
// gives all of them turns on one.

#pragma once

#include <functional>
#include <memory>
#include <string>

namespace tidemark {

/// Runs one job again and again, each time it was woken.
class worker {
 public:
  /// Waits for a run of the job that is under way; it does not run again. Never called from inside the job.
  virtual ~worker() = default;

  /// The job runs at least once after this call began, on the worker's own thread: never inside wake(). Wakes that come
  /// before it starts are one. Any thread, the job's included.
  virtual void wake() noexcept = 0;
};

class workers {
 public:
  virtual ~workers() = default;

  /// `name`: at most 15 characters, shown by ps and strace. Throws std::system_error when the system gives no thread.
  virtual std::unique_ptr<worker> make(const std::string& name, std::function<void()> job) = 0;
};

/// A thread for each worker. Stateless and never destroyed.
workers& thread_workers() noexcept;

}  // namespace tidemark
