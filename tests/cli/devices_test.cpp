// SPDX-License-Identifier: Apache-2.0

#include "cli/devices.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cerrno>

#include "cli/fake_host.hpp"

using namespace tidemark::cli;

namespace {

using enum device_state;

const std::string nic = "0x020000";
const std::string sound = "0x040300";
const std::string bridge = "0x060400";

/// A host where VFIO is there, and every process is seen.
struct open_host : test::fake_host {
  open_host() {
    files.file("/dev/vfio/vfio", "");
    every_process_is_seen();
  }

  /// A device that is VFIO's, in a group that this user may open.
  void vfio_device(const std::string& group, const std::string& address) {
    pci_device(group, address, "vfio-pci", nic);
    group_file(group);
  }

  device_list list(bool all = false) const { return list_devices(tree(), read_iommu_groups(tree()), 1000, all); }

  listed_device device(const std::string& name) const {
    const auto found = list(true).devices;
    const auto at = std::find_if(found.begin(), found.end(), [&](const auto& d) { return d.device.name == name; });
    BOOST_REQUIRE_MESSAGE(at != found.end(), name << " is not listed");
    return *at;
  }
};

void is(const listed_device& d, device_state state, const std::string& says) {
  BOOST_TEST((d.state == state), d.device.name << ": state " << static_cast<int>(d.state));
  BOOST_TEST(d.says == says);
}

void mends(const listed_device& d, const std::vector<std::string>& commands) {
  BOOST_TEST(d.mend == commands, boost::test_tools::per_element());
}

std::vector<std::string> commands_for(const std::string& address) {
  return {"modprobe vfio-pci", "echo vfio-pci > /sys/bus/pci/devices/" + address + "/driver_override",
          "echo " + address + " > /sys/bus/pci/devices/" + address + "/driver/unbind",
          "echo " + address + " > /sys/bus/pci/drivers_probe"};
}

std::string names_of(const device_list& list) {
  std::string names;
  for (const auto& d : list.devices) names += d.device.name + " ";
  return names;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(devices)

BOOST_AUTO_TEST_CASE(a_device_that_nobody_has_is_attachable) {
  open_host host;
  host.vfio_device("7", "0000:01:00.0");
  const auto d = host.device("0000:01:00.0");
  is(d, attachable, "attachable");
  mends(d, {});
  BOOST_TEST(d.group == "7");
  BOOST_TEST(d.group_file == "/dev/vfio/7");
  BOOST_TEST(d.path == "/sys/bus/pci/devices/0000:01:00.0");
  BOOST_TEST(d.class_id == nic);
  BOOST_TEST(d.vendor_id == "");
}

BOOST_AUTO_TEST_CASE(who_has_a_group_has_every_device_of_it_that_is_vfios) {
  open_host host;
  host.vfio_device("7", "0000:01:00.0");
  host.vfio_device("7", "0000:01:00.1");
  host.pci_device("7", "0000:01:00.2", "", nic);
  host.vfio_device("70", "0000:02:00.0");
  host.process("1234", "qemu-system-x86", "/dev/vfio/7");
  is(host.device("0000:01:00.0"), attached, "attached: qemu-system-x86, pid 1234");
  is(host.device("0000:01:00.1"), attached, "attached: qemu-system-x86, pid 1234");
  is(host.device("0000:01:00.2"), not_bound, "not bound to VFIO");
  is(host.device("0000:02:00.0"), attachable, "attachable");
  host.process("1300", "dpdk-testpmd", "/dev/vfio/7");
  is(host.device("0000:01:00.0"), attached, "attached: qemu-system-x86, pid 1234; dpdk-testpmd, pid 1300");
}

BOOST_AUTO_TEST_CASE(who_has_a_devices_own_file_has_its_group) {
  open_host host;
  host.vfio_device("7", "0000:01:00.0");
  host.vfio_device("7", "0000:01:00.1");
  host.files.directory("/sys/devices/pci0000:00/0000:01:00.0/vfio-dev/vfio3");
  host.process("50", "qemu-system-x86", "/dev/vfio/devices/vfio3");
  host.files.link("/proc/50/fd/9", "/dev/vfio/7");
  is(host.device("0000:01:00.0"), attached, "attached: qemu-system-x86, pid 50");
  is(host.device("0000:01:00.1"), attached, "attached: qemu-system-x86, pid 50");
  host.files.directory("/sys/devices/pci0000:00/0000:01:00.1/vfio-dev/vfio4");
  host.process("51", "other", "/dev/vfio/devices/vfio4");
  BOOST_TEST(host.device("0000:01:00.0").holders.size() == 2u);
}

BOOST_AUTO_TEST_CASE(attachable_is_not_said_for_sure_when_not_every_process_was_seen) {
  open_host host;
  host.vfio_device("7", "0000:01:00.0");
  host.files.file("/proc/77/fd/0", "");
  is(host.device("0000:01:00.0"), attachable, "attachable, unless a process not seen here has it");
  BOOST_TEST(as_text(host.list()).find("\nNot every process could be looked into: other users'") != std::string::npos);
  host.process("1234", "qemu-system-x86", "/dev/vfio/7");
  is(host.device("0000:01:00.0"), attached, "attached: qemu-system-x86, pid 1234");
  BOOST_TEST(as_text(host.list()).find("Not every process") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_group_that_is_not_viable_names_the_device_and_the_commands) {
  open_host host;
  host.vfio_device("7", "0000:06:00.0");
  host.pci_device("7", "0000:06:01.0", "virtio-pci", nic);
  is(host.device("0000:06:00.0"), not_viable, "not viable: 0000:06:01.0 is bound to virtio-pci");
  mends(host.device("0000:06:00.0"), commands_for("0000:06:01.0"));
  is(host.device("0000:06:01.0"), not_bound, "the host uses it");
  mends(host.device("0000:06:01.0"), commands_for("0000:06:01.0"));
}

BOOST_AUTO_TEST_CASE(a_device_changes_hands_with_those_of_its_group_that_the_host_uses) {
  open_host host;
  host.pci_device("7", "0000:01:00.0", "", nic);
  host.pci_device("7", "0000:01:00.1", "snd_hda_intel", sound);
  host.pci_device("7", "0000:01:00.2", "", nic);
  auto commands = commands_for("0000:01:00.1");
  commands.insert(commands.begin() + 1, {"echo vfio-pci > /sys/bus/pci/devices/0000:01:00.0/driver_override",
                                         "echo 0000:01:00.0 > /sys/bus/pci/drivers_probe"});
  mends(host.device("0000:01:00.0"), commands);
}

BOOST_AUTO_TEST_CASE(files_that_cannot_be_opened) {
  open_host no_group_file;
  no_group_file.pci_device("7", "0000:01:00.0", "vfio-pci", nic);
  is(no_group_file.device("0000:01:00.0"), cannot_open, "/dev/vfio/7: No such file or directory");
  mends(no_group_file.device("0000:01:00.0"), {"udevadm trigger"});

  test::fake_host no_vfio;
  no_vfio.kernel("6.1.0", "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n");
  no_vfio.pci_device("7", "0000:01:00.0", "vfio-pci", nic);
  no_vfio.group_file("7");
  const auto d = list_devices(no_vfio.tree(), read_iommu_groups(no_vfio.tree()), 1000, false).devices.at(0);
  is(d, cannot_open, "/dev/vfio/vfio: No such file or directory");
  mends(d, {"modprobe vfio-pci"});
}

BOOST_AUTO_TEST_CASE(a_file_that_this_user_may_not_open) {
  open_host host;
  host.vfio_device("7", "0000:01:00.0");
  auto groups = read_iommu_groups(host.tree());
  groups.at(0).access_errno = EACCES;  // said here, since root, as whom tests may run, may open any file
  const auto d = list_devices(host.tree(), groups, 1000, false).devices.at(0);
  is(d, cannot_open, "no permission on /dev/vfio/7");
  mends(d, {"chown 1000 /dev/vfio/7"});
}

BOOST_AUTO_TEST_CASE(a_group_without_iommu_is_recognised) {
  open_host host;
  host.emulated_device("3", "0000:01:00.0");
  host.group_file("noiommu-3");
  const auto d = host.device("0000:01:00.0");
  is(d, no_iommu, "no IOMMU: nothing can be mapped");
  BOOST_TEST(d.group_file == "/dev/vfio/noiommu-3");
  BOOST_TEST(!d.mend.empty());
  host.process("60", "dpdk-testpmd", "/dev/vfio/noiommu-3");
  is(host.device("0000:01:00.0"), attached, "attached: dpdk-testpmd, pid 60");
}

BOOST_AUTO_TEST_CASE(only_vfios_are_listed_unless_all_are_asked_for) {
  open_host host;
  host.pci_device("1", "0000:00:01.0", "pcieport", bridge);
  host.pci_device("2", "0000:00:02.0", "e1000e", nic);
  host.pci_device("3", "0000:00:03.0", "pcieport", bridge);
  host.vfio_device("3", "0000:03:00.0");
  host.pci_device("3", "0000:03:00.1", "", nic);
  host.emulated_device("4", "tidemark-test.0");
  host.group_file("4");
  BOOST_TEST(names_of(host.list()) == "0000:03:00.0 tidemark-test.0 ");
  BOOST_TEST(host.list().can_be_given == 2u);
  BOOST_TEST(names_of(host.list(true)) == "0000:00:02.0 0000:00:03.0 0000:03:00.0 0000:03:00.1 tidemark-test.0 ");
  BOOST_TEST(host.list(true).can_be_given == 0u);
  is(host.device("0000:00:03.0"), not_for_vfio, "a bridge: VFIO takes none");
  mends(host.device("0000:00:03.0"), {});
}

BOOST_AUTO_TEST_CASE(a_device_of_another_bus_has_no_command_that_would_not_make_it_attachable) {
  open_host host;
  host.files.link("/sys/devices/platform/serial0/subsystem", "../../../bus/platform");
  host.files.link("/sys/devices/platform/serial0/driver", "../../../bus/platform/drivers/uart");
  host.files.link("/sys/kernel/iommu_groups/5/devices/serial0", "../../../../devices/platform/serial0");
  BOOST_TEST(host.list(true).devices.empty());
  host.vfio_device("5", "0000:05:00.0");
  is(host.device("serial0"), not_for_vfio, "the host uses it");
  mends(host.device("serial0"), {});
}

BOOST_AUTO_TEST_CASE(the_table) {
  open_host host;
  host.vfio_device("5", "0000:05:00.0");
  host.process("1234", "qemu-system-x86", "/dev/vfio/5");
  host.vfio_device("6", "0000:06:00.0");
  host.vfio_device("6", "0000:06:00.1");
  host.pci_device("6", "0000:06:01.0", "virtio-pci", nic);
  host.emulated_device("10", "tidemark-test.0");
  host.group_file("10");
  BOOST_TEST(as_text(host.list()) ==
             "DEVICE           GROUP  IOMMU     DRIVER         STATE\n"
             "0000:05:00.0     5      real      vfio-pci       attached: qemu-system-x86, pid 1234\n"
             "0000:06:00.0     6      real      vfio-pci       not viable: 0000:06:01.0 is bound to virtio-pci\n"
             "0000:06:00.1     6      real      vfio-pci       not viable: 0000:06:01.0 is bound to virtio-pci\n"
             "    $ modprobe vfio-pci\n"
             "    $ echo vfio-pci > /sys/bus/pci/devices/0000:06:01.0/driver_override\n"
             "    $ echo 0000:06:01.0 > /sys/bus/pci/devices/0000:06:01.0/driver/unbind\n"
             "    $ echo 0000:06:01.0 > /sys/bus/pci/drivers_probe\n"
             "tidemark-test.0  10     emulated  tidemark-test  attachable\n"
             "\n"
             "1 more could be given to VFIO: tidemark devices --all\n");
}

BOOST_AUTO_TEST_CASE(no_devices_are_one_line_that_points_to_doctor) {
  open_host host;
  BOOST_TEST(as_text(host.list()) ==
             "No VFIO devices here, and none that could be given to VFIO: tidemark doctor says why\n");
  host.pci_device("2", "0000:00:02.0", "e1000e", nic);
  BOOST_TEST(
      as_text(host.list()) ==
      "No VFIO devices here, but 1 that could be given to VFIO: tidemark devices --all lists them, tidemark doctor says "
      "what else is missing\n");
}

BOOST_AUTO_TEST_CASE(json_has_all_of_it_on_one_line) {
  open_host host;
  host.vfio_device("7", "0000:01:00.0");
  host.files.file("/sys/devices/pci0000:00/0000:01:00.0/vendor", "0x8086\n");
  host.files.file("/sys/devices/pci0000:00/0000:01:00.0/device", "0x10d3\n");
  host.process("1234", "qemu-system-x86", "/dev/vfio/7");
  const auto text = as_json(host.list());
  BOOST_TEST(std::count(text.begin(), text.end(), '\n') == 1);
  const auto expected = boost::json::parse(R"({
    "devices": [{
      "name": "0000:01:00.0", "bus": "pci", "driver": "vfio-pci", "vfio": true, "bridge": false, "prevents": false,
      "path": "/sys/bus/pci/devices/0000:01:00.0", "vendor": "0x8086", "device": "0x10d3", "class": "0x020000",
      "group": "7", "group_file": "/dev/vfio/7", "iommu": "real",
      "state": "attached", "says": "attached: qemu-system-x86, pid 1234",
      "attached_by": [{"process": "qemu-system-x86", "pid": 1234}], "mend": []
    }],
    "can_be_given": 0, "all_processes": true, "why_not_all_processes": null})");
  BOOST_TEST((boost::json::parse(text) == expected), text);
}

BOOST_AUTO_TEST_CASE(json_has_null_for_what_a_device_does_not_have) {
  test::fake_host host;
  host.emulated_device("4", "tidemark-test.0");
  const auto root = boost::json::parse(as_json(list_devices(host.tree(), read_iommu_groups(host.tree()), 1000, false)));
  const auto& device = root.at("devices").as_array().at(0);
  BOOST_TEST(device.at("vendor").is_null());
  BOOST_TEST(std::string(device.at("iommu").as_string()) == "emulated");
  BOOST_TEST(std::string(device.at("state").as_string()) == "cannot_open");
  BOOST_TEST(!root.at("all_processes").as_bool());
  BOOST_TEST(!root.at("why_not_all_processes").as_string().empty());
}

BOOST_AUTO_TEST_SUITE_END()
