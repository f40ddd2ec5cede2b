// SPDX-License-Identifier: Apache-2.0
//
// A kernel with a rule that answers some ioctls in its place. (kernel::faulty fails the n-th call, or calls at random.)
//
// Threading: as the kernel behind it, as long as the rule is not changed meanwhile.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "kernel/passing.hpp"

namespace tidemark::tests {

class ruled_kernel final : public kernel::passing {
 public:
  /// What to answer to an ioctl instead of asking the kernel; nothing: ask it.
  using rule = std::function<std::optional<int>(unsigned long request, std::uintptr_t argument)>;

  explicit ruled_kernel(kernel::files& behind) : passing(behind) {}

  void set_rule(rule answer) { rule_ = std::move(answer); }
  std::uint64_t ioctls() const noexcept { return ioctls_; }

  using files::ioctl;
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    ++ioctls_;
    if (rule_)
      if (const auto answer = rule_(request, argument)) return *answer;
    return passing::ioctl(fd, request, argument);
  }

 private:
  std::atomic<std::uint64_t> ioctls_{0};
  rule rule_;
};

/// A rule: each of these requests fails with this errno.
inline ruled_kernel::rule refuses(unsigned long what, int errno_value) {
  return [=](unsigned long request, std::uintptr_t) { return request == what ? std::optional(-errno_value) : std::nullopt; };
}

}  // namespace tidemark::tests
