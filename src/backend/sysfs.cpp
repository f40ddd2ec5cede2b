// SPDX-License-Identifier: Apache-2.0

#include "backend/sysfs.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <string_view>

namespace tidemark::backend {

namespace {

bool is_hexadecimal(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// "0000:01:00.0", as sysfs writes it; empty when `text` is no PCI address.
std::string pci_address(std::string text) {
  for (char& letter : text)
    if (letter >= 'A' && letter <= 'F') letter = static_cast<char>(letter - 'A' + 'a');
  if (text.find(':') == text.rfind(':')) text.insert(0, "0000:");
  const auto dot = text.rfind('.');
  const auto second = text.rfind(':');
  const auto first = text.find(':');
  if (dot == std::string::npos || second == std::string::npos || first == second || dot < second) return {};
  const std::string_view whole = text;
  const auto part = [&](std::size_t from, std::size_t to) { return whole.substr(from, to - from); };
  const bool shaped = first >= 4 && second - first == 3 && dot - second == 3 && whole.size() - dot == 2;
  const bool numbers = is_hexadecimal(part(0, first)) && is_hexadecimal(part(first + 1, second)) &&
                       is_hexadecimal(part(second + 1, dot)) && is_hexadecimal(part(dot + 1, whole.size()));
  return shaped && numbers ? text : std::string();
}

}  // namespace

result<device_place> find_device(kernel::files& kernel, const std::string& which) {
  device_place place;
  if (which.starts_with('/')) {
    place.path = which;
    while (place.path.size() > 1 && place.path.back() == '/') place.path.pop_back();
  } else if (const auto address = pci_address(which); !address.empty()) {
    place.path = "/sys/bus/pci/devices/" + address;
  } else {
    return kernel_error(operation::attach, EINVAL, {},
                        "'" + which + "' is neither a PCI address (0000:01:00.0) nor a sysfs path (/sys/...)");
  }
  place.name = place.path.substr(place.path.rfind('/') + 1);
  const auto group = group_of_device(kernel, place.path);
  if (!group) return group.error();
  place.group = *group;
  return place;
}

result<unsigned> group_of_device(kernel::files& kernel, const std::string& sysfs_path) {
  const auto link = sysfs_path + "/iommu_group";
  std::array<char, PATH_MAX> target{};
  const auto length = kernel.readlink(link.c_str(), target.data(), target.size());
  if (length == -ENOENT)
    return kernel_error(operation::attach, ENOENT, {},
                        link + ": no such device, or it is in no IOMMU group ('tidemark doctor' lists the groups)");
  if (length < 0) return kernel_error(operation::attach, static_cast<int>(-length), {}, link);
  if (static_cast<std::size_t>(length) == target.size()) return kernel_error(operation::attach, ENAMETOOLONG, {}, link);
  const std::string_view path(target.data(), static_cast<std::size_t>(length));
  const auto last = path.substr(path.rfind('/') + 1);
  unsigned group = 0;
  const auto parsed = std::from_chars(last.data(), last.data() + last.size(), group);
  if (last.empty() || parsed.ec != std::errc{} || parsed.ptr != last.data() + last.size())
    return kernel_error(operation::attach, EINVAL, {},
                        link + " ends in '" + std::string(last) + "', which is no group number");
  return group;
}

}  // namespace tidemark::backend
