// SPDX-License-Identifier: Apache-2.0

#include "cli/doctor.hpp"

#include <sys/resource.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cerrno>

#include "cli/fake_host.hpp"

using namespace tidemark::cli;

namespace {

using enum finding_status;

const std::string nic = "0x020000";
const std::string sound = "0x040300";

void is(const finding& f, finding_status status, std::string_view says) {
  BOOST_TEST((f.status == status), f.what << ": status " << static_cast<int>(f.status) << ", " << f.says);
  BOOST_TEST(f.says.find(says) != std::string::npos, f.says);
  BOOST_TEST((f.status == ok || f.status == note || !f.mend.empty()), f.what << " says not how to mend it");
}

bool mends(const finding& f, const std::string& command) {
  return std::any_of(f.mend.begin(), f.mend.end(), [&](const auto& m) { return m.starts_with(command); });
}

finding ring_without(int errno_value, const std::string& disabled = {}) {
  test::fake_host host;
  if (!disabled.empty()) host.files.file("/proc/sys/kernel/io_uring_disabled", disabled + "\n");
  host.files.file("/proc/sys/kernel/io_uring_group", "-1\n");
  system_answers answers;
  answers.ring_errno = errno_value;
  answers.group = 1000;
  return check_ring(host.tree(), answers);
}

finding vfio_without(int errno_value, const std::string& modules) {
  test::fake_host host;
  host.kernel("6.1.0-13-amd64", modules);
  system_answers answers;
  answers.vfio_errno = errno_value;
  answers.user = 1000;
  return check_vfio(host.tree(), answers);
}

finding iommu_off(const std::string& cpuinfo, const std::string& command_line) {
  test::fake_host host;
  host.files.file("/proc/cpuinfo", cpuinfo);
  host.files.file("/proc/cmdline", command_line);
  return check_iommu(host.tree(), {});
}

finding memlock(std::uint64_t soft, std::uint64_t hard, const std::string& capabilities) {
  test::fake_host host;
  host.files.file("/proc/self/status", "Name:\tx\nCapEff:\t" + capabilities + "\nSeccomp:\t0\n");
  system_answers answers;
  answers.memlock_soft_bytes = soft;
  answers.memlock_hard_bytes = hard;
  return check_memlock(host.tree(), answers);
}

finding group_finding(const test::fake_host& host, unsigned user = 0) {
  system_answers answers;
  answers.user = user;
  return check_group(read_iommu_groups(host.tree()).front(), answers);
}

/// A host on which all is well.
struct good_host : test::fake_host {
  good_host() {
    kernel("6.12.1", "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n");
    files.file("/dev/iommu", "");
    pci_device("7", "0000:01:00.0", "vfio-pci", nic);
    group_file("7");
    files.file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
    files.file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "12\n");
    files.file("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
    answers.ring_defers = true;
    answers.memlock_soft_bytes = RLIM_INFINITY;
  }
  system_answers answers;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(doctor)

BOOST_AUTO_TEST_CASE(kernel_versions) {
  const auto with = [](const std::string& release) {
    test::fake_host host;
    host.kernel(release);
    return check_kernel(host.tree());
  };
  is(with("6.18.44-fc"), ok, "6.18.44-fc");
  is(with("6.1.0-13-amd64"), ok, "6.1.0-13-amd64");
  is(with("6.0.3"), warning, "6.1 or newer");
  is(with("5.10.0-28-amd64"), missing, "5.19 or newer");
  is(check_kernel(test::fake_host().tree()), warning, "cannot be read");
}

BOOST_AUTO_TEST_CASE(a_ring_that_works) {
  test::fake_host host;
  system_answers answers;
  is(check_ring(host.tree(), answers), warning, "without DEFER_TASKRUN");
  answers.ring_defers = true;
  is(check_ring(host.tree(), answers), ok, "DEFER_TASKRUN");
}

BOOST_AUTO_TEST_CASE(a_ring_that_is_refused_has_a_cause_and_a_command) {
  const auto off = ring_without(EPERM, "2");
  is(off, missing, "switched off for everyone");
  BOOST_TEST(mends(off, "sysctl -w kernel.io_uring_disabled=0"));
  const auto kept = ring_without(EPERM, "1");
  is(kept, missing, "CAP_SYS_ADMIN");
  BOOST_TEST(mends(kept, "sysctl -w kernel.io_uring_group=1000"));
  const auto filtered = ring_without(EPERM, "0");
  is(filtered, missing, "seccomp");
  BOOST_TEST(mends(filtered, "docker run --security-opt seccomp="));
  BOOST_TEST(mends(ring_without(EPERM), "docker run --security-opt seccomp="));
  is(ring_without(ENOSYS), missing, "no io_uring");
  is(ring_without(EINVAL), missing, "too old");
  BOOST_TEST(mends(ring_without(ENOMEM), "ulimit -l unlimited"));
  BOOST_TEST(mends(ring_without(EMFILE), "ulimit -n"));
  BOOST_TEST(mends(ring_without(ENFILE), "sysctl -w fs.file-max"));
}

BOOST_AUTO_TEST_CASE(the_file_of_vfio) {
  const std::string modules = "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\n";
  is(vfio_without(0, modules), ok, "can be opened");
  const auto unloaded = vfio_without(ENOENT, modules);
  is(unloaded, missing, "not loaded");
  BOOST_TEST(unloaded.mend.front() == "modprobe vfio-pci");
  const auto no_module = vfio_without(ENOENT, "kernel/drivers/net/dummy.ko:\n");
  is(no_module, missing, "(6.1.0-13-amd64) has no vfio-pci module");
  BOOST_TEST(mends(no_module, "apt install linux-image-amd64"));
  is(vfio_without(ENODEV, modules), missing, "nothing answers");
  const auto denied = vfio_without(EACCES, modules);
  is(denied, missing, "may not open");
  BOOST_TEST(mends(denied, "chown 1000 /dev/vfio/NUMBER"));
  BOOST_TEST(mends(vfio_without(EPERM, modules), "docker run --device /dev/vfio/vfio"));
}

BOOST_AUTO_TEST_CASE(iommufd_is_no_must) {
  test::fake_host host;
  host.kernel("6.6.0", "kernel/drivers/iommu/iommufd/iommufd.ko:\n");
  is(check_iommufd(host.tree()), note, "not loaded");
  BOOST_TEST(mends(check_iommufd(host.tree()), "modprobe iommufd"));
  host.files.file("/dev/iommu", "");
  is(check_iommufd(host.tree()), ok, "there");
  is(check_iommufd(test::fake_host().tree()), note, "this kernel has no iommufd");
}

BOOST_AUTO_TEST_CASE(an_iommu_that_is_off_is_switched_on_where_that_is_done) {
  const std::string intel = "vendor_id\t: GenuineIntel\nflags\t\t: fpu vmx\n";
  const std::string amd = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm\n";
  BOOST_TEST(mends(iommu_off(intel, "quiet"), "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on iommu=pt /'"));
  BOOST_TEST(mends(iommu_off(amd, "quiet"), "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&amd_iommu=on iommu=pt /'"));
  BOOST_TEST(mends(iommu_off(intel, "quiet intel_iommu=on"), "systemctl reboot --firmware-setup"));
  BOOST_TEST(mends(iommu_off("CPU implementer\t: 0x41\n", "quiet"), "systemctl reboot --firmware-setup"));
  const auto guest = iommu_off("vendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor svm\n", "quiet");
  is(guest, missing, "virtual machine");
  BOOST_TEST(mends(guest, "qemu-system-x86_64 "));
  BOOST_TEST(mends(guest, "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on"));
}

BOOST_AUTO_TEST_CASE(an_iommu_that_is_on) {
  iommu_group real;
  iommu_group emulated;
  emulated.iommu = group_iommu::emulated;
  is(check_iommu(test::fake_host().tree(), {real, real, emulated}), ok, "on, 2 groups");
  is(check_iommu(test::fake_host().tree(), {emulated}), missing, "off");
}

BOOST_AUTO_TEST_CASE(a_group_that_is_ready) {
  test::fake_host host;
  host.pci_device("7", "0000:01:00.0", "vfio-pci", nic);
  host.pci_device("7", "0000:01:00.1", "", sound);
  host.group_file("7");
  const auto f = group_finding(host);
  BOOST_TEST(f.what == "group 7");
  is(f, ok, "0000:01:00.0 (vfio-pci), 0000:01:00.1 (no driver): viable, ready");
}

BOOST_AUTO_TEST_CASE(a_group_that_is_not_viable_names_the_device_and_the_commands) {
  test::fake_host host;
  host.pci_device("7", "0000:01:00.0", "vfio-pci", nic);
  host.pci_device("7", "0000:01:00.1", "snd_hda_intel", sound);
  host.group_file("7");
  const auto f = group_finding(host);
  is(f, warning, "not viable, because 0000:01:00.1 is bound to snd_hda_intel");
  const std::vector<std::string> commands{"modprobe vfio-pci",
                                          "echo vfio-pci > /sys/bus/pci/devices/0000:01:00.1/driver_override",
                                          "echo 0000:01:00.1 > /sys/bus/pci/devices/0000:01:00.1/driver/unbind",
                                          "echo 0000:01:00.1 > /sys/bus/pci/drivers_probe"};
  BOOST_TEST(f.mend == commands, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_group_that_the_host_uses_is_no_fault) {
  test::fake_host host;
  host.pci_device("7", "0000:01:00.0", "e1000e", nic);
  const auto f = group_finding(host);
  is(f, note, "the host uses it; 0000:01:00.0 is bound to e1000e");
  BOOST_TEST(mends(f, "echo 0000:01:00.0 > /sys/bus/pci/devices/0000:01:00.0/driver/unbind"));
}

BOOST_AUTO_TEST_CASE(other_states_of_a_group) {
  test::fake_host idle;
  idle.pci_device("7", "0000:01:00.0", "", nic);
  is(group_finding(idle), note, "no device of it is bound to VFIO");
  BOOST_TEST(mends(group_finding(idle), "echo 0000:01:00.0 > /sys/bus/pci/drivers_probe"));

  test::fake_host no_file;
  no_file.pci_device("7", "0000:01:00.0", "vfio-pci", nic);
  is(group_finding(no_file), warning, "/dev/vfio/7: No such file");

  iommu_group denied = read_iommu_groups(no_file.tree()).front();
  denied.access_errno = EACCES;
  system_answers answers;
  answers.user = 1000;
  is(check_group(denied, answers), warning, "/dev/vfio/7: Permission denied");
  BOOST_TEST(mends(check_group(denied, answers), "chown 1000 /dev/vfio/7"));

  no_file.files.file("/sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
  no_file.group_file("noiommu-7");
  is(group_finding(no_file), warning, "has no IOMMU");
}

BOOST_AUTO_TEST_CASE(locked_memory) {
  const std::string none = "0000000000000000";
  is(memlock(RLIM_INFINITY, RLIM_INFINITY, none), ok, "unlimited");
  is(memlock(8 << 20, 8 << 20, "000001ffffffffff"), ok, "8MiB, which does not bind this process");
  const auto raisable = memlock(8 << 20, RLIM_INFINITY, none);
  is(raisable, warning, "limit 8MiB, hard limit unlimited");
  BOOST_TEST(mends(raisable, "ulimit -l unlimited"));
  const auto hard = memlock(8 << 20, 8 << 20, none);
  is(hard, warning, "hard limit 8MiB");
  BOOST_TEST(!mends(hard, "ulimit -l unlimited"));
  BOOST_TEST(mends(hard, "systemd-run -p LimitMEMLOCK=infinity"));
}

BOOST_AUTO_TEST_CASE(huge_pages) {
  is(check_huge_pages(good_host().tree()), ok, "512 of 2MiB reserved (12 free), transparent: never");
  test::fake_host host;
  host.files.file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n");
  host.files.file("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  is(check_huge_pages(host.tree()), note, "0 of 2MiB reserved (0 free), transparent: madvise");
  is(check_huge_pages(test::fake_host().tree()), warning, "transparent: never");
}

BOOST_AUTO_TEST_CASE(a_good_host_can_do_all) {
  const good_host host;
  const auto found = diagnose(host.tree(), host.answers);
  for (const auto& f : found.findings) BOOST_TEST((f.status == ok), f.what << ": " << f.says);
  BOOST_TEST(found.model_demo);
  BOOST_TEST(found.why_no_real_devices == "");
  BOOST_TEST(as_text(found, false, false) ==
             "kernel          ok       6.12.1\n"
             "io_uring        ok       usable, with SINGLE_ISSUER and DEFER_TASKRUN\n"
             "/dev/vfio/vfio  ok       can be opened\n"
             "/dev/iommu      ok       there (iommufd)\n"
             "IOMMU           ok       on, 1 group\n"
             "group 7         ok       0000:01:00.0 (vfio-pci): viable, ready\n"
             "locked memory   ok       unlimited\n"
             "huge pages      ok       512 of 2MiB reserved (12 free), transparent: never\n"
             "\n"
             "model demo:   can run here: tidemark demo\n"
             "real devices: available here\n");
}

BOOST_AUTO_TEST_CASE(what_is_not_there_is_said_at_the_end) {
  system_answers answers;
  answers.vfio_errno = ENOENT;
  const auto bare = diagnose(test::fake_host().tree(), answers);
  BOOST_TEST(bare.model_demo);
  BOOST_TEST(bare.why_no_real_devices == "/dev/vfio/vfio cannot be used, and no IOMMU is switched on");

  good_host host;
  host.pci_device("7", "0000:01:00.1", "snd_hda_intel", sound);
  const auto blocked = diagnose(host.tree(), host.answers);
  BOOST_TEST(blocked.why_no_real_devices == "no IOMMU group is ready for VFIO");

  host.answers.ring_errno = EPERM;
  BOOST_TEST(!diagnose(host.tree(), host.answers).model_demo);
}

BOOST_AUTO_TEST_CASE(text_has_commands_for_faults_and_for_notes_when_asked) {
  diagnosis found;
  found.findings = {{"a", warning, "wrong", {"mend it"}}, {"bcd", note, "so", {"change it"}}};
  const auto brief = as_text(found, false, false);
  BOOST_TEST(brief.starts_with("a    warning  wrong\n"
                               "              $ mend it\n"
                               "bcd  note     so\n"
                               "\n"
                               "model demo:   cannot run here"),
             brief);
  BOOST_TEST(brief.find("tidemark doctor --all") != std::string::npos);
  const auto whole = as_text(found, false, true);
  BOOST_TEST(whole.find("$ change it") != std::string::npos);
  BOOST_TEST(whole.find("--all") == std::string::npos);
  BOOST_TEST(brief.find('\033') == std::string::npos);
  BOOST_TEST(as_text(found, true, false).find("\033[33mwarning\033[0m") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(json_has_the_same) {
  good_host host;
  host.pci_device("7", "0000:01:00.1", "snd_hda_intel", sound);
  const auto text = as_json(diagnose(host.tree(), host.answers));
  const auto root = boost::json::parse(text);
  BOOST_TEST(root.at("model_demo").as_bool());
  BOOST_TEST(!root.at("real_devices").as_bool());
  BOOST_TEST(std::string(root.at("why_no_real_devices").as_string()) == "no IOMMU group is ready for VFIO");
  BOOST_TEST(root.at("findings").as_array().size() == 8u);
  const auto& group = root.at("groups").as_array().at(0);
  BOOST_TEST(!group.at("viable").as_bool());
  BOOST_TEST(group.at("devices").as_array().at(1).at("prevents").as_bool());
  BOOST_TEST(std::string(group.at("devices").as_array().at(1).at("driver").as_string()) == "snd_hda_intel");
}

BOOST_AUTO_TEST_CASE(this_host_answers) {
  const auto found = diagnose(host_tree(), ask_system());
  BOOST_TEST(found.findings.size() == 7u + found.groups.size());
  for (const auto& f : found.findings) BOOST_TEST(!f.says.empty(), f.what);
}

BOOST_AUTO_TEST_SUITE_END()
