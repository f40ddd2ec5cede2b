// SPDX-License-Identifier: Apache-2.0
//
// The IOMMU groups of a host, and whether VFIO may have them. Pure functions of a host's files; any thread.
//
// A group is viable when no driver of the host uses any of its devices: each is bound to a driver of VFIO's or to pci-stub,
// has no driver, or is a bridge. It is ready when it is viable, one of its devices is VFIO's, and this process may open it.

#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/host_tree.hpp"

namespace tidemark::cli {

struct group_device {
  std::string name;    ///< "0000:01:00.0"
  std::string bus;     ///< "pci"
  std::string driver;  ///< empty: none
  bool is_vfio = false;
  bool is_bridge = false;

  bool can_be_given() const { return bus == "pci" && !is_vfio && !is_bridge; }
  bool prevents() const { return !driver.empty() && !is_vfio && !is_bridge && driver != "pci-stub"; }
};

/// What stands between a group's devices and memory. `none` is the mode that VFIO names unsafe: a device may reach all
/// memory.
enum class group_iommu { real, emulated, none };
std::string_view name_of(group_iommu iommu);

struct iommu_group {
  std::string number;
  group_iommu iommu = group_iommu::real;
  int access_errno = 0;  ///< of its file
  std::vector<group_device> devices;

  /// Its file in /dev/vfio, there or not.
  std::string file() const { return (iommu == group_iommu::none ? "/dev/vfio/noiommu-" : "/dev/vfio/") + number; }
  bool viable() const;
  bool has_vfio() const;
  bool ready() const { return viable() && has_vfio() && iommu != group_iommu::none && access_errno == 0; }
};

std::vector<iommu_group> read_iommu_groups(const host_tree& host);

/// The devices that make a group not viable: "0000:01:00.1 is bound to snd_hda_intel, ...".
std::string who_prevents(const iommu_group& group);

/// The commands that take a device from the host's driver and give it to VFIO.
std::vector<std::string> commands_to_bind(const group_device& device);

/// The same for those of a group's devices, VFIO's module first.
std::vector<std::string> commands_to_bind(const iommu_group& group, const std::function<bool(const group_device&)>& which);

}  // namespace tidemark::cli
