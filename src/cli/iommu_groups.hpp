// SPDX-License-Identifier: Apache-2.0
//
// The IOMMU groups of a host, and whether VFIO may have them. Pure functions of a host's files; any thread.
//
// A group is viable when no driver of the host uses any of its devices: each is bound to a driver of VFIO's or to pci-stub,
// has no driver, or is a bridge. It is ready when it is viable, one of its devices is VFIO's, and this process may open it.

#pragma once

#include <string>
#include <vector>

#include "cli/host_tree.hpp"

namespace tidemark::cli {

struct group_device {
  std::string name;    ///< "0000:01:00.0"
  std::string bus;     ///< "pci"
  std::string driver;  ///< empty: none
  bool is_vfio = false;
  bool is_bridge = false;

  bool prevents() const { return !driver.empty() && !is_vfio && !is_bridge && driver != "pci-stub"; }
};

/// What stands between a group's devices and memory. `none` is the mode that VFIO names unsafe: a device may reach all
/// memory.
enum class group_iommu { real, emulated, none };

struct iommu_group {
  std::string number;
  group_iommu iommu = group_iommu::real;
  int access_errno = 0;  ///< of its file in /dev/vfio
  std::vector<group_device> devices;

  bool viable() const;
  bool has_vfio() const;
  bool ready() const { return viable() && has_vfio() && iommu != group_iommu::none && access_errno == 0; }
};

std::vector<iommu_group> read_iommu_groups(const host_tree& host);

/// The commands that take a device from the host's driver and give it to VFIO.
std::vector<std::string> commands_to_bind(const group_device& device);

}  // namespace tidemark::cli
