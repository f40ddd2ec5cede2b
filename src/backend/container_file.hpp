// SPDX-License-Identifier: Apache-2.0
//
// One container: its file, the groups in it, and the IOMMU driver that their hardware takes (R3, R4, R10).
//
// Threading: every call blocks; one thread at a time (the container's lane).
//
// Invariants
//  1. The container file and the driver are there exactly while at least one group is connected.
//  2. A connect that fails leaves what was open and connected as it was before.
//  3. Every group that leaves is told to KVM first: before Linux 5.19 KVM is a user of the container, and holds it.

#pragma once

#include <tidemark/container.hpp>
#include <tidemark/kernel.hpp>

#include <map>
#include <memory>
#include <string>

#include "backend/group.hpp"
#include "backend/iommu.hpp"

namespace tidemark::backend {

class container_file {
 public:
  container_file(kernel::files& kernel, container_options options) : kernel_(kernel), options_(std::move(options)) {}
  container_file(const container_file&) = delete;
  ~container_file();

  /// Opens the group and puts it in. An error of operation::open_group is the group's own; one of
  /// operation::connect_container is that it does not go with this container.
  result<container_info> connect(unsigned group);

  /// Takes the group out; the last one takes every mapping and the container file with it. errc::not_attached; any other
  /// error is what the kernel refused on the way, and the group is gone from here all the same.
  result<void> disconnect(unsigned group);

  /// With the groups that are connected now.
  result<container_info> info() const;
  /// How often that has changed, or may have.
  unsigned info_reads() const noexcept { return info_reads_; }

  result<device> open_device(unsigned group, const std::string& name);

  /// The driver, or errc::not_attached while no group is connected.
  result<iommu*> driver(operation what, iova_range range);

 private:
  using groups = std::map<unsigned, group>;

  result<container_info> join(const group& joining);
  result<container_info> open_container(const group& first);
  result<std::unique_ptr<iommu>> set_iommu_type(int container_file, bool noiommu);
  result<std::unique_ptr<iommu>> driver_of(int container_file, iommu_type type);
  result<bool> offers(int container_file, std::uintptr_t type);
  error taken_out(const group& joined, error why);
  result<void> unset_container(const group& leaving);
  result<void> leave(groups::iterator leaving);
  void warn(const result<void>& outcome) const;

  kernel::files& kernel_;
  container_options options_;
  kernel::handle container_;
  groups groups_;
  std::unique_ptr<iommu> iommu_;
  container_info info_;
  unsigned info_reads_ = 0;
};

}  // namespace tidemark::backend
