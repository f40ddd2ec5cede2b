// SPDX-License-Identifier: Apache-2.0
//
// Finds a device and its IOMMU group in sysfs (R1): the link <device>/iommu_group ends in the group's number.
// Threading: blocks as readlink(2) on sysfs does, which is not at all.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>

#include <string>

namespace tidemark::backend {

/// Where a device is, and what its group calls it.
struct device_place {
  std::string path;  ///< in sysfs
  std::string name;  ///< the path's last part
  unsigned group = 0;
};

/// `which`: a sysfs path, or a PCI address with or without its domain ("0000:01:00.0", "01:00.0"). EINVAL when it is
/// neither.
result<device_place> find_device(kernel::files& kernel, const std::string& which);

/// Three errors, each naming the path: the link is missing, it is longer than PATH_MAX, or what it ends in is no number.
result<unsigned> group_of_device(kernel::files& kernel, const std::string& sysfs_path);

}  // namespace tidemark::backend
