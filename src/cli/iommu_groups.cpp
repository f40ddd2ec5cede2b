// SPDX-License-Identifier: Apache-2.0

#include "cli/iommu_groups.hpp"

#include <algorithm>
#include <array>

namespace tidemark::cli {
namespace {

const std::string groups_directory = "/sys/kernel/iommu_groups/";

// A PCI-to-PCI bridge has the class 0x0604xx. The port driver leaves DMA alone, so VFIO does not mind it.
bool is_bridge(const host_tree& host, const std::string& device, const std::string& driver) {
  return driver == "pcieport" || host.text(device + "/class").value_or("").starts_with("0x0604");
}

// A driver of VFIO's is called so, or has registered the device with VFIO, which shows in the device's folder since
// Linux 6.1.
bool is_vfio(const host_tree& host, const std::string& device, const std::string& driver) {
  return driver.find("vfio") != std::string::npos || host.exists(device + "/vfio-dev");
}

group_device read_device(const host_tree& host, const std::string& directory, const std::string& name) {
  const auto path = directory + "/" + name;
  group_device device;
  device.name = name;
  device.bus = host.link_name(path + "/subsystem");
  device.driver = host.link_name(path + "/driver");
  device.is_vfio = is_vfio(host, path, device.driver);
  device.is_bridge = is_bridge(host, path, device.driver);
  return device;
}

// VFIO gives both kinds of groups it makes by itself the same name. Only their files tell them apart.
group_iommu iommu_of(const host_tree& host, const std::string& number) {
  if (host.text(groups_directory + number + "/name") != "vfio-noiommu") return group_iommu::real;
  return host.exists("/dev/vfio/noiommu-" + number) ? group_iommu::none : group_iommu::emulated;
}

iommu_group read_group(const host_tree& host, const std::string& number) {
  iommu_group group;
  group.number = number;
  group.iommu = iommu_of(host, number);
  group.access_errno = host.access_errno(group.file());
  const auto directory = groups_directory + number + "/devices";
  for (const auto& name : host.names(directory)) {
    group.devices.push_back(read_device(host, directory, name));
    if (group.iommu != group_iommu::real) group.devices.back().is_vfio = true;  // VFIO made the group for it
  }
  return group;
}

}  // namespace

std::string_view name_of(group_iommu iommu) {
  constexpr std::array<std::string_view, 3> names{"real", "emulated", "none"};
  return names[static_cast<std::size_t>(iommu)];
}

bool iommu_group::viable() const {
  return std::none_of(devices.begin(), devices.end(), [](const group_device& d) { return d.prevents(); });
}

bool iommu_group::has_vfio() const {
  return std::any_of(devices.begin(), devices.end(), [](const group_device& d) { return d.is_vfio; });
}

std::vector<iommu_group> read_iommu_groups(const host_tree& host) {
  std::vector<iommu_group> groups;
  for (const auto& number : host.names(groups_directory)) groups.push_back(read_group(host, number));
  return groups;
}

std::string who_prevents(const iommu_group& group) {
  std::string list;
  for (const auto& d : group.devices) {
    if (d.prevents()) list.append(list.empty() ? "" : ", ").append(d.name).append(" is bound to ").append(d.driver);
  }
  return list;
}

std::vector<std::string> commands_to_bind(const group_device& device) {
  const auto path = "/sys/bus/" + device.bus + "/devices/" + device.name;
  std::vector<std::string> commands;
  if (device.bus == "pci") commands.push_back("echo vfio-pci > " + path + "/driver_override");
  if (!device.driver.empty()) commands.push_back("echo " + device.name + " > " + path + "/driver/unbind");
  if (device.bus == "pci") commands.push_back("echo " + device.name + " > /sys/bus/pci/drivers_probe");
  return commands;
}

std::vector<std::string> commands_to_bind(const iommu_group& group, const std::function<bool(const group_device&)>& which) {
  std::vector<std::string> commands;
  for (const auto& d : group.devices) {
    if (!which(d)) continue;
    for (auto& command : commands_to_bind(d)) commands.push_back(std::move(command));
  }
  if (!commands.empty()) commands.insert(commands.begin(), "modprobe vfio-pci");
  return commands;
}

}  // namespace tidemark::cli
