// SPDX-License-Identifier: Apache-2.0
//
// Short verbs for the model's tests: raw requests, raw answers.

#pragma once

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/mman.h>

#include <cstdint>
#include <string>
#include <vector>

#include <tidemark/kernel_model.hpp>

namespace tidemark::test {

inline constexpr std::uint64_t page = 4096;

/// Anonymous memory, page-aligned.
class memory {
 public:
  explicit memory(std::uint64_t bytes)
      : bytes_(bytes), data_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~memory() { ::munmap(data_, bytes_); }
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;

  std::uint64_t address() const noexcept { return reinterpret_cast<std::uint64_t>(data_); }
  void protect(int protection) const noexcept { ::mprotect(data_, bytes_, protection); }

 private:
  std::uint64_t bytes_;
  void* data_;
};

/// A container with these groups and an IOMMU type, its descriptors closed in the end: container first.
class attached {
 public:
  attached(kernel::model& on, const std::vector<unsigned>& numbers, unsigned long type = VFIO_TYPE1v2_IOMMU)
      : kernel(on), container(on, on.open("/dev/vfio/vfio", O_RDWR)) {
    for (const unsigned number : numbers) {
      groups.emplace_back(on, on.open(("/dev/vfio/" + std::to_string(number)).c_str(), O_RDWR));
      attach_answer = join(groups.back());
    }
    type_answer = on.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{type});
  }

  int join(const kernel::handle& group) const {
    int fd = container.get();
    return kernel.ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &fd);
  }
  int map(std::uint64_t iova, std::uint64_t size, std::uint64_t vaddr,
          std::uint32_t flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE) const {
    vfio_iommu_type1_dma_map request{.argsz = sizeof(request), .flags = flags, .vaddr = vaddr, .iova = iova, .size = size};
    return kernel.ioctl(container.get(), VFIO_IOMMU_MAP_DMA, &request);
  }
  /// The bytes unmapped, or a negative errno.
  std::int64_t unmap(std::uint64_t iova, std::uint64_t size, std::uint32_t flags = 0) const {
    vfio_iommu_type1_dma_unmap request{};
    request.argsz = sizeof(request);
    request.flags = flags;
    request.iova = iova;
    request.size = size;
    const int answer = kernel.ioctl(container.get(), VFIO_IOMMU_UNMAP_DMA, &request);
    return answer == 0 ? static_cast<std::int64_t>(request.size) : answer;
  }
  int track(std::uint32_t flag) const {
    vfio_iommu_type1_dirty_bitmap request{};
    request.argsz = sizeof(request);
    request.flags = flag;
    return kernel.ioctl(container.get(), VFIO_IOMMU_DIRTY_PAGES, &request);
  }
  int dirty(std::uint64_t iova, std::uint64_t size, std::vector<std::uint64_t>& words) const {
    struct {
      std::uint32_t argsz, flags;
      vfio_iommu_type1_dirty_bitmap_get range;
    } request{};
    request.argsz = sizeof(request);
    request.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
    request.range.iova = iova;
    request.range.size = size;
    request.range.bitmap.pgsize = page;
    request.range.bitmap.size = words.size() * sizeof(std::uint64_t);
    request.range.bitmap.data = reinterpret_cast<decltype(request.range.bitmap.data)>(words.data());
    return kernel.ioctl(container.get(), VFIO_IOMMU_DIRTY_PAGES, &request);
  }

  kernel::model& kernel;
  kernel::handle container;
  std::vector<kernel::handle> groups;
  int attach_answer = 0;
  int type_answer = 0;
};

}  // namespace tidemark::test
