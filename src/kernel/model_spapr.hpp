// SPDX-License-Identifier: Apache-2.0
//
// One container's sPAPR TCE driver (drivers/vfio/vfio_iommu_spapr_tce.c), versions 1 and 2.
//
// An IOMMU here is a few windows of IOVA space, each a table with an entry (TCE) a page. Mapping writes entries, whatever
// was there; nothing overlaps and nothing can be bisected. Version 1 has one window, which VFIO_IOMMU_ENABLE pays for in
// locked memory as if all of it were mapped. Version 2 pays when memory is registered, which has to come before it is
// mapped, and can make and remove windows.
//
// Threading: the model's mutex is held around every call.

#pragma once

#include <array>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "kernel/model_iommu.hpp"

struct vfio_iommu_spapr_register_memory;

namespace tidemark::kernel::modelled {

/// Memory registered by this process, for all its containers, as arch/powerpc/mm/book3s64/iommu_api.c keeps it.
class registry {
 public:
  struct region {
    std::uint64_t vaddr = 0;
    std::uint64_t pages = 0;
    std::uint64_t uses = 0;     ///< containers that registered it
    std::uint64_t entries = 0;  ///< TCEs that name it
  };

  explicit registry(locked_memory& locked) noexcept : locked_(locked) {}

  /// Just this region, with a use more; or nothing.
  region* get(std::uint64_t vaddr, std::uint64_t pages) noexcept;
  int add(std::uint64_t vaddr, std::uint64_t pages, region*& made);
  /// A use less. -EBUSY when it was the last and entries still name the region: then the use stays.
  int put(region& which) noexcept;
  /// The region that holds the whole range.
  region* around(std::uint64_t vaddr, std::uint64_t bytes) noexcept;

 private:
  locked_memory& locked_;
  std::list<region> regions_;
};

class spapr final : public iommu {
 public:
  spapr(bool v2, const model_options& options, locked_memory& locked, registry& memory) noexcept
      : v2_(v2), about_(*options.spapr), locked_(locked), registry_(memory) {}
  ~spapr() override;

  /// What the driver answers with no container: both types, whatever the platform can do.
  static int offers(std::uintptr_t extension) noexcept;

  int check_extension(std::uintptr_t extension) const noexcept override { return offers(extension); }
  int attach(const model_group& who) override;
  void detach(const model_group& who) override;
  int ioctl(unsigned long request, std::uintptr_t argument) override;
  void list(std::size_t container, std::vector<model_mapping>& to) const override;
  std::size_t mapping_count() const noexcept override;

 private:
  struct entry {
    std::uint64_t vaddr = 0;
    bool readable = false;
    bool writable = false;
  };
  struct window {
    std::uint64_t start = 0;
    std::uint64_t bytes = 0;
    unsigned page_shift = 0;
    std::uint64_t locked_pages = 0;          ///< what its table takes
    std::map<std::uint64_t, entry> entries;  ///< by IOVA

    std::uint64_t page_bytes() const noexcept { return std::uint64_t{1} << page_shift; }
    bool holds(std::uint64_t iova) const noexcept { return iova >= start && iova - start < bytes; }
  };

  int get_info(std::uintptr_t argument) const;
  int enable();
  void disable() noexcept;

  int map(std::uintptr_t argument);
  int build(window& in, std::uint64_t iova, std::uint64_t size, const entry& first);
  int use_memory(const window& in, std::uint64_t vaddr, bool writable);
  int unmap(std::uintptr_t argument);
  void clear(window& in, std::uint64_t iova, std::uint64_t size) noexcept;
  void forget(const window& in, const entry& what) noexcept;

  int read_memory(std::uintptr_t argument, vfio_iommu_spapr_register_memory& request) const;
  int register_memory(std::uintptr_t argument);
  int unregister_memory(std::uintptr_t argument);

  int create(std::uintptr_t argument);
  int remove(std::uintptr_t argument);
  int create_window(unsigned page_shift, std::uint64_t bytes, std::uint32_t levels, std::uint64_t& start);
  int create_default_window();
  void drop(std::optional<window>& which) noexcept;
  std::optional<window>* find(std::uint64_t iova) noexcept;

  template <class Visitor>
  void visit_extents(Visitor visit) const;

  const bool v2_;
  const model_spapr& about_;
  locked_memory& locked_;
  registry& registry_;
  std::vector<const model_group*> groups_;
  std::vector<registry::region*> registered_;  ///< by this container
  std::array<std::optional<window>, 2> windows_;
  bool enabled_ = false;
  bool touched_ = false;          ///< some request has named this process's memory
  bool default_pending_ = false;  ///< the default window is made when it is first needed
  std::uint64_t enabled_pages_ = 0;
};

}  // namespace tidemark::kernel::modelled
