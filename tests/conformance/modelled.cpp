// SPDX-License-Identifier: Apache-2.0

#include "conformance/bench.hpp"

namespace tidemark::conformance {

std::vector<kernel::model_group> modelled_guest_groups() {
  auto groups = kernel::model_options::guest_groups();
  groups.push_back({.number = 3,
                    .iommu_backed = true,
                    .viable = true,
                    .devices = {"0000:00:05.0", "0000:00:05.1"},
                    .functions = {{"0000:00:05.1", {.bar_bytes = 4096, .msi_vectors = 0, .msix_vectors = 2}}}});
  groups.push_back({.number = 4, .iommu_backed = true, .viable = false, .devices = {"0000:00:06.0"}});
  return groups;
}

topology groups_of(const kernel::model_options& options) {
  topology groups;
  for (const kernel::model_group& group : options.groups) {
    group_name name{group.number, group.devices.front()};
    if (group.devices.size() > 1) name.other = group.devices[1];
    if (group.noiommu) {
      groups.noiommu.push_back(name);
    } else if (!group.iommu_backed) {
      groups.emulated.push_back(name);
    } else if (!group.viable) {
      groups.not_viable = name;
    } else {
      (name.other.empty() ? groups.backed : groups.pair) = name;
    }
  }
  return groups;
}

}  // namespace tidemark::conformance
