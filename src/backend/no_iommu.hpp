// SPDX-License-Identifier: Apache-2.0
//
// The driver of groups without an IOMMU (R13). It is there to say no: what is written to physical memory by such a device
// cannot be mapped, and not be tracked.
//
// Threading: any.

#pragma once

#include "backend/iommu.hpp"

namespace tidemark::backend {

class no_iommu final : public iommu {
 public:
  result<container_info> read_info() override;
  result<void> map(const mapping& what) override;
  result<std::uint64_t> unmap(iova_range range, std::span<std::uint64_t> dirty) override;
};

}  // namespace tidemark::backend
