// SPDX-License-Identifier: Apache-2.0
//
// A uring_loop with a thread of its own, such as a connection's beside the embedder's executor.
//
// Threading: made, stopped and destroyed by one thread, never by its own. loop() may be called from any thread; of the loop
// only what uring_loop.hpp allows to any thread (post, stop, its executor) is for others while the thread runs.
//
// Invariants
//  1. The thread runs from make() to stop(), or until the kernel refuses the ring.
//  2. The loop outlives its thread: after stop() nothing runs on it any more, and what belongs to it (streams, channels,
//     frames) may be destroyed by the caller's thread. Then the loop may go.

#pragma once

#include <tidemark/error.hpp>

#include <memory>
#include <string>
#include <thread>

#include "ring/uring_loop.hpp"

namespace tidemark::ring {

class loop_thread {
 public:
  /// Makes the loop and starts its thread, which `ps -L` and `top -H` show by `name`: at most 15 characters.
  static result<std::unique_ptr<loop_thread>> make(const std::string& name);

  loop_thread(const loop_thread&) = delete;
  ~loop_thread() { stop(); }

  uring_loop& loop() noexcept { return *loop_; }

  /// Ends the thread at the end of the loop's turn, and waits for that. What was under way stays so: nobody is resumed.
  void stop() noexcept;

 private:
  explicit loop_thread(std::unique_ptr<uring_loop> loop) noexcept : loop_(std::move(loop)) {}

  std::unique_ptr<uring_loop> loop_;
  std::thread thread_;
};

}  // namespace tidemark::ring
