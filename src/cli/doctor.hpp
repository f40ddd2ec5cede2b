// SPDX-License-Identifier: Apache-2.0
//
// `tidemark doctor`: what a host offers, finding by finding, each with the commands that mend it. The findings are pure
// functions of the host's files and of a few answers that only the running system can give, so tests lay out hosts that do
// not exist. Changes nothing. Any thread.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/host_tree.hpp"
#include "cli/iommu_groups.hpp"
#include "cli/request.hpp"

namespace tidemark::cli {

enum class finding_status : std::uint8_t {
  ok,
  note,     ///< nothing is wrong; `mend` says how to have it otherwise
  warning,  ///< works, but not all or not well
  missing,
};

struct finding {
  std::string what;
  finding_status status = finding_status::ok;
  std::string says;
  std::vector<std::string> mend;
};

/// What the running system answers to this process. Errnos are 0 when it worked.
struct system_answers {
  int ring_errno = 0;                    ///< making the loop's ring
  bool ring_defers = false;              ///< a ring with SINGLE_ISSUER and DEFER_TASKRUN
  int vfio_errno = 0;                    ///< open("/dev/vfio/vfio", O_RDWR)
  std::uint64_t memlock_soft_bytes = 0;  ///< RLIMIT_MEMLOCK; RLIM_INFINITY when unlimited
  std::uint64_t memlock_hard_bytes = 0;
  unsigned user = 0;  ///< for the commands that give this user what he may not use yet
  unsigned group = 0;
};
system_answers ask_system();

finding check_kernel(const host_tree& host);
finding check_ring(const host_tree& host, const system_answers& answers);
finding check_vfio(const host_tree& host, const system_answers& answers);
finding check_iommufd(const host_tree& host);
finding check_iommu(const host_tree& host, const std::vector<iommu_group>& groups);
finding check_group(const iommu_group& group, const system_answers& answers);
finding check_memlock(const host_tree& host, const system_answers& answers);
finding check_huge_pages(const host_tree& host);

struct diagnosis {
  std::vector<finding> findings;
  std::vector<iommu_group> groups;
  bool model_demo = false;          ///< the demo can run with the kernel that is built in
  std::string why_no_real_devices;  ///< empty: a device of this host can be used
};
diagnosis diagnose(const host_tree& host, const system_answers& answers);

/// With `all`, notes come with their commands, too.
std::string as_text(const diagnosis& found, bool colour, bool all);
std::string as_json(const diagnosis& found);

/// The command: prints the diagnosis of this host, answers the exit status.
int run_doctor(const doctor_request& request);

}  // namespace tidemark::cli
