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
#include <unordered_map>
#include <vector>

#include <tidemark/kernel_model.hpp>

#include "kernel/model_type1.hpp"
#include "kernel/test_device.h"

namespace tidemark::kernel::modelled {

class file : public std::enable_shared_from_this<file> {
 public:
  virtual ~file() = default;
  virtual int ioctl(unsigned long request, std::uintptr_t argument) = 0;
  virtual ssize_t read(void* buffer, std::size_t bytes);
  virtual ssize_t write(const void* buffer, std::size_t bytes);
};

class descriptor_table {
 public:
  int install(std::shared_ptr<file> what);
  std::shared_ptr<file> find(int fd) const;
  /// Takes the file out. Dropping it releases what only it held.
  std::shared_ptr<file> take(int fd);
  std::size_t size() const noexcept { return files_.size(); }

 private:
  int next_ = 1 << 20;
  std::unordered_map<int, std::shared_ptr<file>> files_;
};

struct group;

/// /dev/vfio/vfio
class container final : public file {
 public:
  container(std::size_t ordinal, const model_options& options, locked_memory& locked) noexcept
      : ordinal_(ordinal), options_(options), locked_(locked) {}

  int ioctl(unsigned long request, std::uintptr_t argument) override;

  int attach(group& who);
  void detach(group& who);
  bool has_iommu() const noexcept { return iommu_ != nullptr; }
  type1& iommu() noexcept { return *iommu_; }
  void list(std::vector<model_mapping>& to) const;
  std::size_t mapping_count() const noexcept { return iommu_ ? iommu_->mapping_count() : 0; }

 private:
  int set_iommu(std::uintptr_t type);

  const std::size_t ordinal_;
  const model_options& options_;
  locked_memory& locked_;
  std::vector<group*> groups_;
  std::unique_ptr<type1> iommu_;
};

struct device {
  std::string name;
  std::size_t opens = 0;
  tidemark_test_state state{};
};

/// A group as sysfs knows it. Exists as long as the model.
struct group {
  model_group about;
  std::vector<device> devices;
  std::shared_ptr<modelled::container> container;
  std::size_t open_devices = 0;
  bool open = false;
};

/// An open /dev/vfio/<n>.
class group_file final : public file {
 public:
  group_file(group& who, descriptor_table& descriptors) noexcept : group_(who), descriptors_(descriptors) {
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
};

/// An open device: a test device, or a PCI device without regions.
class device_file final : public file {
 public:
  device_file(device& what, std::shared_ptr<group_file> owner) noexcept;
  ~device_file() override;

  int ioctl(unsigned long request, std::uintptr_t argument) override;
  ssize_t read(void* buffer, std::size_t bytes) override;
  ssize_t write(const void* buffer, std::size_t bytes) override;

 private:
  bool is_test_device() const noexcept { return !owner_->about().about.iommu_backed; }
  int get_info(std::uintptr_t argument) const;
  int ring(const tidemark_test_doorbell& bell);

  device& device_;
  std::shared_ptr<group_file> owner_;
};

}  // namespace tidemark::kernel::modelled
