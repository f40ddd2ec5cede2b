// SPDX-License-Identifier: Apache-2.0

#include "backend/no_iommu.hpp"

#include <limits>

namespace tidemark::backend {

namespace {

error refusal(operation what, iova_range range) {
  return make_error(what, errc::no_iommu, range,
                    "a noiommu group's devices see physical memory; enable the host's IOMMU (intel_iommu=on, amd_iommu=on) "
                    "and bind the device again");
}

}  // namespace

result<container_info> no_iommu::read_info() {
  container_info info;
  info.type = iommu_type::noiommu;
  // Nothing is to be refused by page size or budget: what is wrong with every request is said by map().
  info.page_sizes = 4096;
  info.mappings_available = std::numeric_limits<std::uint64_t>::max();
  info.tells_mappings_available = true;
  return info;
}

result<void> no_iommu::map(const mapping& what) { return refusal(operation::map, what.at); }

result<std::uint64_t> no_iommu::unmap(iova_range range, std::span<std::uint64_t> /*dirty*/) {
  return refusal(operation::unmap, range);
}

}  // namespace tidemark::backend
