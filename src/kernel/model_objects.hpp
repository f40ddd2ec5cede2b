// SPDX-License-Identifier: Apache-2.0
//
// The objects of the model behind its descriptors: containers, groups and devices, and what keeps which alive.
//
// Lifetimes are Linux's. A descriptor holds its file. An attached group holds its container. An open device holds the open
// file of its group, so a group closed while a device is open stays open, attached and busy until the device goes.
//
// Threading: the model's mutex is held around every call and every release.

#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <tidemark/kernel_model.hpp>

#include "kernel/model_file.hpp"
#include "kernel/model_iommu.hpp"
#include "kernel/model_log.hpp"
#include "kernel/model_migration.hpp"
#include "kernel/model_pci.hpp"
#include "kernel/model_spapr.hpp"
#include "kernel/test_device.h"

namespace tidemark::kernel::modelled {

struct group;

/// /dev/vfio/vfio
class container final : public file {
 public:
  container(std::size_t ordinal, const model_options& options, locked_memory& locked, registry& memory) noexcept
      : ordinal_(ordinal), options_(options), locked_(locked), registry_(memory) {}

  int ioctl(unsigned long request, std::uintptr_t argument) override;

  int attach(group& who);
  void detach(group& who);
  bool has_iommu() const noexcept { return iommu_ != nullptr; }
  modelled::iommu& driver() noexcept { return *iommu_; }
  void list(std::vector<model_mapping>& to) const;
  std::size_t mapping_count() const noexcept { return iommu_ ? iommu_->mapping_count() : 0; }

 private:
  int check_extension(std::uintptr_t extension) const noexcept;
  int offers(std::uintptr_t extension) const noexcept;
  int set_iommu(std::uintptr_t type);
  std::unique_ptr<modelled::iommu> make(std::uintptr_t type) const;
  bool noiommu() const noexcept;

  const std::size_t ordinal_;
  const model_options& options_;
  locked_memory& locked_;
  registry& registry_;
  std::vector<group*> groups_;
  std::unique_ptr<modelled::iommu> iommu_;
};

struct device {
  std::string name;
  pci_function function;
  std::size_t opens = 0;
  // The rest is a test device's.
  test_device_state state{};
  modelled::migration migration{};
  dma_log log{};
};

/// A group as sysfs knows it. Exists as long as the model.
struct group {
  model_group about;
  std::vector<device> devices;
  std::shared_ptr<modelled::container> container;
  std::size_t open_devices = 0;
  std::size_t kvm_users = 0;  ///< before 5.19 KVM is a user of the container, as a device is
  bool open = false;
};

/// An open /dev/vfio/<n>.
class group_file final : public file {
 public:
  group_file(group& who, descriptor_table& descriptors, const model_options& options) noexcept
      : group_(who), descriptors_(descriptors), options_(options) {
    group_.open = true;
  }
  ~group_file() override;

  int ioctl(unsigned long request, std::uintptr_t argument) override;
  group& about() noexcept { return group_; }

 private:
  int get_status(std::uintptr_t argument);
  int set_container(std::uintptr_t argument);
  int unset_container();
  int get_device(std::uintptr_t argument);
  void leave_container();

  group& group_;
  descriptor_table& descriptors_;
  const model_options& options_;
};

/// An open device, of either kind.
class device_file : public file {
 public:
  device_file(device& what, std::shared_ptr<group_file> owner) noexcept;
  ~device_file() override;

 protected:
  device& device_;
  std::shared_ptr<group_file> owner_;
};

class pci_file final : public device_file {
 public:
  pci_file(device& what, std::shared_ptr<group_file> owner) noexcept;

  int ioctl(unsigned long request, std::uintptr_t argument) override;
  ssize_t read(void* buffer, std::size_t bytes) override { return pread(buffer, bytes, 0); }
  ssize_t write(const void* buffer, std::size_t bytes) override { return pwrite(buffer, bytes, 0); }
  ssize_t pread(void* buffer, std::size_t bytes, std::uint64_t offset) override;
  ssize_t pwrite(const void* buffer, std::size_t bytes, std::uint64_t offset) override;
};

class test_device_file final : public device_file {
 public:
  test_device_file(device& what, std::shared_ptr<group_file> owner, descriptor_table& descriptors,
                   kernel_version version) noexcept;
  ~test_device_file() override;

  int ioctl(unsigned long request, std::uintptr_t argument) override;
  ssize_t read(void* buffer, std::size_t bytes) override;
  ssize_t write(const void* buffer, std::size_t bytes) override;
  // The device looks at no offset.
  ssize_t pread(void* buffer, std::size_t bytes, std::uint64_t) override { return read(buffer, bytes); }
  ssize_t pwrite(const void* buffer, std::size_t bytes, std::uint64_t) override { return write(buffer, bytes); }

 private:
  int get_info(std::uintptr_t argument) const;
  int feature(std::uintptr_t argument);
  int migration_feature(std::uint32_t flags, std::uintptr_t data, std::size_t bytes);
  int state_feature(std::uint32_t flags, std::uintptr_t data, std::size_t bytes);
  int size_feature(std::uint32_t flags, std::uintptr_t data, std::size_t bytes) const;
  int log_feature(std::uint32_t flags, std::uintptr_t data, std::size_t bytes);
  int ring(const tidemark_test_doorbell& bell);
  void reset();

  descriptor_table& descriptors_;
  const kernel_version version_;
};

}  // namespace tidemark::kernel::modelled
