// SPDX-License-Identifier: Apache-2.0
//
// `tidemark devices`: the VFIO devices of a host, who has them, and what keeps the others from being attached. The list is a
// pure function of the host's files, so tests lay out hosts that do not exist. Opens no group and changes nothing. Any
// thread.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/host_tree.hpp"
#include "cli/iommu_groups.hpp"
#include "cli/request.hpp"
#include "cli/vfio_holders.hpp"

namespace tidemark::cli {

enum class device_state : std::uint8_t {
  attachable,   ///< as far as was seen: vfio_holders says how far that is
  attached,     ///< a process has its group
  no_iommu,     ///< VFIO's unsafe mode: nothing can be mapped
  not_viable,   ///< VFIO's, but not all of its group
  cannot_open,  ///< this user may not, or the file is not there
  not_bound,    ///< could be given to VFIO, perhaps after the host gave it up
  not_for_vfio  ///< a bridge, or on a bus whose devices the tool does not know how to give away
};

struct listed_device {
  group_device device;
  std::string group;
  group_iommu iommu = group_iommu::real;
  std::string path;        ///< in sysfs
  std::string group_file;  ///< there or not
  std::string vendor_id;   ///< as sysfs has it, "0x8086"; empty: it has none, as with the next two
  std::string device_id;
  std::string class_id;
  device_state state = device_state::attachable;
  std::string says;
  std::vector<holder> holders;    ///< of the device's group
  std::vector<std::string> mend;  ///< what makes it attachable
};

struct device_list {
  std::vector<listed_device> devices;
  std::size_t can_be_given = 0;  ///< devices left out that could be given to VFIO
  std::string why_not_all_processes;
};

/// VFIO's devices in the host's groups; with `all` also the others of their groups and those that could be given to VFIO.
/// `user` is who attaches.
device_list list_devices(const host_tree& host, const std::vector<iommu_group>& groups, unsigned user, bool all);

std::string as_text(const device_list& list);
std::string as_json(const device_list& list);

/// The command: prints the list of this host, answers the exit status.
int run_devices(const devices_request& request);

}  // namespace tidemark::cli
