// SPDX-License-Identifier: Apache-2.0
//
// lifecycle_test [-- --kernel=linux]
//
// Devices, groups and containers as an address space brings them together and takes them apart (R1 to R13). Runs on the
// model, and in the test guest on the real kernel; what a kernel cannot show is said, with the reason. In
// the same program regions_test.cpp has what is mapped of regions (R23, R31), handover_test.cpp memory that moves (R24).

#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <cstdlib>
#include <numeric>
#include <set>

#include "lifecycle/fixture.hpp"

namespace tidemark::lifecycle {

BOOST_AUTO_TEST_SUITE(life_cycle)

// --- R1: a device is found by its sysfs path ---

// covers R1
BOOST_FIXTURE_TEST_CASE(r1_what_names_no_device_is_refused_with_the_reason, fixture) {
  const auto missing = failure_of(attach("/sys/bus/platform/devices/nowhere"));
  BOOST_TEST(missing.code.value() == ENOENT);
  BOOST_TEST(says(missing, "/sys/bus/platform/devices/nowhere/iommu_group"));
  const auto absent = failure_of(attach("0000:7f:1f.7"));
  BOOST_TEST(absent.code.value() == ENOENT);
  BOOST_TEST(says(absent, "/sys/bus/pci/devices/0000:7f:1f.7/iommu_group"));
  for (const auto* which : {"", "nic0", "00:1f", "00:04.0.1", "0:0:4.0", "00:04.x", "00000:4.0", "1:2:3:4.0"})
    BOOST_TEST(says(failure_of(attach(which)), "is neither a PCI address (0000:01:00.0) nor a sysfs path"), which);
}

// covers R1: with links as they stand in a file system
BOOST_AUTO_TEST_CASE(r1_a_link_that_ends_in_no_number_names_itself) {
  std::array<char, 32> folder{"/tmp/tidemark-XXXXXX"};
  BOOST_REQUIRE(::mkdtemp(folder.data()) != nullptr);
  const std::string link = std::string(folder.data()) + "/iommu_group";
  BOOST_REQUIRE(::symlink("../../kernel/iommu_groups/seven", link.c_str()) == 0);
  stage real(on::linux);
  const auto failed = failure_of(real.attach(folder.data()));
  BOOST_TEST(failed.code.value() == EINVAL);
  BOOST_TEST(says(failed, link + " ends in 'seven', which is no group number"));
  BOOST_TEST(::unlink(link.c_str()) == 0);
  BOOST_TEST(::rmdir(folder.data()) == 0);
}

// covers R1
BOOST_FIXTURE_TEST_CASE(r1_a_pci_device_has_three_names, fixture) {
  for (const auto& name : {edu(), edu().substr(5), "/sys/bus/pci/devices/" + edu() + "/"}) {
    const auto attached = attach(name);
    BOOST_REQUIRE_MESSAGE(attached.has_value(), name << ": " << attached.error().message());
    BOOST_TEST(attached->name() == edu());
    BOOST_TEST(attached->group() == groups().backed->number);
    BOOST_REQUIRE(detach(*attached));
  }
}

// --- R2: a group is opened once, and belongs to one address space ---

// covers R2
BOOST_FIXTURE_TEST_CASE(r2_devices_of_a_group_share_its_file, fixture) {
  BOOST_REQUIRE(attach(pair().device));
  const auto before = held();
  BOOST_REQUIRE(attach(pair().other));
  BOOST_TEST(held().descriptors == before.descriptors + 1);  // the device's own
  BOOST_TEST(space().containers().size() == 1U);
}

// covers R2
BOOST_FIXTURE_TEST_CASE(r2_a_group_in_another_address_space_is_refused, fixture) {
  BOOST_REQUIRE(attach(pair().device));
  const auto other = another_space();
  const auto before = held();
  const auto refused = failure_of(attach_to(*other, pair().other));
  BOOST_TEST(refused.code == make_error_code(errc::group_in_other_space));
  BOOST_TEST(says(refused, "group " + std::to_string(pair().number) + " used in multiple address spaces"));
  BOOST_TEST(held() == before);
  BOOST_REQUIRE(detach(space().devices().front()));
  BOOST_TEST(attach_to(*other, pair().other).has_value());
}

// covers R2
BOOST_FIXTURE_TEST_CASE(r2_a_group_that_is_not_viable_is_refused_with_the_hint, fixture) {
  const auto refused = failure_of(attach(groups().not_viable->device));
  BOOST_TEST(refused.code == make_error_code(errc::group_not_viable));
  BOOST_TEST(says(refused, "every device of group " + std::to_string(groups().not_viable->number) +
                               " must be bound to its vfio bus driver"));
}

// covers R2
BOOST_FIXTURE_TEST_CASE(r2_a_group_that_another_process_has_is_refused, fixture) {
  const auto path = "/dev/vfio/" + std::to_string(groups().emulated[0].number);
  const int fd = bare_kernel().open(path.c_str(), O_RDWR);
  BOOST_REQUIRE(fd >= 0);
  const auto refused = failure_of(attach(emulated()));
  BOOST_TEST(refused.code.value() == EBUSY);
  BOOST_TEST(says(refused, "is in use by another container or process"));
  bare_kernel().close(fd);
  BOOST_TEST(attach(emulated()).has_value());
}

// --- R3: containers that are there come first ---

// covers R3
BOOST_FIXTURE_TEST_CASE(r3_a_group_joins_the_container_that_is_there, fixture) {
  BOOST_REQUIRE(add(0, 4));
  BOOST_REQUIRE(attach(emulated()));
  const auto before = held();
  kernel().clear();
  BOOST_REQUIRE(attach(edu()));
  BOOST_TEST(space().containers().size() == 1U);
  BOOST_TEST(held().mappings == before.mappings);
  for (const auto& call : kernel().trace()) BOOST_TEST(call.path != "/dev/vfio/vfio");
}

// covers R3
BOOST_AUTO_TEST_CASE(r3_a_group_that_fits_no_container_gets_its_own) {
  if (only_the_model("every group of the guest fits")) return;
  fixture here(apart);
  BOOST_REQUIRE(here.add(0, 4));
  for (std::size_t i = 0; i < 2; ++i) BOOST_REQUIRE(here.attach(here.emulated(i)));
  BOOST_REQUIRE(here.attach(here.edu()));
  BOOST_TEST(here.space().containers().size() == 3U);
  BOOST_TEST(here.held().containers == 3U);
  BOOST_TEST(here.held().mappings == 3U);
  BOOST_REQUIRE(here.add(16 * page, 4));
  BOOST_TEST(here.held().mappings == 6U);
}

// covers R3: every one that is there is tried, in their order, before a new one is opened
BOOST_AUTO_TEST_CASE(r3_every_container_is_tried_before_a_new_one) {
  if (only_the_model("every group of the guest fits")) return;
  fixture here(apart);
  for (std::size_t i = 0; i < 2; ++i) BOOST_REQUIRE(here.attach(here.emulated(i)));
  here.kernel().clear();
  BOOST_REQUIRE(here.attach(here.edu()));
  std::vector<std::string> story;
  for (const auto& call : here.kernel().trace())
    if (call.name == "VFIO_GROUP_SET_CONTAINER" || call.path == "/dev/vfio/vfio")
      story.push_back(call.name + (call.answer < 0 ? " refused" : ""));
  BOOST_TEST(story == (std::vector<std::string>{"VFIO_GROUP_SET_CONTAINER refused", "VFIO_GROUP_SET_CONTAINER refused",
                                                "open", "VFIO_GROUP_SET_CONTAINER"}),
             boost::test_tools::per_element());
}

// --- R4, R5, R6: what the container is ---

// covers R4 R5 R6
BOOST_FIXTURE_TEST_CASE(r4_the_richest_type_is_taken_and_says_what_it_offers, fixture) {
  BOOST_REQUIRE(attach(edu()));
  const auto offered = space().containers().front();
  BOOST_TEST((offered.type == iommu_type::type1v2));
  BOOST_TEST(offered.page_size() == page);
  BOOST_TEST(offered.mappings_available == 65535U);
  BOOST_TEST(offered.windows.size() > 1U);  // the MSI window is left out
  BOOST_TEST(offered.can_track_dirty);
}

// covers R4
BOOST_AUTO_TEST_CASE(r4_spapr_v2_that_is_refused_is_tried_once_more_as_v1) {
  if (only_the_model("the guest is no POWER machine")) return;
  for (const bool dynamic_windows : {true, false}) {
    fixture here(power(dynamic_windows));
    BOOST_REQUIRE(here.attach(here.edu()));
    const auto type = here.space().containers().front().type;
    BOOST_TEST((type == (dynamic_windows ? iommu_type::spapr_v2 : iommu_type::spapr_v1)));
  }
}

// covers R4
BOOST_FIXTURE_TEST_CASE(r4_any_other_refusal_of_a_type_is_final, fixture) {
  kernel().fail_nth(1, EPERM, "VFIO_SET_IOMMU");
  const auto refused = failure_of(attach(edu()));
  BOOST_TEST(refused.code.value() == EPERM);
  BOOST_TEST((refused.what == operation::connect_container));
  BOOST_TEST(refused.undone == "nothing of it is left attached");
  BOOST_TEST(held() == holdings{});
}

// --- R7: RAM discarding ---

// covers R7
BOOST_FIXTURE_TEST_CASE(r7_type1_forbids_uncoordinated_discarding_while_its_group_is_there, fixture) {
  const auto attached = attach(emulated());
  BOOST_REQUIRE(attached);
  const auto who = around().discards().blockers();
  BOOST_REQUIRE(who.size() == 1U);
  BOOST_TEST(who[0].who == "group " + std::to_string(groups().emulated[0].number));
  BOOST_TEST(who[0].why == "a type1v2 container pins the guest's memory");
  BOOST_TEST(!around().discards().allows(ram_discard::required::uncoordinated));
  BOOST_TEST(around().discards().allows(ram_discard::required::coordinated));
  BOOST_REQUIRE(detach(*attached));
  BOOST_TEST(around().discards().allows(ram_discard::required::uncoordinated));
}

// covers R7
BOOST_AUTO_TEST_CASE(r7_spapr_forbids_discarding_altogether) {
  if (only_the_model("the guest is no POWER machine")) return;
  fixture here(power(true));
  BOOST_REQUIRE(here.attach(here.edu()));
  BOOST_TEST(!here.around().discards().allows(ram_discard::required::coordinated));
}

// covers R7
BOOST_FIXTURE_TEST_CASE(r7_where_discarding_is_required_an_attach_is_refused_and_undone, fixture) {
  const auto balloon =
      around().discards().try_require(ram_discard::required::uncoordinated, {"balloon0", "gives pages back"});
  BOOST_REQUIRE(balloon.has_value());
  const auto refused = failure_of(attach(emulated()));
  BOOST_TEST(refused.code.value() == EBUSY);
  BOOST_TEST(says(refused, "balloon0 requires it"));
  BOOST_TEST(held() == holdings{});
}

// covers R7
BOOST_FIXTURE_TEST_CASE(r7_a_safe_device_lifts_the_block_of_its_group, fixture) {
  const auto balloon =
      around().discards().try_require(ram_discard::required::uncoordinated, {"balloon0", "gives pages back"});
  const auto safe = attach(emulated(), {.discard_safe = true});
  BOOST_REQUIRE(safe);
  BOOST_TEST(around().discards().blockers().empty());
  BOOST_TEST(!attach(emulated(1)));
  BOOST_REQUIRE(detach(*safe));
}

// covers R7
BOOST_FIXTURE_TEST_CASE(r7_devices_of_a_group_that_disagree_are_refused, fixture) {
  for (const bool first_is_safe : {true, false}) {
    const auto first = attach(pair().device, {.discard_safe = first_is_safe});
    BOOST_REQUIRE(first);
    const auto before = held();
    const auto refused = failure_of(attach(pair().other, {.discard_safe = !first_is_safe}));
    BOOST_TEST(refused.code == make_error_code(errc::discard_disagrees));
    BOOST_TEST(says(refused, pair().device));
    BOOST_TEST(held() == before);
    const auto second = attach(pair().other, {.discard_safe = first_is_safe});
    BOOST_REQUIRE(second);
    BOOST_REQUIRE(detach(*first));
    BOOST_TEST(held().blockers == (first_is_safe ? 0U : 1U));
    BOOST_REQUIRE(detach(*second));
  }
}

// --- R8: KVM ---

// covers R8
BOOST_FIXTURE_TEST_CASE(r8_kvm_is_told_of_groups_that_come_and_go, fixture) {
  if (not_shown(has_kvm(), "no /dev/kvm (in the guest: modprobe kvm_amd)")) return;
  kernel().clear();
  const auto attached = attach(emulated());
  BOOST_REQUIRE(attached);
  BOOST_TEST(take_warnings().empty());
  if (model()) BOOST_TEST(model()->kvm_groups() == std::vector{groups().emulated[0].number});
  BOOST_REQUIRE(detach(*attached));
  BOOST_TEST(take_warnings().empty());
  const auto calls = kernel().trace();
  const auto told = std::count_if(calls.begin(), calls.end(), [](const auto& c) { return c.name == "KVM_SET_DEVICE_ATTR"; });
  BOOST_TEST(told == 2);
  BOOST_TEST(attach(emulated()).has_value());  // a group that KVM still held would be busy
}

// covers R8
BOOST_FIXTURE_TEST_CASE(r8_a_kvm_that_refuses_is_a_warning, fixture) {
  if (not_shown(has_kvm(), "no /dev/kvm (in the guest: modprobe kvm_amd)")) return;
  kernel().fail_nth(1, EPERM, "KVM_SET_DEVICE_ATTR");
  const auto attached = attach(emulated());
  BOOST_REQUIRE(attached);
  auto warnings = take_warnings();
  BOOST_REQUIRE(warnings.size() == 1U);
  BOOST_TEST((warnings[0].what == operation::tell_kvm));
  BOOST_TEST(says(warnings[0], "KVM_DEV_VFIO_GROUP_ADD of group " + std::to_string(groups().emulated[0].number)));
  BOOST_REQUIRE(detach(*attached));  // of a group that KVM does not have: nothing to warn of
  BOOST_TEST(take_warnings().empty());
}

// covers R8: KVM would keep the group open until the VM ends
BOOST_FIXTURE_TEST_CASE(r8_a_removal_that_fails_is_tried_again, fixture) {
  if (not_shown(has_kvm(), "no /dev/kvm (in the guest: modprobe kvm_amd)")) return;
  const auto attached = attach(emulated());
  BOOST_REQUIRE(attached);
  kernel().fail_nth(1, EPERM, "KVM_SET_DEVICE_ATTR");
  BOOST_REQUIRE(detach(*attached));
  BOOST_TEST(take_warnings().empty());
  BOOST_TEST(attach(emulated()).has_value());
}

// --- R9: every region is replayed ---

// covers R9
BOOST_FIXTURE_TEST_CASE(r9_a_new_container_gets_every_region, fixture) {
  for (std::uint64_t i = 0; i < 3; ++i) BOOST_REQUIRE(add(i * 16 * page, 4, i * 8));
  const auto attached = attach(emulated());
  BOOST_REQUIRE(attached);
  for (std::uint64_t i = 0; i < 3; ++i) {
    BOOST_TEST(ring(*attached, (i * 16 + 3) * page) == 0);
    BOOST_TEST(std::to_integer<int>(memory()[(i * 8 + 3) * page]) == 1);
  }
  BOOST_TEST(ring(*attached, 4 * page) != 0);
}

// covers R9
BOOST_FIXTURE_TEST_CASE(r9_a_replay_that_fails_leaves_nothing, fixture) {
  for (std::uint64_t i = 0; i < 3; ++i) BOOST_REQUIRE(add(i * 16 * page, 4, i * 8));
  for (std::size_t n = 1; n <= 3; ++n) {
    kernel().fail_nth(n, ENOMEM, "VFIO_IOMMU_MAP_DMA");
    const auto refused = failure_of(attach(edu()));
    BOOST_TEST(refused.code.value() == ENOMEM);
    BOOST_TEST((refused.range == iova_range{(n - 1) * 16 * page, 4 * page}));
    BOOST_TEST(held() == holdings{});
  }
  BOOST_TEST(attach(edu()).has_value());
}

// --- R10: the last group leaves ---

// covers R10
BOOST_FIXTURE_TEST_CASE(r10_with_other_groups_left_only_this_one_goes, fixture) {
  BOOST_REQUIRE(add(0, 4));
  const auto first = attach(emulated());
  BOOST_REQUIRE(first);
  const auto alone = held();
  const auto second = attach(edu());
  BOOST_REQUIRE(second);
  BOOST_REQUIRE(detach(*second));
  BOOST_TEST(held().descriptors == alone.descriptors);
  BOOST_TEST(held().mappings == alone.mappings);
  BOOST_TEST(ring(*first, 0) == 0);
}

// covers R10: KVM first, which holds the container on old kernels; then the group, then the container
BOOST_FIXTURE_TEST_CASE(r10_the_last_group_takes_the_container_with_it_in_order, fixture) {
  BOOST_REQUIRE(add(0, 4));
  const auto attached = attach(emulated());
  BOOST_REQUIRE(attached);
  kernel().clear();
  BOOST_REQUIRE(detach(*attached));
  std::vector<std::string> calls;
  for (const auto& call : kernel().trace()) calls.push_back(call.name);
  std::vector<std::string> expected{"KVM_SET_DEVICE_ATTR", "VFIO_GROUP_UNSET_CONTAINER"};
  if (!has_kvm()) expected.erase(expected.begin());
  BOOST_TEST(calls == expected, boost::test_tools::per_element());
  BOOST_TEST(kernel().closes() == 3U);  // device, group, container
  BOOST_TEST(held() == holdings{});
  BOOST_TEST(space().containers().empty());
}

// covers R10
BOOST_FIXTURE_TEST_CASE(r10_a_group_that_does_not_leave_is_a_warning_and_teardown_goes_on, fixture) {
  const auto attached = attach(emulated());
  BOOST_REQUIRE(attached);
  kernel().fail_nth(1, EBUSY, "VFIO_GROUP_UNSET_CONTAINER");
  BOOST_TEST(detach(*attached).has_value());
  const auto warnings = take_warnings();
  BOOST_REQUIRE(warnings.size() == 1U);
  BOOST_TEST(says(warnings[0], "VFIO_GROUP_UNSET_CONTAINER of group " + std::to_string(groups().emulated[0].number)));
  BOOST_TEST(held() == holdings{});
}

// covers R10 R17 R30: the kernel's record goes with the container
BOOST_FIXTURE_TEST_CASE(r10_what_a_device_dirtied_before_its_detach_is_not_lost, fixture) {
  BOOST_REQUIRE(add(0, 8, 8));
  const auto attached = attach(emulated());
  BOOST_REQUIRE(attached);
  pages_told told;
  BOOST_REQUIRE(done<void>([&](auto token) { space().async_start_tracking(told, std::move(token)); }));
  BOOST_TEST(ring(*attached, 5 * page) == 0);
  BOOST_REQUIRE(detach(*attached));
  BOOST_TEST(told.pages == std::set<std::uint64_t>{13}, boost::test_tools::per_element());
  BOOST_TEST(done<void>([&](auto token) { space().async_stop_tracking(std::move(token)); }).has_value());
}

// --- R11: devices ---

// covers R11
BOOST_FIXTURE_TEST_CASE(r11_a_pci_device_tells_its_regions_and_irqs, fixture) {
  const auto attached = attach(edu());
  BOOST_REQUIRE(attached);
  const auto& info = attached->info();
  BOOST_TEST((info.flags & VFIO_DEVICE_FLAGS_PCI) != 0U);
  BOOST_REQUIRE(info.regions.size() == std::size_t{VFIO_PCI_NUM_REGIONS});
  const auto& bar = info.regions[VFIO_PCI_BAR0_REGION_INDEX];
  BOOST_TEST(bar.size == 1024U * 1024U);
  BOOST_TEST((bar.readable && bar.writable));
  BOOST_TEST((bar.mappable == std::vector<mappable_area>{{0, bar.size}}));
  BOOST_TEST(info.regions[VFIO_PCI_BAR1_REGION_INDEX].size == 0U);
  BOOST_TEST(info.regions[VFIO_PCI_VGA_REGION_INDEX].size == 0U);  // EINVAL: it is no display
  BOOST_REQUIRE(info.irqs.size() == std::size_t{VFIO_PCI_NUM_IRQS});
  BOOST_TEST(info.irqs[VFIO_PCI_MSI_IRQ_INDEX].count == 1U);
  BOOST_TEST((info.irqs[VFIO_PCI_MSI_IRQ_INDEX].flags & VFIO_IRQ_INFO_EVENTFD) != 0U);
  BOOST_TEST(!info.migration.stop_copy);
  BOOST_TEST(!info.logs_dma);

  const auto& config = info.regions[VFIO_PCI_CONFIG_REGION_INDEX];
  std::uint16_t vendor = 0;
  const auto read = attached->kernel().pread(attached->file(), &vendor, sizeof vendor, config.file_offset + PCI_VENDOR_ID);
  BOOST_TEST(read == ssize_t{sizeof vendor});
  BOOST_TEST(vendor == 0x1234U);
}

// covers R11
BOOST_FIXTURE_TEST_CASE(r11_capabilities_of_a_region_are_read, fixture) {
  const auto attached = attach(pair().other);
  BOOST_REQUIRE(attached);
  const auto& regions = attached->info().regions;
  BOOST_TEST(std::any_of(regions.begin(), regions.end(), [](const auto& one) { return one.msix_mappable; }));
  BOOST_TEST(attached->info().irqs.at(VFIO_PCI_MSIX_IRQ_INDEX).count > 0U);
}

// covers R11
BOOST_FIXTURE_TEST_CASE(r11_a_test_device_tells_its_migration_abilities, fixture) {
  const auto attached = attach(emulated());
  BOOST_REQUIRE(attached);
  BOOST_TEST(attached->info().can_reset);
  BOOST_TEST(attached->info().migration.stop_copy);
  BOOST_TEST(attached->info().migration.p2p);
  BOOST_TEST(attached->info().migration.pre_copy);
  BOOST_TEST(attached->info().logs_dma);
}

// covers R11
BOOST_FIXTURE_TEST_CASE(r11_a_device_that_does_not_open_is_refused_with_the_hint, fixture) {
  kernel().fail_nth(1, EBUSY, "VFIO_GROUP_GET_DEVICE_FD");
  const auto refused = failure_of(attach(edu()));
  BOOST_TEST(refused.code.value() == EBUSY);
  BOOST_TEST(says(refused, "all devices of the group must be bound to a vfio driver or pci-stub, and unused"));
  BOOST_TEST(held() == holdings{});
}

// covers R11
BOOST_FIXTURE_TEST_CASE(r11_attaching_twice_is_busy, fixture) {
  BOOST_REQUIRE(attach(edu()));
  const auto before = held();
  const auto refused = failure_of(attach("/sys/bus/pci/devices/" + edu()));
  BOOST_TEST(refused.code.value() == EBUSY);
  BOOST_TEST(says(refused, edu() + " is already attached"));
  BOOST_TEST(held() == before);
}

// covers R11
BOOST_FIXTURE_TEST_CASE(r11_detaching_what_is_not_attached_is_harmless, fixture) {
  const auto first = attach(edu());
  BOOST_REQUIRE(first);
  BOOST_REQUIRE(detach(*first));
  BOOST_TEST(!first->is_open());
  BOOST_TEST(first->name() == edu());
  BOOST_TEST(detach(*first).has_value());
  const auto second = attach(edu());
  BOOST_REQUIRE(second);
  BOOST_TEST(detach(*first).has_value());  // an old handle of the same device
  BOOST_TEST(second->is_open());
  const auto other = another_space();
  BOOST_TEST(detach_from(*other, *second).has_value());
  BOOST_TEST(second->is_open());
}

// covers R11
BOOST_FIXTURE_TEST_CASE(r11_an_address_space_that_ends_detaches_what_is_left, fixture) {
  BOOST_REQUIRE(add(0, 4));
  const auto kept = attach(edu());
  BOOST_REQUIRE(attach(pair().device));
  end_space();
  BOOST_TEST(held() == holdings{});
  BOOST_TEST(!kept->is_open());
}

// --- R12, R13: other hardware ---

// covers R12
BOOST_AUTO_TEST_CASE(r12_spapr_registers_memory_and_makes_windows) {
  if (only_the_model("the guest is no POWER machine")) return;
  fixture here(power(true));
  const std::uint64_t far = std::uint64_t{1} << 59;
  BOOST_REQUIRE(here.add(0, 4));
  const auto attached = here.attach(here.edu());
  BOOST_REQUIRE(attached);
  BOOST_REQUIRE(here.add(far, 8, 8));
  BOOST_TEST(here.held().mappings == 2U);
  here.kernel().clear();
  BOOST_REQUIRE(here.remove(far, 8));
  std::vector<std::string> calls;
  for (const auto& call : here.kernel().trace()) calls.push_back(call.name);
  BOOST_TEST(calls == (std::vector<std::string>{"VFIO_IOMMU_UNMAP_DMA", "VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY",
                                                "VFIO_IOMMU_SPAPR_TCE_REMOVE"}),
             boost::test_tools::per_element());
  BOOST_REQUIRE(here.detach(*attached));
}

// covers R12 R20: this driver knows no limit on mappings
BOOST_AUTO_TEST_CASE(r12_spapr_maps_on_when_a_second_group_came) {
  if (only_the_model("the guest is no POWER machine")) return;
  fixture here(power(true));
  BOOST_REQUIRE(here.add(0, 4));
  BOOST_REQUIRE(here.attach(here.edu()));
  BOOST_REQUIRE(here.attach(here.pair().device));
  BOOST_TEST(here.add(16 * page, 4, 8).has_value());
}

// covers R12
BOOST_AUTO_TEST_CASE(r12_spapr_v1_has_its_default_window_and_no_other) {
  if (only_the_model("the guest is no POWER machine")) return;
  fixture here(power(false));
  BOOST_REQUIRE(here.attach(here.edu()));
  BOOST_REQUIRE(here.space().containers().front().windows.size() == 1U);
  BOOST_TEST(here.add(0, 4).has_value());
  BOOST_TEST(!here.add(std::uint64_t{1} << 59, 4));
  BOOST_TEST(here.space().regions().size() == 1U);
}

// covers R13
BOOST_AUTO_TEST_CASE(r13_a_noiommu_group_is_recognised_and_nothing_can_be_mapped_for_it) {
  if (only_the_model("Debian's kernel has no noiommu")) return;
  fixture here([](kernel::model_options& options) {
    options.groups.push_back({.number = 9, .devices = {"0000:00:09.0"}, .noiommu = true});
  });
  BOOST_REQUIRE(here.attach("0000:00:09.0"));
  BOOST_TEST((here.space().containers().front().type == iommu_type::noiommu));
  BOOST_TEST(here.around().discards().blockers().empty());
  const auto refused = failure_of(here.add(0, 4));
  BOOST_TEST(refused.code == make_error_code(errc::no_iommu));
  BOOST_TEST((refused.range == iova_range{0, 4 * page}));
  BOOST_TEST(here.space().regions().empty());
  BOOST_REQUIRE(here.detach(here.space().devices().front()));
  BOOST_REQUIRE(here.add(0, 4));
  const auto with_regions = failure_of(here.attach("0000:00:09.0"));
  BOOST_TEST(with_regions.code == make_error_code(errc::no_iommu));
}

// covers R13
BOOST_AUTO_TEST_CASE(r13_a_noiommu_group_without_the_right_names_the_capability) {
  if (only_the_model("Debian's kernel has no noiommu")) return;
  fixture here([](kernel::model_options& options) {
    options.groups.push_back({.number = 9, .devices = {"0000:00:09.0"}, .noiommu = true});
    options.raw_io = false;
  });
  BOOST_TEST(says(failure_of(here.attach("0000:00:09.0")), "CAP_SYS_RAWIO"));
}

// --- all of it ---

// covers R2 R3 R7 R9 R10 R11
BOOST_AUTO_TEST_CASE(devices_come_and_go_in_every_order) {
  const auto which = chosen();
  stage names(which);
  const std::array devices{test_device(names.groups().emulated[0]), names.groups().backed->device,
                           names.groups().pair->device, names.groups().pair->other};
  std::array<std::size_t, 4> coming{0, 1, 2, 3};
  do {
    std::array<std::size_t, 4> going{0, 1, 2, 3};
    do {
      fixture here;
      BOOST_REQUIRE(here.add(0, 4));
      std::array<std::optional<device>, 4> attached;
      for (const auto i : coming) {
        auto outcome = here.attach(devices[i]);
        BOOST_REQUIRE_MESSAGE(outcome.has_value(), outcome.error().message());
        attached[i] = *outcome;
      }
      BOOST_TEST(here.held().devices == 4U);
      BOOST_TEST(here.held().blockers == 3U);
      BOOST_TEST(here.space().containers().size() == 1U);
      for (const auto i : going) BOOST_REQUIRE(here.detach(*attached[i]));
      BOOST_TEST(here.held() == holdings{});
    } while (which == on::model && std::next_permutation(going.begin(), going.end()));
  } while (std::next_permutation(coming.begin(), coming.end()));
}

// An event that comes while a device is being attached reaches it, whichever is first.
BOOST_FIXTURE_TEST_CASE(a_region_that_comes_while_a_device_does_is_mapped_for_it, fixture) {
  BOOST_REQUIRE(add(0, 4));
  std::optional<result<device>> attached;
  std::optional<result<void>> added;
  std::optional<result<void>> removed;
  space().async_attach(emulated(), [&](result<device> given) { attached.emplace(std::move(given)); });
  space().async_add({{16 * page, 4 * page}, 0, 8 * page, true}, [&](result<void> given) { added.emplace(given); });
  space().async_remove({0, 4 * page}, [&](result<void> given) { removed.emplace(given); });
  settle();
  BOOST_REQUIRE((attached && *attached));
  BOOST_REQUIRE((added && *added && removed && *removed));
  BOOST_TEST(ring(**attached, 16 * page) == 0);
  BOOST_TEST(ring(**attached, 0) != 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::lifecycle
