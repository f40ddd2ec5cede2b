// SPDX-License-Identifier: Apache-2.0
//
// A kernel that counts the maps and unmaps asked of another one, for benchmarks: what an engine merges shows here and
// nowhere else. Any thread.

#pragma once

#include <linux/vfio.h>
#include <tidemark/kernel.hpp>

#include <atomic>
#include <cstdint>

namespace tidemark::cli {

class counting_kernel final : public kernel::files {
 public:
  explicit counting_kernel(kernel::files& counted) noexcept : counted_(counted) {}

  /// VFIO_IOMMU_MAP_DMA and VFIO_IOMMU_UNMAP_DMA so far, whatever was answered.
  std::uint64_t map_ioctls() const noexcept { return maps_.load(std::memory_order_relaxed); }

  using kernel::files::ioctl;
  int open(const char* path, int flags) noexcept override { return counted_.open(path, flags); }
  int close(int fd) noexcept override { return counted_.close(fd); }
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    if (request == VFIO_IOMMU_MAP_DMA || request == VFIO_IOMMU_UNMAP_DMA) maps_.fetch_add(1, std::memory_order_relaxed);
    return counted_.ioctl(fd, request, argument);
  }
  ssize_t read(int fd, void* buffer, std::size_t bytes) noexcept override { return counted_.read(fd, buffer, bytes); }
  ssize_t write(int fd, const void* buffer, std::size_t bytes) noexcept override {
    return counted_.write(fd, buffer, bytes);
  }
  ssize_t pread(int fd, void* buffer, std::size_t bytes, std::uint64_t offset) noexcept override {
    return counted_.pread(fd, buffer, bytes, offset);
  }
  ssize_t pwrite(int fd, const void* buffer, std::size_t bytes, std::uint64_t offset) noexcept override {
    return counted_.pwrite(fd, buffer, bytes, offset);
  }
  ssize_t readlink(const char* path, char* target, std::size_t bytes) noexcept override {
    return counted_.readlink(path, target, bytes);
  }

 private:
  kernel::files& counted_;
  std::atomic<std::uint64_t> maps_{0};
};

}  // namespace tidemark::cli
