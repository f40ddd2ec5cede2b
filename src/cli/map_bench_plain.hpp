// SPDX-License-Identifier: Apache-2.0
//
// What the engine is measured against: a container of its own, and a loop of the same ioctls that waits for each of them.
// Threading: blocks; one thread.
//
// Kernel interface: <linux/vfio.h>, type1.

#pragma once

#include <tidemark/error.hpp>

#include <cstddef>
#include <memory>

#include "backend/sysfs.hpp"
#include "cli/counting_kernel.hpp"
#include "cli/map_bench_report.hpp"

namespace tidemark::cli {

class plain_side {
 public:
  /// The group of the device in a container, and the device opened, as the engine has them.
  static result<std::unique_ptr<plain_side>> open(counting_kernel& kernel, const backend::device_place& device);

  plain_side(const plain_side&) = delete;
  ~plain_side();

  /// 0 or a negative errno.
  int map(iova_range at, std::byte* host) noexcept;
  int unmap(iova_range at) noexcept;

  /// `memory` is what bench_iova shows.
  result<measured> play(const script& what, std::byte* memory);

 private:
  explicit plain_side(counting_kernel& kernel) noexcept : kernel_(kernel) {}
  int join(const backend::device_place& device);
  int set_iommu() noexcept;
  result<void> play(const phase& what, std::byte* memory, measured& into);

  counting_kernel& kernel_;
  kernel::handle container_;
  kernel::handle group_;
  kernel::handle device_;
};

}  // namespace tidemark::cli
