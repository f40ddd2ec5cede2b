// SPDX-License-Identifier: Apache-2.0
//
// A histogram of durations: classes that each are 4 % longer than the one before, from 100 ns to some hours.
// Threading: a value.

#pragma once

#include <tidemark/dirty_statistics.hpp>

#include <chrono>
#include <memory>

namespace tidemark::dirty {

class latency {
 public:
  latency();
  latency(latency&&) noexcept;
  latency& operator=(latency&&) noexcept;
  ~latency();

  void add(std::chrono::nanoseconds duration);
  latency_statistics statistics() const;

 private:
  struct classes;
  std::unique_ptr<classes> classes_;
  std::chrono::nanoseconds min_{}, max_{}, sum_{};
  std::uint64_t count_ = 0;
};

}  // namespace tidemark::dirty
