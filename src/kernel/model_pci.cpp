// SPDX-License-Identifier: Apache-2.0

#include "kernel/model_pci.hpp"

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr unsigned index_shift = 40;  // a region's index stands above this bit of the offset
constexpr std::uint64_t offset_mask = (std::uint64_t{1} << index_shift) - 1;
constexpr std::uint16_t vendor = 0x1234;  // QEMU's edu device, which the test guest has
constexpr std::uint16_t identity = 0x11e8;
constexpr std::uint16_t command_when_open = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_SERR;

struct mappable_capability {
  vfio_info_cap_header header;
};

}  // namespace

pci_function::pci_function(const model_pci& about) : about_(about) {
  std::memcpy(config_.data() + PCI_VENDOR_ID, &vendor, sizeof(vendor));
  std::memcpy(config_.data() + PCI_DEVICE_ID, &identity, sizeof(identity));
  config_[PCI_INTERRUPT_PIN] = std::byte{1};
}

void pci_function::enable() noexcept {
  std::memcpy(config_.data() + PCI_COMMAND, &command_when_open, sizeof(command_when_open));
}

void pci_function::reset() { bar_.clear(); }

int pci_function::get_info(std::uintptr_t argument) const {
  constexpr std::size_t needed = offsetof(vfio_device_info, cap_offset);
  vfio_device_info info{};
  if (!user::copy_argument_in(argument, &info, needed)) return -EFAULT;
  if (info.argsz < needed) return -EINVAL;
  const std::size_t told = info.argsz >= sizeof(info) ? sizeof(info) : needed;
  info.flags = VFIO_DEVICE_FLAGS_PCI | (about_.resettable ? VFIO_DEVICE_FLAGS_RESET : 0U);
  info.num_regions = VFIO_PCI_NUM_REGIONS;
  info.num_irqs = VFIO_PCI_NUM_IRQS;
  return user::copy_argument_out(argument, &info, told) ? 0 : -EFAULT;
}

// --- regions ---

std::uint64_t pci_function::region_bytes(std::uint32_t index) const noexcept {
  if (index == VFIO_PCI_CONFIG_REGION_INDEX) return config_bytes;
  return index == VFIO_PCI_BAR0_REGION_INDEX ? about_.bar_bytes : 0;
}

int pci_function::get_region(std::uintptr_t argument) const {
  constexpr std::size_t needed = offsetof(vfio_region_info, offset) + sizeof(vfio_region_info::offset);
  vfio_region_info info{};
  if (!user::copy_argument_in(argument, &info, needed)) return -EFAULT;
  if (info.argsz < needed || info.index >= VFIO_PCI_VGA_REGION_INDEX) return -EINVAL;  // it is no display
  info.offset = std::uint64_t{info.index} << index_shift;
  info.size = region_bytes(info.index);
  info.flags = info.size == 0 ? 0 : VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
  const bool bar = info.index == VFIO_PCI_BAR0_REGION_INDEX && info.size > 0;
  if (bar && info.size >= user::page_bytes) info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
  if (bar && about_.msix_vectors > 0) {
    const mappable_capability capability{{.id = VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, .version = 1, .next = 0}};
    info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
    info.cap_offset = info.argsz < sizeof(info) + sizeof(capability) ? 0 : sizeof(info);
    if (info.cap_offset == 0) info.argsz = sizeof(info) + sizeof(capability);
    const bool told =
        info.cap_offset == 0 || user::copy_argument_out(argument + sizeof(info), &capability, sizeof(capability));
    if (!told) return -EFAULT;
  }
  return user::copy_argument_out(argument, &info, needed) ? 0 : -EFAULT;
}

int pci_function::get_irq(std::uintptr_t argument) const {
  vfio_irq_info info{};
  if (!user::copy_argument_in(argument, &info, sizeof(info))) return -EFAULT;
  if (info.argsz < sizeof(info) || info.index >= VFIO_PCI_NUM_IRQS) return -EINVAL;
  if (info.index == VFIO_PCI_ERR_IRQ_INDEX) return -EINVAL;  // PCI Express alone tells errors
  info.flags = VFIO_IRQ_INFO_EVENTFD;
  const bool pin = info.index == VFIO_PCI_INTX_IRQ_INDEX;
  info.flags |= pin ? VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED : VFIO_IRQ_INFO_NORESIZE;
  info.count = 1;
  if (info.index == VFIO_PCI_MSI_IRQ_INDEX) info.count = about_.msi_vectors;
  if (info.index == VFIO_PCI_MSIX_IRQ_INDEX) info.count = about_.msix_vectors;
  return user::copy_argument_out(argument, &info, sizeof(info)) ? 0 : -EFAULT;
}

// --- reading and writing them ---

ssize_t pci_function::reachable(std::uint32_t index, std::uint64_t from, std::size_t bytes) const noexcept {
  if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
    return from >= config_bytes || bytes > config_bytes - from ? -EFAULT : static_cast<ssize_t>(bytes);
  }
  const std::uint64_t size = region_bytes(index);
  if (from >= size) return -EINVAL;
  if ((config_[PCI_COMMAND] & std::byte{PCI_COMMAND_MEMORY}) == std::byte{0}) return -EIO;
  return static_cast<ssize_t>(std::min<std::uint64_t>(bytes, size - from));
}

ssize_t pci_function::read(void* buffer, std::size_t bytes, std::uint64_t offset) const {
  const auto index = static_cast<std::uint32_t>(offset >> index_shift);
  const std::uint64_t from = offset & offset_mask;
  const ssize_t told = reachable(index, from, bytes);
  if (told <= 0) return told;
  std::vector<std::byte> copy(static_cast<std::size_t>(told));
  if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
    std::memcpy(copy.data(), config_.data() + from, copy.size());
  } else if (!bar_.empty()) {
    std::memcpy(copy.data(), bar_.data() + from, copy.size());
  }
  return user::write(reinterpret_cast<std::uintptr_t>(buffer), copy.data(), copy.size()) ? told : -EFAULT;
}

ssize_t pci_function::write(const void* buffer, std::size_t bytes, std::uint64_t offset) {
  const auto index = static_cast<std::uint32_t>(offset >> index_shift);
  const std::uint64_t from = offset & offset_mask;
  const ssize_t taken = reachable(index, from, bytes);
  if (taken <= 0) return taken;
  std::vector<std::byte> copy(static_cast<std::size_t>(taken));
  if (!user::read(reinterpret_cast<std::uintptr_t>(buffer), copy.data(), copy.size())) return -EFAULT;
  if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
    for (std::size_t i = 0; i < copy.size(); ++i) write_config(from + i, copy[i]);
    return taken;
  }
  if (bar_.empty()) bar_.resize(about_.bar_bytes);
  std::memcpy(bar_.data() + from, copy.data(), copy.size());
  return taken;
}

// What a program may change of a plain function: the command register and the interrupt line.
void pci_function::write_config(std::uint64_t at, std::byte value) noexcept {
  constexpr std::uint16_t changeable = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
                                       PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE;
  if (at == PCI_INTERRUPT_LINE) config_[at] = value;
  if (at != PCI_COMMAND && at != PCI_COMMAND + 1) return;
  const auto mask = static_cast<std::byte>(at == PCI_COMMAND ? changeable & 0xff : changeable >> 8);
  config_[at] = (config_[at] & ~mask) | (value & mask);
}

}  // namespace tidemark::kernel::modelled
