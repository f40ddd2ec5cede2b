// SPDX-License-Identifier: Apache-2.0
//
// What a container of the model holds between VFIO_SET_IOMMU and the leaving of its last group: an IOMMU driver. There are
// three, as in Linux: type1, sPAPR TCE, and the one of noiommu groups, which maps nothing.
//
// Threading: the model's mutex is held around every call.

#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <tidemark/kernel_model.hpp>

namespace tidemark::kernel::modelled {

/// What all containers of a model have pinned together, against the process's limit on locked memory.
struct locked_memory {
  std::uint64_t limit_pages = 0;
  std::uint64_t pages = 0;

  std::uint64_t room() const noexcept { return limit_pages - pages; }

  /// Counts pages as locked, all or none. 0 or -ENOMEM.
  int account(std::uint64_t more) noexcept {
    if (more > room()) return -ENOMEM;
    pages += more;
    return 0;
  }
};

class iommu {
 public:
  iommu() = default;
  virtual ~iommu() = default;
  iommu(const iommu&) = delete;
  iommu& operator=(const iommu&) = delete;

  virtual int check_extension(std::uintptr_t extension) const noexcept = 0;
  virtual int attach(const model_group& who) = 0;
  virtual void detach(const model_group& who) = 0;
  virtual int ioctl(unsigned long request, std::uintptr_t argument) = 0;

  /// A device's write by DMA. Goes mapping by mapping: what was written before a failure stays written.
  virtual int write(std::uint64_t /*iova*/, const void* /*from*/, std::size_t /*bytes*/) { return -ENOTTY; }

  virtual void list(std::size_t /*container*/, std::vector<model_mapping>& /*to*/) const {}
  virtual std::size_t mapping_count() const noexcept { return 0; }
};

}  // namespace tidemark::kernel::modelled
