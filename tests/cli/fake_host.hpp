// SPDX-License-Identifier: Apache-2.0
//
// A host's /sys and /proc as far as `tidemark doctor` reads them. One thread.

#pragma once

#include <string>

#include "cli/host_tree.hpp"
#include "cli/temporary_tree.hpp"

namespace tidemark::cli::test {

class fake_host {
 public:
  temporary_tree files;

  host_tree tree() const { return host_tree(files.root()); }

  /// A PCI device of a group, with links as sysfs has them. No driver when it is empty.
  void pci_device(const std::string& group, const std::string& address, const std::string& driver,
                  const std::string& pci_class) {
    const auto device = "/sys/devices/pci0000:00/" + address;
    files.file(device + "/class", pci_class + "\n");
    files.link(device + "/subsystem", "../../../bus/pci");
    if (!driver.empty()) files.link(device + "/driver", "../../../bus/pci/drivers/" + driver);
    files.link("/sys/kernel/iommu_groups/" + group + "/devices/" + address, "../../../../devices/pci0000:00/" + address);
  }

  /// The group's file in /dev/vfio.
  void group_file(const std::string& group) { files.file("/dev/vfio/" + group, ""); }

  void kernel(const std::string& release, const std::string& modules = {}) {
    files.file("/proc/sys/kernel/osrelease", release + "\n");
    files.file("/lib/modules/" + release + "/modules.dep", modules);
  }
};

}  // namespace tidemark::cli::test
