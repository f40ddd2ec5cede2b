// SPDX-License-Identifier: Apache-2.0
//
// What the conformance programs have to know of the machine they run on.

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "conformance/bench.hpp"
#include "kernel/test_device.h"

namespace tidemark::conformance {
namespace {

std::optional<group_name> find(const std::string& folder, const std::string& device) {
  std::array<char, 256> target{};
  const ssize_t told =
      kernel::host_kernel().readlink((folder + device + "/iommu_group").c_str(), target.data(), target.size());
  if (told <= 0) return std::nullopt;
  const std::string link(target.data(), static_cast<std::size_t>(told));
  const std::string number = link.substr(link.rfind('/') + 1);
  if (::access(("/dev/vfio/" + number).c_str(), F_OK) != 0) return std::nullopt;  // bound to another driver
  return group_name{static_cast<unsigned>(std::strtoul(number.c_str(), nullptr, 10)), device};
}

// Only the effective set: the capability stays permitted, and comes back.
void set_ipc_lock(bool effective) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) < 0) throw skipped("capget is refused");
  const std::uint32_t bit = 1U << CAP_IPC_LOCK;
  if (effective) {
    sets[0].effective |= sets[0].permitted & bit;
  } else {
    sets[0].effective &= ~bit;
  }
  if (::syscall(SYS_capset, &header, sets.data()) < 0) throw skipped("capset is refused");
}

}  // namespace

topology discover() {
  topology found;
  for (unsigned index = 0; index < TIDEMARK_TEST_DEVICES_MAX; ++index) {
    const std::string name = std::string(TIDEMARK_TEST_DEVICE_NAME) + "." + std::to_string(index);
    if (const auto group = find("/sys/bus/platform/devices/", name)) found.emulated.push_back(*group);
  }
  const char* edu = std::getenv("TIDEMARK_EDU");
  const std::string pci = "/sys/bus/pci/devices/";
  found.backed = find(pci, edu != nullptr ? edu : "0000:00:04.0");
  found.pair = find(pci, "0000:00:05.0");
  if (found.pair) found.pair->other = "0000:00:05.1";
  found.not_viable = find(pci, "0000:00:06.0");
  return found;
}

kernel::kernel_version running_version() {
  utsname name{};
  kernel::kernel_version version{0, 0};
  if (::uname(&name) != 0 || std::sscanf(name.release, "%u.%u", &version.major, &version.minor) != 2) return {0, 0};
  return version;
}

memlock_limit::memlock_limit(std::uint64_t pages) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  previous_bytes_ = limit.rlim_cur;
  set_ipc_lock(false);
  limit.rlim_cur = pages * page;
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) < 0) throw skipped("RLIMIT_MEMLOCK cannot be set");
}

memlock_limit::~memlock_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  limit.rlim_cur = previous_bytes_;
  ::setrlimit(RLIMIT_MEMLOCK, &limit);
  try {
    set_ipc_lock(true);
  } catch (const skipped&) {
    // what could be dropped can be raised again
  }
}

}  // namespace tidemark::conformance
