// SPDX-License-Identifier: Apache-2.0
//
// A kernel on top of another that keeps books of what went through it.
//
// Threading: one thread.

#pragma once

#include <linux/vfio.h>
#include <tidemark/kernel.hpp>

#include <functional>
#include <optional>
#include <set>

#include "kernel/passing.hpp"
#include "simulation/world.hpp"
#include "support/dirty_pages.hpp"

namespace tidemark::simulation {

/// Knows which containers and devices track dirty pages, and notes every call in the trace. `fault` may answer an ioctl in
/// the kernel's place, with a negative errno.
class watched_kernel final : public kernel::passing {
 public:
  watched_kernel(kernel::files& below, chance& luck) : passing(below), luck_(luck) {}

  std::function<std::optional<int>(unsigned long request, std::uintptr_t argument)> fault;

  std::size_t tracking_files() const noexcept { return tracking_.size(); }

  int close(int fd) noexcept override {
    tracking_.erase(fd);
    return passing::close(fd);
  }

  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    const auto failed = fault ? fault(request, argument) : std::nullopt;
    const int answer = failed ? *failed : passing::ioctl(fd, request, argument);
    luck_.note(request);
    luck_.note(static_cast<std::uint64_t>(answer));
    if (answer == 0) note_tracking(fd, tests::dirty_pages_flags(request, argument));
    if (answer == 0) note_logging(fd, tests::feature_set(request, argument));
    return answer;
  }

  ssize_t write(int fd, const void* buffer, std::size_t bytes) noexcept override {
    const auto answer = passing::write(fd, buffer, bytes);
    luck_.note(static_cast<std::uint64_t>(answer));
    return answer;
  }

 private:
  void note_tracking(int fd, std::uint32_t flags) {
    if (flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_START) tracking_.insert(fd);
    if (flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP) tracking_.erase(fd);
  }

  void note_logging(int fd, std::uint32_t feature) {
    if (feature == VFIO_DEVICE_FEATURE_DMA_LOGGING_START) tracking_.insert(fd);
    if (feature == VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP) tracking_.erase(fd);
  }

  chance& luck_;
  std::set<int> tracking_;
};

}  // namespace tidemark::simulation
