// SPDX-License-Identifier: Apache-2.0
//
// Many tasks of one kind, so many under way at a time: a lane's queue is bounded, and what is over it would be refused.
//
// Threading: one executor.

#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "ring/task.hpp"

namespace tidemark::dma {

/// Awaits make(i), a task<void>, for every i below `count`; `at_once` are started, in order, before any of them is awaited.
template <class Make>
ring::task<void> in_slices(std::size_t count, std::size_t at_once, Make make) {
  for (std::size_t done = 0; done < count; done += at_once) {
    const auto end = std::min(count, done + at_once);
    ring::latch left(end - done);
    for (auto i = done; i < end; ++i)
      ring::start([](ring::task<void> one, ring::latch& counted) -> ring::task<> {
        co_await std::move(one);
        counted.count_down();
      }(make(i), left));
    co_await left;
  }
}

}  // namespace tidemark::dma
