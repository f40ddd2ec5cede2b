// SPDX-License-Identifier: Apache-2.0

#include "cli/devices.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "cli/doctor.hpp"

namespace tidemark::cli {
namespace {

using enum device_state;

/// What all devices of the host share.
struct surroundings {
  const host_tree& host;
  system_answers answers;  ///< only those that the checks of groups and of /dev/vfio/vfio read
  vfio_holders holders;
};

void add_holders(std::vector<holder>& all, const vfio_holders& found, const std::string& file) {
  const auto of_file = found.of_file.find(file);
  if (of_file == found.of_file.end()) return;
  for (const auto& h : of_file->second) {
    if (std::none_of(all.begin(), all.end(), [&](const holder& known) { return known.pid == h.pid; })) all.push_back(h);
  }
}

std::string in_group(const iommu_group& group, const group_device& device) {
  return "/sys/kernel/iommu_groups/" + group.number + "/devices/" + device.name;
}

// Who has a device's own file (Linux 6.6, iommufd) has its group, too: it does not open for anyone else then.
std::vector<holder> holders_of(const surroundings& around, const iommu_group& group) {
  std::vector<holder> all;
  add_holders(all, around.holders, group.file());
  for (const auto& d : group.devices) {
    for (const auto& name : around.host.names(in_group(group, d) + "/vfio-dev"))
      add_holders(all, around.holders, "/dev/vfio/devices/" + name);
  }
  return all;
}

std::string list_of(const std::vector<holder>& holders) {
  std::string list;
  for (const auto& h : holders)
    list.append(list.empty() ? "" : "; ").append(h.process).append(", pid ").append(std::to_string(h.pid));
  return list;
}

std::string why_closed(const std::string& file, int errno_value) {
  if (errno_value == EACCES || errno_value == EPERM) return "no permission on " + file;
  return file + ": " + std::generic_category().message(errno_value);
}

void set_state(listed_device& row, device_state state, std::string says, std::vector<std::string> mend) {
  row.state = state;
  row.says = std::move(says);
  row.mend = std::move(mend);
}

void judge_attachable(listed_device& row, const surroundings& around) {
  if (around.answers.vfio_errno != 0) {
    const std::string file = "/dev/vfio/vfio";
    return set_state(row, cannot_open, why_closed(file, around.answers.vfio_errno),
                     check_vfio(around.host, around.answers).mend);
  }
  const bool sure = around.holders.why_not_all.empty();
  set_state(row, attachable, sure ? "attachable" : "attachable, unless a process not seen here has it", {});
}

/// A device that is VFIO's. What is wrong with it is wrong with its group, and doctor knows the commands.
void judge_vfio(listed_device& row, const surroundings& around, const iommu_group& group) {
  row.holders = holders_of(around, group);
  if (!row.holders.empty()) return set_state(row, attached, "attached: " + list_of(row.holders), {});
  auto mend = check_group(group, around.answers).mend;
  if (group.iommu == group_iommu::none) return set_state(row, no_iommu, "no IOMMU: nothing can be mapped", std::move(mend));
  if (!group.viable()) return set_state(row, not_viable, "not viable: " + who_prevents(group), std::move(mend));
  if (group.access_errno != 0)
    return set_state(row, cannot_open, why_closed(row.group_file, group.access_errno), std::move(mend));
  judge_attachable(row, around);
}

/// A device that is not VFIO's. Those of its group that the host uses have to change hands with it.
void judge_other(listed_device& row, const iommu_group& group) {
  const auto& device = row.device;
  if (device.is_bridge) return set_state(row, not_for_vfio, "a bridge: VFIO takes none", {});
  const std::string says = device.prevents() ? "the host uses it" : "not bound to VFIO";
  if (!device.can_be_given()) return set_state(row, not_for_vfio, says, {});
  set_state(row, not_bound, says,
            commands_to_bind(group, [&](const group_device& d) { return d.prevents() || d.name == device.name; }));
}

listed_device make_row(const surroundings& around, const iommu_group& group, const group_device& device) {
  const auto sysfs_text = [&](const char* file) { return around.host.text(in_group(group, device) + file).value_or(""); };
  listed_device row;
  row.device = device;
  row.group = group.number;
  row.iommu = group.iommu;
  row.path = "/sys/bus/" + device.bus + "/devices/" + device.name;
  row.group_file = group.file();
  row.vendor_id = sysfs_text("/vendor");
  row.device_id = sysfs_text("/device");
  row.class_id = sysfs_text("/class");
  if (device.is_vfio) {
    judge_vfio(row, around, group);
  } else {
    judge_other(row, group);
  }
  return row;
}

bool can_give(const iommu_group& group) {
  return std::any_of(group.devices.begin(), group.devices.end(), [](const group_device& d) { return d.can_be_given(); });
}

surroundings look_around(const host_tree& host, unsigned user) {
  system_answers answers;
  answers.vfio_errno = host.access_errno("/dev/vfio/vfio");
  answers.user = user;
  return {host, answers, find_vfio_holders(host)};
}

}  // namespace

device_list list_devices(const host_tree& host, const std::vector<iommu_group>& groups, unsigned user, bool all) {
  const auto around = look_around(host, user);
  device_list list;
  list.why_not_all_processes = around.holders.why_not_all;
  for (const auto& group : groups) {
    if (!group.has_vfio() && !can_give(group)) continue;
    for (const auto& device : group.devices) {
      if (device.is_vfio || all) {
        list.devices.push_back(make_row(around, group, device));
      } else if (device.can_be_given()) {
        ++list.can_be_given;
      }
    }
  }
  return list;
}

}  // namespace tidemark::cli
