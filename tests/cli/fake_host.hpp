// SPDX-License-Identifier: Apache-2.0
//
// A host's /sys and /proc as far as `tidemark doctor` and `tidemark devices` read them. One thread.

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

  /// A device of a group that VFIO made by itself, with an emulated IOMMU.
  void emulated_device(const std::string& group, const std::string& name) {
    files.link("/sys/devices/platform/" + name + "/subsystem", "../../../bus/platform");
    files.link("/sys/devices/platform/" + name + "/driver", "../../../bus/platform/drivers/tidemark-test");
    files.link("/sys/kernel/iommu_groups/" + group + "/devices/" + name, "../../../../devices/platform/" + name);
    files.file("/sys/kernel/iommu_groups/" + group + "/name", "vfio-noiommu\n");
  }

  /// A process with one file open.
  void process(const std::string& pid, const std::string& name, const std::string& open_file) {
    files.file("/proc/" + pid + "/comm", name + "\n");
    files.link("/proc/" + pid + "/fd/0", open_file);
  }

  /// The /proc of root on the host itself, which leaves nothing out.
  void every_process_is_seen() {
    process("1", "init", "/dev/null");
    files.link("/proc/self/ns/pid", "pid:[4026531836]");
  }

  void kernel(const std::string& release, const std::string& modules = {}) {
    files.file("/proc/sys/kernel/osrelease", release + "\n");
    files.file("/lib/modules/" + release + "/modules.dep", modules);
  }
};

}  // namespace tidemark::cli::test
