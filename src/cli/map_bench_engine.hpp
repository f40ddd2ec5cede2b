// SPDX-License-Identifier: Apache-2.0
//
// The engine as a benchmark uses it: a container, and clients that ask it from the loop, with completion handlers bound to
// it. Threading: the loop's thread.

#pragma once

#include <tidemark/container.hpp>

#include <cstddef>

#include "backend/sysfs.hpp"
#include "cli/counting_kernel.hpp"
#include "cli/map_bench_report.hpp"
#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {

class engine_side {
 public:
  engine_side(ring::uring_loop& loop, counting_kernel& kernel, backend::device_place device);

  /// The group of the device in the container, and the device opened.
  ring::task<result<void>> open();
  ring::task<result<void>> close();

  /// `memory` is what bench_iova shows.
  ring::task<result<measured>> play(const script& what, std::byte* memory);

  container& space() noexcept { return space_; }

 private:
  any_io_executor here_;
  counting_kernel& kernel_;
  backend::device_place place_;
  container space_;
  std::optional<device> device_;
};

}  // namespace tidemark::cli
