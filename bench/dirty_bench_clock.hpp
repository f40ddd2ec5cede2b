// SPDX-License-Identifier: Apache-2.0
//
// Times that are worth comparing: of works in turn (A, B, A, B), by one clock, each behind a walk over memory that is no
// part of them, so that none finds in the processor's caches what the one before it left there.
//
// Threading: one thread.

#pragma once

#include <time.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tidemark::bench {

/// Keeps the compiler from leaving out what made `value`.
template <class T>
void use(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// CLOCK_THREAD_CPUTIME_ID: what this thread had of its processor, as the machine may be shared. CLOCK_MONOTONIC where
/// several threads take part.
inline double seconds_by(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

template <class Work>
double seconds_of(Work& work, clockid_t clock = CLOCK_THREAD_CPUTIME_ID) {
  const auto start = seconds_by(clock);
  work();
  return seconds_by(clock) - start;
}

/// Memory that is walked over to empty the caches.
class evictor {
 public:
  explicit evictor(std::size_t bytes) : memory_(bytes / sizeof(std::uint64_t), 1) {}
  void operator()() const {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < memory_.size(); i += 8) sum += memory_[i];
    use(sum);
  }

 private:
  std::vector<std::uint64_t> memory_;
};

/// How long, and how often.
struct rounds {
  std::size_t at_least = 3;
  std::size_t at_most = 15;
  double seconds = 0.4;  ///< no more of them after so long
};

/// Medians in seconds, and of how many times as long each of the others took as the first: by turn, then the middle.
template <std::size_t Count>
struct times {
  std::array<double, Count> seconds{};
  std::array<double, Count> vs{};
};

template <class... Works>
times<sizeof...(Works)> in_turn(const rounds& how_often, const evictor& evict, Works&... works) {
  constexpr auto count = sizeof...(Works);
  std::array<std::vector<double>, count> seconds;
  std::array<std::vector<double>, count> vs;
  const auto end = seconds_by(CLOCK_MONOTONIC) + how_often.seconds;
  const auto one = [&](auto& work) {
    evict();
    return seconds_of(work);
  };
  for (std::size_t i = 0; i < how_often.at_most; ++i) {
    if (i >= how_often.at_least && seconds_by(CLOCK_MONOTONIC) > end) break;
    const std::array<double, count> turn{one(works)...};
    for (std::size_t which = 0; which < count; ++which) {
      seconds[which].push_back(turn[which]);
      vs[which].push_back(turn[which] / turn[0]);
    }
  }
  times<count> middle;
  for (std::size_t which = 0; which < count; ++which) {
    middle.seconds[which] = median(seconds[which]);
    middle.vs[which] = median(vs[which]);
  }
  return middle;
}

}  // namespace tidemark::bench
