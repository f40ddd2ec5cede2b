// SPDX-License-Identifier: Apache-2.0

#include "cli/vfio_holders.hpp"

#include <cerrno>
#include <set>

namespace tidemark::cli {
namespace {

// The kernel gives its first PID namespace this number (PROC_PID_INIT_INO), and containers others.
const std::string first_pid_namespace = "pid:[4026531836]";

bool is_pid(const std::string& name) { return name.find_first_not_of("0123456789") == std::string::npos; }

/// A process may end, and a file be closed, while it is looked at: then there is nothing more to see.
bool denies(const std::error_code& failure) { return failure && failure.value() != ENOENT && failure.value() != ESRCH; }

/// The files of VFIO that a process has open. `denied` becomes true when some of its files could not be seen.
std::set<std::string> vfio_files_of(const host_tree& host, const std::string& process, bool& denied) {
  const auto directory = process + "/fd/";
  std::set<std::string> files;
  std::error_code failure;
  for (const auto& number : host.names(directory, failure)) {
    std::error_code no_link;
    if (auto file = host.link(directory + number, no_link); file.starts_with("/dev/vfio/")) files.insert(std::move(file));
    denied = denied || denies(no_link);
  }
  denied = denied || denies(failure);
  return files;
}

/// Every PID namespace has a process 1; mounted with hidepid, /proc leaves out what belongs to others, it first.
bool lists_all(const host_tree& host) {
  return host.link_name("/proc/self/ns/pid") == first_pid_namespace && host.exists("/proc/1");
}

std::string why_not_all(bool denied, bool listed) {
  std::string why;
  if (denied) why = "other users' and those with more rights open only to root with all capabilities";
  if (!listed)
    why += std::string(why.empty() ? "" : "; ") + "/proc does not list all of the host's (a container, or hidepid)";
  return why;
}

}  // namespace

vfio_holders find_vfio_holders(const host_tree& host) {
  vfio_holders found;
  bool denied = false;
  for (const auto& pid : host.names("/proc")) {
    if (!is_pid(pid)) continue;
    const auto process = "/proc/" + pid;
    for (const auto& file : vfio_files_of(host, process, denied)) {
      found.of_file[file].push_back({host.text(process + "/comm").value_or("?"), std::stol(pid)});
    }
  }
  found.why_not_all = why_not_all(denied, lists_all(host));
  return found;
}

}  // namespace tidemark::cli
