// SPDX-License-Identifier: Apache-2.0
//
// What the model holds of sPAPR containers, noiommu groups, KVM and migrating devices, as its facts tell it. What it answers
// is tests/conformance.

#include <linux/kvm.h>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <string>

#include "vfio_calls.hpp"

using namespace tidemark;
using test::attached;
using test::memory;
using test::page;

namespace {

kernel::model_options power_machine(bool dynamic_windows) {
  kernel::model_options options;
  options.spapr = kernel::model_spapr{.dynamic_windows = dynamic_windows, .default_window_bytes = 1ULL << 24};
  return options;
}

int memory_request(const attached& with, unsigned long request, std::uint64_t vaddr, std::uint64_t size) {
  vfio_iommu_spapr_register_memory what{.argsz = sizeof(what), .flags = 0, .vaddr = vaddr, .size = size};
  return with.kernel.ioctl(with.container.get(), request, &what);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(model_platform)

// covers R12
BOOST_AUTO_TEST_CASE(spapr_v1_locks_its_whole_window) {
  kernel::model model(power_machine(false));
  const memory ram(4 * page);
  {
    const attached with(model, {2}, VFIO_SPAPR_TCE_IOMMU);
    BOOST_TEST(model.ioctl(with.container.get(), VFIO_IOMMU_ENABLE) == 0);
    BOOST_TEST(model.pinned_pages() == (1U << 24) / page);
    BOOST_TEST(with.map(0, 4 * page, ram.address()) == 0);
    BOOST_TEST(model.pinned_pages() == (1U << 24) / page);
    BOOST_TEST_REQUIRE(model.mappings().size() == 1U);  // four entries that follow each other
    BOOST_TEST(model.mappings()[0].size == 4 * page);
    BOOST_TEST(with.unmap(page, page) >= 0);
    BOOST_TEST(model.mapping_count() == 2U);
  }
  BOOST_TEST(model.pinned_pages() == 0U);
  BOOST_TEST(model.mapping_count() == 0U);
  BOOST_TEST(model.live_containers() == 0U);
}

// covers R12
BOOST_AUTO_TEST_CASE(spapr_v2_locks_what_is_registered_and_its_tables) {
  kernel::model model(power_machine(true));
  const memory ram(8 * page);
  {
    const attached with(model, {2}, VFIO_SPAPR_TCE_v2_IOMMU);
    BOOST_TEST(memory_request(with, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, ram.address(), 8 * page) == 0);
    BOOST_TEST(model.pinned_pages() == 8U);
    BOOST_TEST(with.map(0, 8 * page, ram.address()) == 0);
    BOOST_TEST(model.pinned_pages() == 8U + (1U << 24) / page * 8 / page);
  }
  BOOST_TEST(model.pinned_pages() == 0U);
  BOOST_TEST(model.live_containers() == 0U);
}

// The driver forgets that it registered the memory, and the memory stays.
BOOST_AUTO_TEST_CASE(spapr_v2_memory_that_is_mapped_stays_locked_after_it_is_unregistered) {
  kernel::model model(power_machine(true));
  const memory ram(page);
  const attached with(model, {2}, VFIO_SPAPR_TCE_v2_IOMMU);
  BOOST_TEST(memory_request(with, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, ram.address(), page) == 0);
  BOOST_TEST(with.map(0, page, ram.address()) == 0);
  const auto before = model.pinned_pages();
  BOOST_TEST(memory_request(with, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, ram.address(), page) == 0);
  BOOST_TEST(model.pinned_pages() == before);
  BOOST_TEST(memory_request(with, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, ram.address(), page) == -ENOENT);
}

// covers R4
BOOST_AUTO_TEST_CASE(a_platform_may_offer_a_version_it_cannot_give) {
  for (const bool dynamic : {false, true}) {
    kernel::model model(power_machine(dynamic));
    const attached tried(model, {2}, VFIO_SPAPR_TCE_v2_IOMMU);
    BOOST_TEST(tried.type_answer == (dynamic ? 0 : -EPERM));
    BOOST_TEST(model.ioctl(tried.container.get(), VFIO_CHECK_EXTENSION, std::uintptr_t{VFIO_SPAPR_TCE_v2_IOMMU}) == 1);
  }
}

// covers R13
BOOST_AUTO_TEST_CASE(noiommu_groups_leave_nothing) {
  kernel::model_options options;
  options.groups.push_back({.number = 9, .devices = {"0000:00:09.0"}, .noiommu = true});
  kernel::model model(options);
  {
    const kernel::handle group(model, model.open("/dev/vfio/noiommu-9", O_RDWR));
    const kernel::handle container(model, model.open("/dev/vfio/vfio", O_RDWR));
    int fd = container.get();
    BOOST_TEST(model.ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &fd) == 0);
    BOOST_TEST(model.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_NOIOMMU_IOMMU}) == 0);
    const kernel::handle device(model, model.ioctl(group.get(), VFIO_GROUP_GET_DEVICE_FD, "0000:00:09.0"));
    BOOST_TEST(static_cast<bool>(device));
    BOOST_TEST(model.open_descriptors() == 3U);
    BOOST_TEST(model.mapping_count() == 0U);
  }
  BOOST_TEST(model.open_descriptors() == 0U);
  BOOST_TEST(model.live_containers() == 0U);
}

/// KVM's VFIO device of a new virtual machine.
struct pseudo_device {
  explicit pseudo_device(kernel::model& on)
      : kvm(on, on.open("/dev/kvm", O_RDWR)), vm(on, on.ioctl(kvm.get(), KVM_CREATE_VM)), kernel(on) {
    kvm_create_device request{.type = KVM_DEV_TYPE_VFIO, .fd = 0, .flags = 0};
    BOOST_TEST(on.ioctl(vm.get(), KVM_CREATE_DEVICE, &request) == 0);
    device = kernel::handle(on, static_cast<int>(request.fd));
  }
  int set(std::uint64_t which, const kernel::handle& group) const {
    int fd = group.get();
    kvm_device_attr what{
        .flags = 0, .group = KVM_DEV_VFIO_GROUP, .attr = which, .addr = reinterpret_cast<std::uintptr_t>(&fd)};
    return kernel.ioctl(device.get(), KVM_SET_DEVICE_ATTR, &what);
  }

  kernel::handle kvm;
  kernel::handle vm;
  kernel::handle device;
  kernel::model& kernel;
};

// covers R8
BOOST_AUTO_TEST_CASE(kvm_s_groups_can_be_read_back) {
  kernel::model model;
  pseudo_device kvm(model);
  attached with(model, {0, 2});
  BOOST_TEST(kvm.set(KVM_DEV_VFIO_GROUP_ADD, with.groups[1]) == 0);
  BOOST_TEST(kvm.set(KVM_DEV_VFIO_GROUP_ADD, with.groups[0]) == 0);
  BOOST_TEST((model.kvm_groups() == std::vector<unsigned>{2, 0}));
  BOOST_TEST(kvm.set(KVM_DEV_VFIO_GROUP_DEL, with.groups[1]) == 0);
  BOOST_TEST((model.kvm_groups() == std::vector<unsigned>{0}));
  kvm.device.reset();
  BOOST_TEST(model.kvm_groups().empty());
}

BOOST_AUTO_TEST_CASE(kvm_keeps_a_group_and_its_container_alive) {
  kernel::model model;
  pseudo_device kvm(model);
  {
    const attached with(model, {0});
    BOOST_TEST(kvm.set(KVM_DEV_VFIO_GROUP_ADD, with.groups[0]) == 0);
  }
  BOOST_TEST(model.live_containers() == 1U);
  BOOST_TEST(model.open("/dev/vfio/0", O_RDWR) == -EBUSY);
  kvm.device.reset();
  BOOST_TEST(model.live_containers() == 0U);
}

BOOST_AUTO_TEST_CASE(kvm_may_be_missing) {
  kernel::model_options options;
  options.kvm = false;
  kernel::model model(options);
  BOOST_TEST(model.open("/dev/kvm", O_RDWR) == -ENOENT);
}

BOOST_AUTO_TEST_CASE(a_data_file_outlives_its_device) {
  kernel::model model;
  kernel::handle data;
  {
    const attached with(model, {0});
    const kernel::handle device(model, model.ioctl(with.groups[0].get(), VFIO_GROUP_GET_DEVICE_FD, "tidemark-test.0"));
    struct {
      std::uint32_t argsz, flags;
      vfio_device_feature_mig_state state;
    } request{.argsz = sizeof(request),
              .flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
              .state = {.device_state = VFIO_DEVICE_STATE_STOP_COPY, .data_fd = -1}};
    BOOST_TEST(model.ioctl(device.get(), VFIO_DEVICE_FEATURE, &request) == 0);
    data = kernel::handle(model, request.state.data_fd);
  }
  char byte = 0;
  BOOST_TEST(model.open_descriptors() == 1U);
  BOOST_TEST(model.read(data.get(), &byte, 1) == -ENODEV);
}

BOOST_AUTO_TEST_SUITE_END()
