// SPDX-License-Identifier: Apache-2.0
//
// The demo's destination as a process of its own: this program again. It ends when the migration does, or with its parent.
// Threading: one thread; start() before any other thread runs.

#pragma once

#include <sys/types.h>
#include <tidemark/error.hpp>

#include <string>
#include <utility>

#include "cli/demo_destination.hpp"
#include "cli/request.hpp"

namespace tidemark::cli {

class destination_child {
 public:
  /// Returns when it listens.
  static result<destination_child> start(const demo_request& request);

  destination_child(destination_child&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)),
        output_(std::exchange(other.output_, -1)),
        address_(std::move(other.address_)) {}
  destination_child& operator=(destination_child&&) = delete;
  ~destination_child();

  /// HOST:PORT it listens at.
  const std::string& address() const noexcept { return address_; }

  /// Waits for its end.
  result<destination_outcome> wait();

 private:
  destination_child(pid_t pid, int output) noexcept : pid_(pid), output_(output) {}

  pid_t pid_;
  int output_;  // its standard output: one JSON object a line
  std::string address_;
};

}  // namespace tidemark::cli
