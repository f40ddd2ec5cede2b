// SPDX-License-Identifier: Apache-2.0

#include "backend/sysfs.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <string_view>

namespace tidemark::backend {

result<unsigned> group_of_device(kernel::files& kernel, const std::string& sysfs_path) {
  const auto link = sysfs_path + "/iommu_group";
  std::array<char, PATH_MAX> target{};
  const auto length = kernel.readlink(link.c_str(), target.data(), target.size());
  if (length < 0)
    return kernel_error(operation::open_group, static_cast<int>(-length), {},
                        link + ": no such device, or it is in no IOMMU group ('tidemark doctor' lists the groups)");
  if (static_cast<std::size_t>(length) == target.size()) return kernel_error(operation::open_group, ENAMETOOLONG, {}, link);
  const std::string_view path(target.data(), static_cast<std::size_t>(length));
  const auto last = path.substr(path.rfind('/') + 1);
  unsigned group = 0;
  const auto parsed = std::from_chars(last.data(), last.data() + last.size(), group);
  if (last.empty() || parsed.ec != std::errc{} || parsed.ptr != last.data() + last.size())
    return kernel_error(operation::open_group, EINVAL, {},
                        link + " ends in '" + std::string(last) + "', which is no group number");
  return group;
}

}  // namespace tidemark::backend
