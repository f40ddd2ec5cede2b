// SPDX-License-Identifier: Apache-2.0

#include "cli/iommu_groups.hpp"

#include <boost/test/unit_test.hpp>

#include "cli/fake_host.hpp"

using namespace tidemark::cli;

namespace {

const std::string nic = "0x020000";
const std::string sound = "0x040300";
const std::string bridge = "0x060400";

iommu_group only_group(const test::fake_host& host) {
  const auto groups = read_iommu_groups(host.tree());
  BOOST_REQUIRE(groups.size() == 1u);
  return groups.front();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(iommu_groups)

BOOST_AUTO_TEST_CASE(a_host_without_iommu_has_none) {
  test::fake_host host;
  BOOST_TEST(read_iommu_groups(host.tree()).empty());
  host.files.directory("/sys/kernel/iommu_groups");
  BOOST_TEST(read_iommu_groups(host.tree()).empty());
}

BOOST_AUTO_TEST_CASE(a_file_that_is_a_directory_has_no_text) {
  test::fake_host host;
  host.files.directory("/proc/cmdline");
  BOOST_TEST(host.tree().text("/proc/cmdline").value_or("") == "");
  BOOST_TEST(!host.tree().text("/proc/cpuinfo").has_value());
  BOOST_TEST(!host.tree().number("/proc/cmdline").has_value());
}

BOOST_AUTO_TEST_CASE(groups_come_in_the_order_of_their_numbers) {
  test::fake_host host;
  for (const auto* number : {"10", "9", "0"}) host.pci_device(number, std::string("0000:00:") + number + ".0", "", nic);
  const auto groups = read_iommu_groups(host.tree());
  BOOST_REQUIRE(groups.size() == 3u);
  BOOST_TEST(groups[0].number == "0");
  BOOST_TEST(groups[1].number == "9");
  BOOST_TEST(groups[2].number == "10");
}

BOOST_AUTO_TEST_CASE(drivers_of_vfio_stubs_bridges_and_idle_devices_leave_a_group_viable) {
  test::fake_host host;
  host.pci_device("7", "0000:01:00.0", "vfio-pci", nic);
  host.pci_device("7", "0000:01:00.1", "mlx5_vfio_pci", nic);
  host.pci_device("7", "0000:01:00.2", "pci-stub", nic);
  host.pci_device("7", "0000:01:00.3", "", nic);
  host.pci_device("7", "0000:00:01.0", "pcieport", bridge);
  host.pci_device("7", "0000:00:02.0", "shpchp", bridge);
  host.group_file("7");
  const auto group = only_group(host);
  BOOST_TEST(group.devices.size() == 6u);
  BOOST_TEST(group.devices[0].name == "0000:00:01.0");
  BOOST_TEST(group.devices[0].bus == "pci");
  BOOST_TEST(group.viable());
  BOOST_TEST(group.ready());
}

BOOST_AUTO_TEST_CASE(a_device_that_the_host_drives_prevents) {
  test::fake_host host;
  host.pci_device("7", "0000:01:00.0", "vfio-pci", nic);
  host.pci_device("7", "0000:01:00.1", "snd_hda_intel", sound);
  host.group_file("7");
  const auto group = only_group(host);
  BOOST_TEST(!group.viable());
  BOOST_TEST(!group.ready());
  BOOST_TEST(!group.devices[0].prevents());
  BOOST_TEST(group.devices[1].prevents());
  BOOST_TEST(group.devices[1].driver == "snd_hda_intel");
}

BOOST_AUTO_TEST_CASE(viable_is_not_ready_before_a_device_is_vfios_and_the_file_is_there) {
  test::fake_host host;
  host.pci_device("7", "0000:01:00.0", "", nic);
  host.group_file("7");
  BOOST_TEST(only_group(host).viable());
  BOOST_TEST(!only_group(host).ready());

  test::fake_host no_file;
  no_file.pci_device("7", "0000:01:00.0", "vfio-pci", nic);
  BOOST_TEST(only_group(no_file).access_errno == ENOENT);
  BOOST_TEST(!only_group(no_file).ready());
}

BOOST_AUTO_TEST_CASE(a_device_registered_with_vfio_is_vfios_whatever_its_driver_is_called) {
  test::fake_host host;
  host.pci_device("7", "0000:01:00.0", "nvgrace", nic);
  host.files.directory("/sys/devices/pci0000:00/0000:01:00.0/vfio-dev/vfio0");
  host.group_file("7");
  BOOST_TEST(only_group(host).ready());
}

BOOST_AUTO_TEST_CASE(emulated_groups_are_told_from_those_without_iommu_by_their_file) {
  test::fake_host host;
  host.emulated_device("3", "tidemark-test.0");
  host.group_file("3");
  BOOST_TEST((only_group(host).iommu == group_iommu::emulated));
  BOOST_TEST(only_group(host).ready());

  BOOST_TEST(only_group(host).file() == "/dev/vfio/3");

  host.group_file("noiommu-3");
  BOOST_TEST(only_group(host).file() == "/dev/vfio/noiommu-3");
  BOOST_TEST((only_group(host).iommu == group_iommu::none));
  BOOST_TEST(!only_group(host).ready());
}

BOOST_AUTO_TEST_CASE(a_device_changes_hands_by_exact_commands) {
  const std::vector<std::string> bound{"echo vfio-pci > /sys/bus/pci/devices/0000:01:00.1/driver_override",
                                       "echo 0000:01:00.1 > /sys/bus/pci/devices/0000:01:00.1/driver/unbind",
                                       "echo 0000:01:00.1 > /sys/bus/pci/drivers_probe"};
  BOOST_TEST(commands_to_bind({"0000:01:00.1", "pci", "snd_hda_intel"}) == bound, boost::test_tools::per_element());
  const std::vector<std::string> idle{bound[0], bound[2]};
  BOOST_TEST(commands_to_bind({"0000:01:00.1", "pci", ""}) == idle, boost::test_tools::per_element());
  const std::vector<std::string> platform{"echo serial0 > /sys/bus/platform/devices/serial0/driver/unbind"};
  BOOST_TEST(commands_to_bind({"serial0", "platform", "uart"}) == platform, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_SUITE_END()
