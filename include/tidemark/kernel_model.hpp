// SPDX-License-Identifier: Apache-2.0
//
// An in-process kernel: VFIO with its type1, sPAPR TCE and noiommu drivers, and as much of KVM as VFIO meets, behind the
// same seam and with the same ioctl structures as Linux.
//
// It answers as Linux answers, checking in the same order; tests/conformance runs one table of expected answers against it
// and against the real kernel. Where kernel versions differ, the version asked for decides. What it does not have: iommufd,
// mmap of device regions, interrupts (VFIO_DEVICE_SET_IRQS).
//
// What there is to open: /dev/vfio/vfio, /dev/vfio/<n>, /dev/vfio/noiommu-<n>, /dev/kvm (`kvm`) and
// /sys/kernel/iommu_groups/<n>/name, which is there for noiommu groups only. Devices have their link `iommu_group` in sysfs.
// Devices of groups with an emulated IOMMU are test devices (src/kernel/test_device.h): they write where they are told, log
// what they wrote, and migrate. All others are PCI functions with a configuration space and one BAR of memory.
//
// Memory is this process's own. A mapping in a container with an IOMMU-backed group is pinned, which here means that its
// pages are populated and counted; a doorbell of a test device really writes the mapped memory. Neither crashes on bad
// addresses: they answer EFAULT.
//
// Threading: any thread may call anything at any time. One mutex covers a whole model, held also while memory is populated,
// so calls on different containers wait for each other, unlike the kernel's. Nothing sleeps otherwise.
//
// Invariants:
//  1. A descriptor is never given twice in the life of a model (the first is 1 << 20), so a stale one answers EBADF
//     whatever was opened since, on the model and on the host.
//  2. An object lives as Linux keeps it: a container while a descriptor or an attached group holds it, an open group while
//     a descriptor or an open device holds it.
//  3. When the last group leaves a container its mappings, its pinned pages and its IOMMU type are gone.

#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tidemark/kernel.hpp>

namespace tidemark::kernel {

struct kernel_version {
  unsigned major = 6;
  unsigned minor = 1;

  friend auto operator<=>(const kernel_version&, const kernel_version&) = default;
};

/// A PCI function. The defaults are QEMU's edu device.
struct model_pci {
  std::uint64_t bar_bytes = 1024 * 1024;  ///< of BAR 0, the only one, which keeps what is written to it
  std::uint32_t msi_vectors = 1;
  std::uint32_t msix_vectors = 0;  ///< if any, BAR 0 has the capability VFIO_REGION_INFO_CAP_MSIX_MAPPABLE
  bool resettable = false;         ///< VFIO_DEVICE_FLAGS_RESET; else VFIO_DEVICE_RESET is EINVAL
};

struct model_group {
  unsigned number = 0;
  bool iommu_backed = false;  ///< else an emulated IOMMU, as mediated devices have
  bool viable = true;         ///< false: some device of the group is bound to a driver that is not VFIO's
  /// PCI functions behind an IOMMU, test devices else; one named tidemark-test.<n> is a test device behind an IOMMU, too, as
  /// devices that log their DMA are.
  std::vector<std::string> devices;
  bool noiommu = false;  ///< its devices have no IOMMU at all: /dev/vfio/noiommu-<number>. Not with iommu_backed
  bool shares_container =
      true;                   ///< false: its IOMMU fits no other group's: together in a container is EINVAL (sPAPR: EPERM)
  int device_open_errno = 0;  ///< what VFIO_GROUP_GET_DEVICE_FD fails with when all else is well, as EBUSY; 0 does not fail
  /// Of its test devices: VFIO_MIGRATION_STOP_COPY | P2P | PRE_COPY. 0: they do not migrate.
  std::uint32_t migration_flags = 7;
  std::uint64_t ballast_bytes = 256;             ///< in the state of each of its test devices; below 4 GiB
  bool logs_dma = true;                          ///< its test devices log their DMA
  std::map<std::string, model_pci> functions{};  ///< of PCI devices that differ from the default, by name
};

/// First and last byte, both usable, as VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE reports them.
struct model_window {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

/// The sPAPR TCE platform of a POWER machine.
struct model_spapr {
  /// Version 2 containers work, and SET_IOMMU of version 1 is EPERM; false: the other way round. The driver advertises both
  /// on either platform.
  bool dynamic_windows = true;
  std::uint64_t default_window_bytes = 2ULL << 30;  ///< at IOVA 0, with pages of 4 KiB. Below 4 GiB
  std::uint64_t page_sizes = 0x1011000;             ///< of further windows: one bit a size
  std::uint32_t levels = 5;                         ///< a window's table may have
};

/// The defaults are the real-kernel test guest's: an Intel IOMMU of 39 bits, Linux 6.1.
struct model_options {
  /// Groups 0 and 1, emulated, with tidemark-test.0 and tidemark-test.1; group 2, IOMMU-backed, with the PCI device
  /// 0000:00:04.0.
  static std::vector<model_group> guest_groups();

  static constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

  std::vector<model_group> groups = guest_groups();
  kernel_version version;
  std::uint64_t page_sizes = 0x40201000;  ///< of the IOMMU: one bit a size. Sizes below the host's page are not modelled
  std::vector<model_window> windows = {{0, 0xfedfffff}, {0xfef00000, 0x7fffffffff}};  ///< of the IOMMU, ascending
  std::uint32_t mapping_budget = 65535;                                               ///< mappings a container may hold
  std::uint64_t memlock_pages = unlimited;                ///< pages all containers together may pin
  std::uint64_t bitmap_bytes_max = 256ULL * 1024 * 1024;  ///< largest dirty bitmap of one query
  bool cache_coherent = false;                            ///< the IOMMU enforces coherency (VFIO_DMA_CC_IOMMU)
  std::optional<model_spapr> spapr{};                     ///< a POWER machine: the sPAPR driver in type1's place
  bool raw_io = true;  ///< this process has CAP_SYS_RAWIO, without which noiommu groups answer EPERM
  bool kvm = true;     ///< there is /dev/kvm
};

/// A mapping some container holds now.
struct model_mapping {
  std::size_t container = 0;  ///< which: containers count from 0 in the order they were opened
  std::uint64_t iova = 0;
  std::uint64_t size = 0;
  std::uint64_t vaddr = 0;
  bool readable = false;  ///< by the device
  bool writable = false;
  bool pinned = false;
  bool vaddr_invalid = false;  ///< between UNMAP with FLAG_VADDR and MAP with FLAG_VADDR
};

class model final : public files {
 public:
  explicit model(model_options options = {});
  ~model() override;
  model(const model&) = delete;
  model& operator=(const model&) = delete;

  using files::ioctl;
  int open(const char* path, int flags) noexcept override;
  int close(int fd) noexcept override;
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override;
  ssize_t read(int fd, void* buffer, std::size_t bytes) noexcept override;
  ssize_t write(int fd, const void* buffer, std::size_t bytes) noexcept override;
  ssize_t pread(int fd, void* buffer, std::size_t bytes, std::uint64_t offset) noexcept override;
  ssize_t pwrite(int fd, const void* buffer, std::size_t bytes, std::uint64_t offset) noexcept override;
  ssize_t readlink(const char* path, char* target, std::size_t bytes) noexcept override;

  /// Facts for tests: what is held at this moment.
  std::vector<model_mapping> mappings() const;  ///< by container, then by IOVA
  std::size_t mapping_count() const;            ///< of all containers, without listing them
  std::size_t open_descriptors() const;
  std::size_t live_containers() const;
  std::uint64_t pinned_pages() const;        ///< all that counts as locked memory: with sPAPR windows and their tables, too
  std::vector<unsigned> kvm_groups() const;  ///< held by KVM's VFIO devices, in the order they were added

 private:
  struct machine;
  std::unique_ptr<machine> machine_;
};

}  // namespace tidemark::kernel
