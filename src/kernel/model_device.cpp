// SPDX-License-Identifier: Apache-2.0
//
// Open devices. What a test device answers to VFIO_DEVICE_FEATURE has a file of its own.

#include <linux/vfio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>

#include "kernel/model_objects.hpp"
#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr std::size_t log_page_bytes = TIDEMARK_TEST_LOG_PAGE_BYTES;

bool valid(const tidemark_test_doorbell& bell) noexcept {
  return bell.length > 0 && bell.length % sizeof(bell.value) == 0 && bell.length <= TIDEMARK_TEST_DOORBELL_BYTES_MAX &&
         bell.iova + bell.length - 1 >= bell.iova;
}

}  // namespace

device_file::device_file(device& what, std::shared_ptr<group_file> owner) noexcept
    : device_(what), owner_(std::move(owner)) {
  ++device_.opens;
  ++owner_->about().open_devices;
}

device_file::~device_file() {
  --device_.opens;
  --owner_->about().open_devices;
}

// --- PCI functions ---

pci_file::pci_file(device& what, std::shared_ptr<group_file> owner) noexcept : device_file(what, std::move(owner)) {
  if (device_.opens == 1) device_.function.enable();
}

int pci_file::ioctl(unsigned long request, std::uintptr_t argument) {
  switch (request) {
    case VFIO_DEVICE_GET_INFO:
      return device_.function.get_info(argument);
    case VFIO_DEVICE_GET_REGION_INFO:
      return device_.function.get_region(argument);
    case VFIO_DEVICE_GET_IRQ_INFO:
      return device_.function.get_irq(argument);
    case VFIO_DEVICE_RESET:
      if (!device_.function.resettable()) return -EINVAL;
      device_.function.reset();
      return 0;
    case VFIO_DEVICE_SET_IRQS:
      return -EINVAL;
    default:
      return -ENOTTY;  // VFIO_DEVICE_FEATURE, too: it neither migrates nor logs
  }
}

ssize_t pci_file::pread(void* buffer, std::size_t bytes, std::uint64_t offset) {
  return device_.function.read(buffer, bytes, offset);
}

ssize_t pci_file::pwrite(const void* buffer, std::size_t bytes, std::uint64_t offset) {
  return device_.function.write(buffer, bytes, offset);
}

// --- test devices ---

test_device_file::test_device_file(device& what, std::shared_ptr<group_file> owner, descriptor_table& descriptors,
                                   kernel_version version) noexcept
    : device_file(what, std::move(owner)), descriptors_(descriptors), version_(version) {
  if (device_.opens == 1) reset();
}

test_device_file::~test_device_file() {
  if (device_.opens > 1) return;
  device_.migration.end();
  device_.log.stop();
}

void test_device_file::reset() {
  device_.state = {.ballast_bytes = owner_->about().about.ballast_bytes};
  device_.migration.reset();
  device_.log.stop();
}

int test_device_file::ioctl(unsigned long request, std::uintptr_t argument) {
  switch (request) {
    case VFIO_DEVICE_GET_INFO:
      return get_info(argument);
    case VFIO_DEVICE_RESET:
      reset();
      return 0;
    case VFIO_DEVICE_FEATURE:
      return version_ >= kernel_version{5, 18} ? feature(argument) : -ENOTTY;
    case VFIO_DEVICE_GET_REGION_INFO:
    case VFIO_DEVICE_GET_IRQ_INFO:
    case VFIO_DEVICE_SET_IRQS:
      return -EINVAL;
    default:
      return -ENOTTY;
  }
}

int test_device_file::get_info(std::uintptr_t argument) const {
  constexpr std::size_t told = offsetof(vfio_device_info, cap_offset);
  vfio_device_info info{};
  if (!user::copy_argument_in(argument, &info, told)) return -EFAULT;
  if (info.argsz < told) return -EINVAL;
  info.flags = VFIO_DEVICE_FLAGS_RESET;
  info.num_regions = 0;
  info.num_irqs = 0;
  return user::copy_argument_out(argument, &info, told) ? 0 : -EFAULT;
}

ssize_t test_device_file::read(void* buffer, std::size_t bytes) {
  const tidemark_test_state& told = device_.state.counters;
  if (bytes < sizeof(told)) return -EINVAL;
  const auto to = reinterpret_cast<std::uintptr_t>(buffer);
  return user::copy_argument_out(to, &told, sizeof(told)) ? ssize_t{sizeof(told)} : -EFAULT;
}

ssize_t test_device_file::write(const void* buffer, std::size_t bytes) {
  tidemark_test_doorbell bell{};
  if (bytes == 0 || bytes % sizeof(bell) != 0) return -EINVAL;
  std::size_t done = 0;
  for (; done < bytes; done += sizeof(bell)) {
    const bool here = user::copy_argument_in(reinterpret_cast<std::uintptr_t>(buffer) + done, &bell, sizeof(bell));
    const int failure = here ? ring(bell) : -EFAULT;
    if (failure != 0 && done == 0) return failure;
    if (failure != 0) break;
  }
  return static_cast<ssize_t>(done);
}

// Page by page, as the device does it: pages before a failing one are written.
int test_device_file::ring(const tidemark_test_doorbell& bell) {
  if (!valid(bell)) return -EINVAL;
  if (!device_.migration.running()) return -EBUSY;
  std::array<std::uint64_t, log_page_bytes / sizeof(bell.value) + 1> pattern;  // a page may begin at any byte of the value
  pattern.fill(bell.value);
  iommu& driver = owner_->about().container->driver();
  for (std::uint64_t done = 0; done < bell.length;) {
    const std::uint64_t left_in_page = log_page_bytes - (bell.iova + done) % log_page_bytes;
    const std::size_t now = std::min<std::uint64_t>(bell.length - done, left_in_page);
    const auto* from = reinterpret_cast<const std::byte*>(pattern.data()) + done % sizeof(bell.value);
    if (const int failure = driver.write(bell.iova + done, from, now)) return failure;
    device_.log.mark(bell.iova + done, now);
    done += now;
  }
  ++device_.state.counters.doorbells;
  device_.state.counters.bytes += bell.length;
  device_.migration.used(device_.state);
  return 0;
}

}  // namespace tidemark::kernel::modelled
