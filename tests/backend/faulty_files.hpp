// SPDX-License-Identifier: Apache-2.0
//
// A kernel that fails when it is told to, and otherwise is the one behind it. Closing never fails.
//
// Threading: as the kernel behind it, as long as the rules below are not changed meanwhile.

#pragma once

#include <linux/vfio.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "support/passing_kernel.hpp"

namespace tidemark::tests {

class faulty_files final : public passing_kernel {
 public:
  /// What to answer to an ioctl instead of asking the kernel; nothing: ask it.
  using rule = std::function<std::optional<int>(unsigned long request, std::uintptr_t argument)>;

  explicit faulty_files(kernel::files& behind) : passing_kernel(behind) {}

  /// The n-th open or ioctl from now on, counted from 1, fails with this errno and does nothing.
  void fail_call(std::uint64_t n, int errno_value) noexcept {
    countdown_ = n;
    errno_ = errno_value;
  }
  /// Whether the call that was to fail has come.
  bool failed() const noexcept { return countdown_ == 0; }

  void set_rule(rule answer) { rule_ = std::move(answer); }
  std::uint64_t ioctls() const noexcept { return ioctls_; }

  using files::ioctl;
  int open(const char* path, int flags) noexcept override { return fails() ? -errno_ : passing_kernel::open(path, flags); }
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    ++ioctls_;
    if (fails()) return -errno_;
    if (rule_)
      if (const auto answer = rule_(request, argument)) return *answer;
    return passing_kernel::ioctl(fd, request, argument);
  }

 private:
  bool fails() noexcept { return countdown_ != 0 && --countdown_ == 0; }

  std::atomic<std::uint64_t> countdown_{0};
  int errno_ = 0;
  std::atomic<std::uint64_t> ioctls_{0};
  rule rule_;
};

/// A rule: each of these requests fails with this errno.
inline faulty_files::rule refuses(unsigned long what, int errno_value) {
  return [=](unsigned long request, std::uintptr_t) { return request == what ? std::optional(-errno_value) : std::nullopt; };
}

}  // namespace tidemark::tests
