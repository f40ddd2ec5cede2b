// SPDX-License-Identifier: Apache-2.0
//
// What the engine itself costs, on a kernel that does nothing: the time of a request, with few and with many mappings held,
// and the memory of each mapping held. Threading: the loop's thread.

#pragma once

#include <tidemark/container.hpp>

#include <cstddef>
#include <cstdint>

#include "cli/map_bench_report.hpp"
#include "cli/null_kernel.hpp"
#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {

inline constexpr std::uint64_t few_held = 1000;

/// A container on a kernel that does nothing, with mappings of one page held, between which there is room for one more.
class null_side {
 public:
  explicit null_side(ring::uring_loop& loop);

  /// Connects, and maps `count` pages that stay.
  ring::task<result<void>> hold(std::uint64_t count);

  /// Maps `size` further pages at once, at places that look random, awaits them, and unmaps them likewise. At most few_held.
  ring::task<result<void>> batch(std::size_t size);

 private:
  static mapping page(std::uint64_t number);
  std::uint64_t next_gap() noexcept;
  ring::task<result<void>> map_all(const std::vector<std::uint64_t>& pages);
  ring::task<result<void>> unmap_all(const std::vector<std::uint64_t>& pages);

  any_io_executor here_;
  null_kernel kernel_;
  container space_;
  std::uint64_t held_ = 0;
  std::uint64_t gaps_ = 0;
  std::vector<std::uint64_t> pages_;
};

/// The plain loop of what batch() asks for.
void null_batch_plainly(kernel::files& kernel, std::size_t size) noexcept;

ring::task<result<planner_report>> measure_planner(ring::uring_loop& loop, std::uint64_t many);

}  // namespace tidemark::cli
