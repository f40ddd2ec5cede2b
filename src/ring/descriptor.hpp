// SPDX-License-Identifier: Apache-2.0
//
// A file descriptor that is closed when its owner goes. Threading: a value; one thread at a time.

#pragma once

#include <unistd.h>

#include <utility>

namespace tidemark::ring {

class descriptor {
 public:
  descriptor() noexcept = default;
  explicit descriptor(int fd) noexcept : fd_(fd) {}  ///< takes it over; negative: none
  descriptor(descriptor&& other) noexcept : fd_(other.release()) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }

  explicit operator bool() const noexcept { return fd_ >= 0; }
  int get() const noexcept { return fd_; }
  /// Gives it away: it is the caller's to close.
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

}  // namespace tidemark::ring
