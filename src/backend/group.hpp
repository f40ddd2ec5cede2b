// SPDX-License-Identifier: Apache-2.0
//
// Opens a VFIO group (R2): /dev/vfio/<n>, or /dev/vfio/noiommu-<n> for devices that have no IOMMU (R13).
//
// Threading: open_group blocks for as long as another process changes the group. A value that owns a file.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>

namespace tidemark::backend {

struct group {
  unsigned number = 0;
  bool noiommu = false;
  kernel::handle file;
};

/// A group that is there, may be used by this process, is used by nobody else, and is viable; else an error that says which
/// of these it is not, and what mends it.
result<group> open_group(kernel::files& kernel, unsigned number);

}  // namespace tidemark::backend
