// SPDX-License-Identifier: Apache-2.0
//
// Finds the IOMMU group of a device by its sysfs path: the link <path>/iommu_group ends in the group's number.
// Threading: blocks as readlink(2) on sysfs does, which is not at all.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>

#include <string>

namespace tidemark::backend {

/// Three errors, each naming the path: the link is missing, it is longer than PATH_MAX, or what it ends in is no number.
result<unsigned> group_of_device(kernel::files& kernel, const std::string& sysfs_path);

}  // namespace tidemark::backend
