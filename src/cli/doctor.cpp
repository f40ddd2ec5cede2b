// SPDX-License-Identifier: Apache-2.0

#include "cli/doctor.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "cli/size.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {
namespace {

using enum finding_status;

constexpr unsigned cap_ipc_lock = 14;  // CAP_IPC_LOCK: the kernel then lets a process pin beyond RLIMIT_MEMLOCK

const std::string newer_kernel = "apt install linux-image-amd64 && reboot";
const std::string no_file = "/dev/vfio/vfio cannot be used";
const std::string no_iommu = "no IOMMU is switched on";
const std::string no_group = "no IOMMU group is ready for VFIO";

std::string release_of(const host_tree& host) { return host.text("/proc/sys/kernel/osrelease").value_or(""); }

/// The two numbers that a release begins with, "6.1.0-13-amd64".
std::pair<int, int> version_of(const std::string& release) {
  std::pair<int, int> version{0, 0};
  const char* const end = release.data() + release.size();
  const auto major = std::from_chars(release.data(), end, version.first);
  if (major.ec == std::errc{} && major.ptr != end && *major.ptr == '.') std::from_chars(major.ptr + 1, end, version.second);
  return version;
}

bool has_module(const host_tree& host, const std::string& name) {
  const auto directory = "/lib/modules/" + release_of(host);
  const auto lists = [&](const char* file) {
    return host.text(directory + file).value_or("").find("/" + name + ".ko") != std::string::npos;
  };
  return lists("/modules.dep") || lists("/modules.builtin");
}

/// A field of /proc/self/status.
std::string own_status(const host_tree& host, const std::string& field) {
  const auto all = "\n" + host.text("/proc/self/status").value_or("");
  const auto at = all.find("\n" + field + ":\t");
  if (at == std::string::npos) return {};
  const auto begin = at + field.size() + 3;
  return all.substr(begin, all.find('\n', begin) - begin);
}

bool may_pin_all(const host_tree& host) {
  const auto text = own_status(host, "CapEff");
  std::uint64_t capabilities = 0;
  std::from_chars(text.data(), text.data() + text.size(), capabilities, 16);
  return ((capabilities >> cap_ipc_lock) & 1) != 0;
}

std::vector<std::string> mend_ring(const system_answers& answers, long disabled) {
  switch (answers.ring_errno) {
    case EPERM:
      if (disabled == 2) return {"sysctl -w kernel.io_uring_disabled=0"};
      if (disabled == 1) return {"sysctl -w kernel.io_uring_group=" + std::to_string(answers.group)};
      return {"docker run --security-opt seccomp=unconfined ..."};
    case ENOSYS:
    case EINVAL:
      return {newer_kernel};
    case ENOMEM:
      return {"ulimit -l unlimited"};
    case EMFILE:
      return {"ulimit -n 65536"};
    case ENFILE:
      return {"sysctl -w fs.file-max=1000000"};
    default:
      return {};
  }
}

finding vfio_not_there(const host_tree& host, finding f) {
  if (has_module(host, "vfio-pci")) {
    f.says += "; the module is not loaded";
    f.mend = {"modprobe vfio-pci"};
  } else {
    f.says += ", and this kernel (" + release_of(host) + ") has no vfio-pci module";
    f.mend = {newer_kernel, "modprobe vfio-pci"};
  }
  return f;
}

std::string list_of_devices(const iommu_group& group) {
  std::string list;
  for (const auto& d : group.devices) {
    list.append(list.empty() ? "" : ", ")
        .append(d.name)
        .append(" (")
        .append(d.driver.empty() ? "no driver" : d.driver)
        .append(")");
  }
  return list.empty() ? "no device" : list;
}

finding not_viable(const iommu_group& group, finding f) {
  f.status = group.has_vfio() ? warning : note;
  f.says += group.has_vfio() ? ": not viable, because " + who_prevents(group) : ": the host uses it; " + who_prevents(group);
  f.mend = commands_to_bind(group, [](const group_device& d) { return d.prevents(); });
  return f;
}

finding not_open(const iommu_group& group, const system_answers& answers, finding f) {
  const auto file = group.file();
  f.status = warning;
  f.says += ": viable, but " + file + ": " + std::strerror(group.access_errno);
  f.mend = {group.access_errno == ENOENT ? "udevadm trigger" : "chown " + std::to_string(answers.user) + " " + file};
  return f;
}

/// The word of "always [madvise] never" that is in force.
std::string word_in_force(const std::string& words) {
  const auto begin = words.find('[');
  const auto end = words.find(']');
  return begin == std::string::npos || end == std::string::npos ? "never" : words.substr(begin + 1, end - begin - 1);
}

/// How the IOMMU is switched on: in the virtual machine's host, in the firmware, on the kernel's command line.
std::vector<std::string> mend_iommu(const host_tree& host, const std::string& cpu, bool guest) {
  std::vector<std::string> commands;
  if (guest) {
    commands.push_back(
        "qemu-system-x86_64 -M q35,kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on ...   # on its "
        "host");
  }
  const bool intel = cpu.find("GenuineIntel") != std::string::npos;
  const bool amd = cpu.find("AuthenticAMD") != std::string::npos;
  const std::string word = guest || intel ? "intel_iommu=on" : "amd_iommu=on";  // QEMU's is Intel's, whatever the processor
  const bool asked_for = host.text("/proc/cmdline").value_or("").find(word) != std::string::npos;
  if ((guest || intel || amd) && !asked_for) {
    commands.push_back("sed -i 's/^GRUB_CMDLINE_LINUX=\"/&" + word +
                       " iommu=pt /' /etc/default/grub && update-grub && reboot");
  } else if (!guest) {
    commands.push_back("systemctl reboot --firmware-setup   # and switch on the IOMMU (VT-d, AMD-Vi, SMMU)");
  }
  return commands;
}

std::string list_reserved(const host_tree& host, bool& any) {
  std::string list;
  for (const auto& [name, directory] : {std::pair{"2MiB", "hugepages-2048kB"}, std::pair{"1GiB", "hugepages-1048576kB"}}) {
    const auto path = std::string("/sys/kernel/mm/hugepages/") + directory;
    const auto reserved = host.number(path + "/nr_hugepages");
    if (!reserved) continue;
    any = any || *reserved > 0;
    list += std::to_string(*reserved) + " of " + name + " reserved (" +
            std::to_string(host.number(path + "/free_hugepages").value_or(0)) + " free), ";
  }
  return list;
}

std::string join(const std::vector<std::string>& parts) {
  std::string all;
  for (const auto& part : parts) all.append(all.empty() ? "" : ", and ").append(part);
  return all;
}

std::string limit_text(std::uint64_t bytes) { return bytes == RLIM_INFINITY ? "unlimited" : size_text(bytes); }

bool ring_defers() {
  io_uring ring{};
  if (io_uring_queue_init(2, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) < 0) return false;
  io_uring_queue_exit(&ring);
  return true;
}

int open_errno(const char* path) {
  const int fd = ::open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return errno;
  ::close(fd);
  return 0;
}

}  // namespace

system_answers ask_system() {
  system_answers answers;
  if (const auto loop = ring::uring_loop::make(); !loop) answers.ring_errno = loop.error().code.value();
  answers.ring_defers = ring_defers();
  answers.vfio_errno = open_errno("/dev/vfio/vfio");
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  answers.memlock_soft_bytes = limit.rlim_cur;
  answers.memlock_hard_bytes = limit.rlim_max;
  answers.user = ::getuid();
  answers.group = ::getgid();
  return answers;
}

finding check_kernel(const host_tree& host) {
  const auto release = release_of(host);
  if (release.empty()) return {"kernel", warning, "/proc/sys/kernel/osrelease cannot be read", {"mount -t proc proc /proc"}};
  if (version_of(release) < std::pair{5, 19})
    return {"kernel", missing, release + "; Linux 5.19 or newer is needed", {newer_kernel}};
  if (version_of(release) < std::pair{6, 1})
    return {"kernel", warning, release + "; Linux 6.1 or newer is faster", {newer_kernel}};
  return {"kernel", ok, release, {}};
}

finding check_ring(const host_tree& host, const system_answers& answers) {
  if (answers.ring_errno == 0) {
    if (answers.ring_defers) return {"io_uring", ok, "usable, with SINGLE_ISSUER and DEFER_TASKRUN", {}};
    return {"io_uring", warning, "usable, but without DEFER_TASKRUN, which Linux 6.1 has: more wake-ups", {newer_kernel}};
  }
  const auto disabled = host.number("/proc/sys/kernel/io_uring_disabled").value_or(-1);
  const auto group = host.number("/proc/sys/kernel/io_uring_group").value_or(-1);
  const auto cause = ring::cause_of_no_ring(answers.ring_errno, static_cast<int>(disabled), group);
  return {"io_uring", missing, "not usable: " + (cause.empty() ? std::strerror(answers.ring_errno) : cause),
          mend_ring(answers, disabled)};
}

finding check_vfio(const host_tree& host, const system_answers& answers) {
  finding f{"/dev/vfio/vfio", missing, {}, {}};
  switch (answers.vfio_errno) {
    case 0:
      return {f.what, ok, "can be opened", {}};
    case ENOENT:
      f.says = "not there";
      return vfio_not_there(host, f);
    case ENODEV:
    case ENXIO:
      f.says = "there, but nothing answers";
      return vfio_not_there(host, f);
    case EACCES:
      f.says = "this user may not open it; that takes this file and the group's, /dev/vfio/NUMBER";
      f.mend = {"chmod 0666 /dev/vfio/vfio", "chown " + std::to_string(answers.user) + " /dev/vfio/NUMBER"};
      return f;
    case EPERM:
      f.says = "a device cgroup or security module forbids it, as container runtimes do by default";
      f.mend = {"docker run --device /dev/vfio/vfio --device /dev/vfio/NUMBER ..."};
      return f;
    default:
      f.says = std::string("cannot be opened: ") + std::strerror(answers.vfio_errno);
      return f;
  }
}

finding check_iommufd(const host_tree& host) {
  if (host.exists("/dev/iommu")) return {"/dev/iommu", ok, "there (iommufd)", {}};
  if (!has_module(host, "iommufd"))
    return {"/dev/iommu", note, "not there: this kernel has no iommufd; VFIO works without", {}};
  return {"/dev/iommu", note, "not there: iommufd is not loaded; VFIO works without", {"modprobe iommufd"}};
}

finding check_iommu(const host_tree& host, const std::vector<iommu_group>& groups) {
  const auto real = std::count_if(groups.begin(), groups.end(), [](const auto& g) { return g.iommu == group_iommu::real; });
  if (real != 0) return {"IOMMU", ok, "on, " + std::to_string(real) + (real == 1 ? " group" : " groups"), {}};
  const auto cpu = host.text("/proc/cpuinfo").value_or("");
  const bool guest = cpu.find(" hypervisor") != std::string::npos;
  return {"IOMMU", missing,
          std::string("off: the kernel made no IOMMU group") +
              (guest ? "; this is a virtual machine, whose host must give it one" : ""),
          mend_iommu(host, cpu, guest)};
}

finding check_group(const iommu_group& group, const system_answers& answers) {
  finding f{"group " + group.number, ok, list_of_devices(group), {}};
  if (group.iommu == group_iommu::none) {
    f.status = warning;
    f.says += ": has no IOMMU (no-IOMMU mode); Tidemark does not map for it";
    f.mend = {"echo 0 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"};
    return f;
  }
  if (!group.viable()) return not_viable(group, std::move(f));
  if (!group.has_vfio()) {
    f.status = note;
    f.says += ": viable, but no device of it is bound to VFIO";
    f.mend = commands_to_bind(group, [](const group_device& d) { return !d.is_bridge; });
    return f;
  }
  if (group.access_errno != 0) return not_open(group, answers, std::move(f));
  f.says += group.iommu == group_iommu::emulated ? ": ready (emulated IOMMU)" : ": viable, ready";
  return f;
}

finding check_memlock(const host_tree& host, const system_answers& answers) {
  const auto soft = limit_text(answers.memlock_soft_bytes);
  if (answers.memlock_soft_bytes == RLIM_INFINITY) return {"locked memory", ok, soft, {}};
  if (may_pin_all(host)) return {"locked memory", ok, soft + ", which does not bind this process (CAP_IPC_LOCK)", {}};
  finding f{"locked memory", warning, "limit " + soft + ", hard limit " + limit_text(answers.memlock_hard_bytes), {}};
  f.says += ": a real device cannot use more guest memory than that";
  if (answers.memlock_hard_bytes == RLIM_INFINITY) f.mend.push_back("ulimit -l unlimited");
  f.mend.push_back("systemd-run -p LimitMEMLOCK=infinity ...   # in a unit: LimitMEMLOCK=infinity");
  return f;
}

finding check_huge_pages(const host_tree& host) {
  bool reserved = false;
  auto says = list_reserved(host, reserved);
  const auto transparent = word_in_force(host.text("/sys/kernel/mm/transparent_hugepage/enabled").value_or(""));
  says += "transparent: " + transparent;
  if (reserved) return {"huge pages", ok, says, {}};
  const bool none = transparent == "never";
  return {"huge pages",
          none ? warning : note,
          says + (none ? "; mapping large memory takes longer without" : ""),
          {"echo 512 > /proc/sys/vm/nr_hugepages   # 1 GiB in pages of 2 MiB",
           "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"}};
}

diagnosis diagnose(const host_tree& host, const system_answers& answers) {
  diagnosis found;
  found.groups = read_iommu_groups(host);
  found.findings = {check_kernel(host), check_ring(host, answers), check_vfio(host, answers), check_iommufd(host),
                    check_iommu(host, found.groups)};
  for (const auto& group : found.groups) found.findings.push_back(check_group(group, answers));
  found.findings.push_back(check_memlock(host, answers));
  found.findings.push_back(check_huge_pages(host));
  found.model_demo = answers.ring_errno == 0;

  const bool ready = std::any_of(found.groups.begin(), found.groups.end(), [](const iommu_group& g) { return g.ready(); });
  std::vector<std::string> causes;
  if (answers.ring_errno != 0) causes.push_back("io_uring is not usable");
  if (answers.vfio_errno != 0) causes.push_back(no_file);
  if (!ready) causes.push_back(found.groups.empty() ? no_iommu : no_group);
  found.why_no_real_devices = join(causes);
  return found;
}

}  // namespace tidemark::cli
