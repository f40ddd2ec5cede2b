// SPDX-License-Identifier: Apache-2.0

#include "backend/group.hpp"

#include <fcntl.h>
#include <linux/vfio.h>

#include <cerrno>
#include <string>
#include <utility>

namespace tidemark::backend {

namespace {

std::string path_of(unsigned number, bool noiommu) {
  return (noiommu ? "/dev/vfio/noiommu-" : "/dev/vfio/") + std::to_string(number);
}

std::string why_it_does_not_open(unsigned number, bool noiommu, int errno_value) {
  const auto path = path_of(number, noiommu);
  switch (errno_value) {
    case ENOENT:
      return "no such group: " + path +
             " is not there; bind the group's devices to vfio-pci first ('tidemark doctor' lists the groups)";
    case EACCES:
      return "no permission on " + path + ": run as root, or give the file to your user (chown)";
    case EPERM:
      if (noiommu) return path + " has no IOMMU, and the kernel gives it only to those who have CAP_SYS_RAWIO";
      return "no permission on " + path + ": run as root, or give the file to your user (chown)";
    case EBUSY:
      return "group " + std::to_string(number) + " is in use by another container or process";
    default:
      return path;
  }
}

result<void> check_viable(kernel::files& kernel, const group& opened) {
  vfio_group_status status{};
  status.argsz = sizeof status;
  if (const int answer = kernel.ioctl(opened.file.get(), VFIO_GROUP_GET_STATUS, &status); answer < 0)
    return kernel_error(operation::open_group, -answer, {}, path_of(opened.number, opened.noiommu));
  if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0)
    return make_error(operation::open_group, errc::group_not_viable, {},
                      "every device of group " + std::to_string(opened.number) + " must be bound to its vfio bus driver");
  return {};
}

}  // namespace

result<group> open_group(kernel::files& kernel, unsigned number) {
  bool noiommu = false;
  int fd = kernel.open(path_of(number, noiommu).c_str(), O_RDWR);
  if (fd == -ENOENT) {
    // Only one of the two files exists. Where neither does, the first is the one to miss.
    if (const int other = kernel.open(path_of(number, true).c_str(), O_RDWR); other != -ENOENT) {
      fd = other;
      noiommu = true;
    }
  }
  if (fd < 0) return kernel_error(operation::open_group, -fd, {}, why_it_does_not_open(number, noiommu, -fd));
  group opened{number, noiommu, kernel::handle(kernel, fd)};
  if (auto viable = check_viable(kernel, opened); !viable) return viable.error();
  return opened;
}

}  // namespace tidemark::backend
