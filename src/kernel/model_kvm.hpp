// SPDX-License-Identifier: Apache-2.0
//
// /dev/kvm as far as VFIO needs it: virtual machines that do nothing, and their VFIO pseudo-device, which is told the
// groups.
//
// Threading: the model's mutex is held around every call and every release.

#pragma once

#include <memory>
#include <vector>

#include "kernel/model_objects.hpp"

struct kvm_device_attr;

namespace tidemark::kernel::modelled {

/// What the machine's facts tell: each pseudo-device that is open.
using kvm_devices = std::vector<std::weak_ptr<class kvm_vfio_file>>;

class kvm_file final : public file {
 public:
  kvm_file(descriptor_table& descriptors, kvm_devices& all, const model_options& options) noexcept
      : descriptors_(descriptors), all_(all), options_(options) {}
  int ioctl(unsigned long request, std::uintptr_t argument) override;

 private:
  descriptor_table& descriptors_;
  kvm_devices& all_;
  const model_options& options_;
};

class kvm_machine_file final : public file {
 public:
  kvm_machine_file(descriptor_table& descriptors, kvm_devices& all, const model_options& options) noexcept
      : descriptors_(descriptors), all_(all), options_(options) {}
  int ioctl(unsigned long request, std::uintptr_t argument) override;

 private:
  int create_device(std::uintptr_t argument);

  descriptor_table& descriptors_;
  kvm_devices& all_;
  const model_options& options_;
  std::weak_ptr<kvm_vfio_file> device_;
};

/// The device of KVM_DEV_TYPE_VFIO. From 5.19 on it holds the group's file; before, it counts as a user of the group's
/// container, which must be there.
class kvm_vfio_file final : public file {
 public:
  kvm_vfio_file(std::shared_ptr<file> machine, descriptor_table& descriptors, bool holds_files) noexcept
      : machine_(std::move(machine)), descriptors_(descriptors), holds_files_(holds_files) {}
  ~kvm_vfio_file() override;
  int ioctl(unsigned long request, std::uintptr_t argument) override;
  const std::vector<std::shared_ptr<group_file>>& groups() const noexcept { return groups_; }

 private:
  int set(const kvm_device_attr& what);
  int add(const std::shared_ptr<group_file>& who);
  int remove(const std::shared_ptr<group_file>& who);

  std::shared_ptr<file> machine_;
  descriptor_table& descriptors_;
  const bool holds_files_;
  std::vector<std::shared_ptr<group_file>> groups_;
};

}  // namespace tidemark::kernel::modelled
