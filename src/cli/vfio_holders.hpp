// SPDX-License-Identifier: Apache-2.0
//
// Which processes have files of VFIO open, by the links in /proc/<pid>/fd. The files themselves are not opened: a group's
// file opens only once at a time, so opening it would get in the way of a program that is about to.
//
// What is seen is so; what is not seen may be so nevertheless. A process that this user may not look into is one case, and
// `why_not_all` says so. A program that has closed the group's file and kept its device's is another: that one's link names
// no group. Pure functions of a host's files; any thread.

#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/host_tree.hpp"

namespace tidemark::cli {

struct holder {
  std::string process;  ///< /proc/<pid>/comm, so 15 letters at most
  long pid = 0;
};

struct vfio_holders {
  std::map<std::string, std::vector<holder>> of_file;  ///< by path: "/dev/vfio/7"
  std::string why_not_all;                             ///< empty: every process of the host was looked into
};

vfio_holders find_vfio_holders(const host_tree& host);

}  // namespace tidemark::cli
