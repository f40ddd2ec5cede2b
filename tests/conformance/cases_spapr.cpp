// SPDX-License-Identifier: Apache-2.0
//
// sPAPR TCE containers. No packaged kernel shows them, so what is expected here was read in
// drivers/vfio/vfio_iommu_spapr_tce.c.
//
// covers R4 R12

#include <cerrno>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint64_t window_bytes = 2ULL << 30;
constexpr std::uint64_t table_pages = window_bytes / page * 8 / page;  // of the default window
constexpr std::uint64_t second_window = 1ULL << 59;

/// A container of an sPAPR type with an IOMMU-backed group.
struct tce_container {
  tce_container(const bench& b, unsigned long type) : s(b, {b.backed()}, type) {}

  int request(unsigned long which) const { return s.on.kernel.ioctl(s.container.get(), which); }
  int memory_request(unsigned long which, std::uint64_t vaddr, std::uint64_t size, std::uint32_t flags = 0) const {
    vfio_iommu_spapr_register_memory what{.argsz = sizeof(what), .flags = flags, .vaddr = vaddr, .size = size};
    return s.on.kernel.ioctl(s.container.get(), which, &what);
  }
  int enlist(std::uint64_t vaddr, std::uint64_t size) const {
    return memory_request(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, vaddr, size);
  }
  int delist(std::uint64_t vaddr, std::uint64_t size) const {
    return memory_request(VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, vaddr, size);
  }
  int create(std::uint32_t page_shift, std::uint64_t bytes, std::uint32_t levels, std::uint64_t* start = nullptr) const {
    vfio_iommu_spapr_tce_create what{};
    what.argsz = sizeof(what);
    what.page_shift = page_shift;
    what.window_size = bytes;
    what.levels = levels;
    const int answer = s.on.kernel.ioctl(s.container.get(), VFIO_IOMMU_SPAPR_TCE_CREATE, &what);
    if (start != nullptr) *start = what.start_addr;
    return answer;
  }
  int remove(std::uint64_t start) const {
    vfio_iommu_spapr_tce_remove what{};
    what.argsz = sizeof(what);
    what.start_addr = start;
    return s.on.kernel.ioctl(s.container.get(), VFIO_IOMMU_SPAPR_TCE_REMOVE, &what);
  }
  int unmap(std::uint64_t iova, std::uint64_t size) const { return s.unmap(iova, size); }

  session s;
};

struct v1 : tce_container {
  explicit v1(const bench& b) : tce_container(b, VFIO_SPAPR_TCE_IOMMU) {}
};
struct v2 : tce_container {
  explicit v2(const bench& b) : tce_container(b, VFIO_SPAPR_TCE_v2_IOMMU) {}
};

// --- types ---

int offers(const bench& b, const kernel::handle& container, std::uintptr_t extension) {
  return b.kernel.ioctl(container.get(), VFIO_CHECK_EXTENSION, extension);
}

void offered(bench& b) {
  const auto container = b.open_container();
  expect(offers(b, container, VFIO_SPAPR_TCE_v2_IOMMU), 1, "v2");
  expect(offers(b, container, VFIO_SPAPR_TCE_IOMMU), 1, "v1");
  expect(offers(b, container, VFIO_TYPE1v2_IOMMU), 0, "type1v2");
  expect(offers(b, container, VFIO_TYPE1_IOMMU), 0, "type1");
  expect(offers(b, container, VFIO_UNMAP_ALL), 0, "UNMAP_ALL");
}

void only_type(const bench& b, unsigned long works, unsigned long fails) {
  const auto group = b.open_group(b.backed());
  const auto container = b.open_container();
  expect(b.attach(group, container), 0, "SET_CONTAINER");
  expect(b.kernel.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_TYPE1v2_IOMMU}), -ENODEV,
         "SET_IOMMU of type1v2");
  expect(b.kernel.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{fails}), -EPERM, "SET_IOMMU of the other version");
  expect(b.kernel.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{works}), 0, "SET_IOMMU");
}
void v2_works(bench& b) { only_type(b, VFIO_SPAPR_TCE_v2_IOMMU, VFIO_SPAPR_TCE_IOMMU); }
void v1_works(bench& b) { only_type(b, VFIO_SPAPR_TCE_IOMMU, VFIO_SPAPR_TCE_v2_IOMMU); }

void emulated_refused(bench& b) {
  const v2 c(b);
  const auto group = b.open_group(b.emulated());
  expect(b.attach(group, c.s.container), -ENODEV, "SET_CONTAINER of a group without a table");
}

void second_group(bench& b, const tce_container& c, int answer) {
  const auto group = b.open_group(b.pair());
  expect(b.attach(group, c.s.container), answer, "SET_CONTAINER of a second group");
}
void v1_second_group(bench& b) { second_group(b, v1(b), -EBUSY); }
void v2_second_group(bench& b) { second_group(b, v2(b), 0); }
void v2_incompatible(bench& b) { second_group(b, v2(b), -EPERM); }

// --- GET_INFO ---

void info(const tce_container& c, bool dynamic) {
  vfio_iommu_spapr_tce_info told{};
  told.argsz = sizeof(told);
  const auto ask = [&] { return c.s.on.kernel.ioctl(c.s.container.get(), VFIO_IOMMU_SPAPR_TCE_GET_INFO, &told); };
  expect(ask(), 0, "GET_INFO");
  expect(told.dma32_window_start, 0, "the default window's start");
  expect(told.dma32_window_size, window_bytes, "its size");
  expect(told.flags, dynamic ? VFIO_IOMMU_SPAPR_INFO_DDW : 0, "flags");
  expect(told.ddw.pgsizes, dynamic ? 0x1011000 : 0, "page sizes");
  expect(told.ddw.max_dynamic_windows_supported, dynamic ? 2 : 0, "windows");
  expect(told.ddw.levels, dynamic ? 5 : 0, "levels");
  told.argsz = offsetof(vfio_iommu_spapr_tce_info, ddw);
  told.ddw.levels = 99;
  expect(ask(), 0, "GET_INFO with the older structure");
  expect(told.ddw.levels, 99, "what lies behind it");
  --told.argsz;
  expect(ask(), -EINVAL, "GET_INFO with a short argsz");
}
void v1_info(bench& b) { info(v1(b), false); }
void v2_info(bench& b) { info(v2(b), true); }

// --- version 1 ---

void v1_enables(bench& b) {
  const v1 c(b);
  const memory ram(4 * page);
  expect(c.s.map(0, page, ram.address()), -EPERM, "MAP before ENABLE");
  expect(c.unmap(0, page), -EPERM, "UNMAP before ENABLE");
  expect(c.request(VFIO_IOMMU_ENABLE), 0, "ENABLE");
  expect(c.request(VFIO_IOMMU_ENABLE), -EBUSY, "ENABLE again");
  expect(c.s.map(0, page, ram.address()), 0, "MAP");
  expect(c.unmap(0, page), 0, "UNMAP");
  expect(c.request(VFIO_IOMMU_DISABLE), 0, "DISABLE");
  expect(c.request(VFIO_IOMMU_DISABLE), 0, "DISABLE again");
  expect(c.s.map(0, page, ram.address()), -EPERM, "MAP after DISABLE");
}

void v1_lacks(bench& b) {
  const v1 c(b);
  expect(c.enlist(0, page), -ENOTTY, "REGISTER_MEMORY");
  expect(c.delist(0, page), -ENOTTY, "UNREGISTER_MEMORY");
  expect(c.create(12, window_bytes, 1), -ENOTTY, "TCE_CREATE");
  expect(c.remove(0), -ENOTTY, "TCE_REMOVE");
}

void v1_memlock(bench& b) {
  const v1 c(b);
  expect(c.request(VFIO_IOMMU_ENABLE), -ENOMEM, "ENABLE, which locks as much as the window holds");
}

void v1_memlock_shared(bench& b) {
  const v1 c(b);
  expect(c.request(VFIO_IOMMU_ENABLE), 0, "ENABLE");
  const session other(b, {b.pair()}, VFIO_SPAPR_TCE_IOMMU);
  expect(b.kernel.ioctl(other.container.get(), VFIO_IOMMU_ENABLE), -ENOMEM, "ENABLE of a second container");
  expect(c.request(VFIO_IOMMU_DISABLE), 0, "DISABLE");
  expect(b.kernel.ioctl(other.container.get(), VFIO_IOMMU_ENABLE), 0, "ENABLE of it, then");
}

void v1_maps(bench& b) {
  const v1 c(b);
  memory ram(4 * page);
  expect(c.request(VFIO_IOMMU_ENABLE), 0, "ENABLE");
  expect(c.s.map(window_bytes, page, ram.address()), -ENXIO, "behind the window");
  expect(c.s.map(window_bytes - page, 2 * page, ram.address()), -EINVAL, "over its end");
  expect(c.s.map(0, page + 8, ram.address()), -EINVAL, "a size that is no multiple of the page");
  expect(c.s.map(0, page, ram.address() + 8), -EINVAL, "a vaddr within a page");
  expect(c.s.map(8, page, ram.address()), -EINVAL, "an iova within a page");
  expect(c.s.map(0, page, ram.address(), 0), -EINVAL, "neither READ nor WRITE");
  expect(c.s.map(0, page, ram.address(), VFIO_DMA_MAP_FLAG_VADDR), -EINVAL, "an unknown flag");
  expect(c.s.map(0, 4 * page, ram.address()), 0, "four pages");
  expect(c.s.map(page, page, ram.address()), 0, "one of them again: it is overwritten");
  std::uint64_t size = 8 * page;
  expect(c.s.unmap(0, size), 0, "UNMAP of more than is mapped");
  expect(size, 8 * page, "the size field, which is left alone");
  ram.release();
  expect(c.s.map(0, page, ram.address()), -EFAULT, "memory that is not there");
}

void v1_unmaps(bench& b) {
  const v1 c(b);
  const memory ram(4 * page);
  expect(c.request(VFIO_IOMMU_ENABLE), 0, "ENABLE");
  expect(c.s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(c.unmap(page, 2 * page), 0, "the middle of a mapping");
  expect(c.unmap(0, 4 * page), 0, "all of it");
  expect(c.unmap(0, page + 8), -EINVAL, "a size that is no multiple of the page");
  expect(c.unmap(8, page), -EINVAL, "an iova within a page");
  expect(c.unmap(window_bytes - page, 2 * page), -EINVAL, "over the window's end");
  expect(c.unmap(window_bytes, page), -ENXIO, "behind the window");
  std::uint64_t size = 0;
  expect(c.s.unmap(0, size, VFIO_DMA_UNMAP_FLAG_ALL), -EINVAL, "ALL");
}

// --- version 2: memory ---

void v2_registers(bench& b) {
  const v2 c(b);
  const memory ram(8 * page);
  expect(c.delist(ram.address(), 4 * page), -EPERM, "UNREGISTER before anything");
  expect(c.enlist(ram.address() + 8, 4 * page), -EINVAL, "an address within a page");
  expect(c.enlist(ram.address(), page + 8), -EINVAL, "a size that is no multiple of the page");
  expect(c.enlist(top - page + 1, 2 * page), -EINVAL, "a range that wraps");
  expect(c.memory_request(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, ram.address(), page, 1), -EINVAL, "a flag");
  expect(c.enlist(ram.address(), 4 * page), 0, "four pages");
  expect(c.enlist(ram.address(), 4 * page), -EBUSY, "the same again");
  expect(c.enlist(ram.address() + 2 * page, 4 * page), -EINVAL, "a range that meets it");
  expect(c.enlist(ram.address() + 4 * page, 4 * page), 0, "its neighbour");
  expect(c.delist(ram.address(), 2 * page), -ENOENT, "UNREGISTER of a part");
  expect(c.delist(ram.address(), 4 * page), 0, "UNREGISTER");
  expect(c.delist(ram.address(), 4 * page), -ENOENT, "UNREGISTER again");
}

void v2_register_fails(bench& b) {
  const v2 c(b);
  memory ram(64 * page);
  expect(c.enlist(ram.address(), 33 * page), -ENOMEM, "over the limit of locked memory");
  expect(c.enlist(ram.address(), 32 * page), 0, "just the limit");
  expect(c.enlist(ram.address() + 32 * page, page), -ENOMEM, "a page more");
  expect(c.delist(ram.address(), 32 * page), 0, "UNREGISTER");
  ram.release();
  expect(c.enlist(ram.address(), page), -EFAULT, "memory that is not there");
}

void v2_maps_registered(bench& b) {
  const v2 c(b);
  const memory ram(8 * page);
  expect(c.s.map(0, page, ram.address()), -EPERM, "MAP before anything is registered");
  expect(c.enlist(ram.address(), 4 * page), 0, "REGISTER");
  expect(c.s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(c.s.map(0, page, ram.address() + 4 * page), -EINVAL, "MAP of memory that is not registered");
  expect(c.s.map(4 * page, 2 * page, ram.address() + 3 * page), -EINVAL, "MAP of memory registered in part");
  expect(c.unmap(0, 8 * page), 0, "UNMAP");
  expect(c.delist(ram.address(), 4 * page), 0, "UNREGISTER");
  expect(c.s.map(0, page, ram.address()), -EINVAL, "MAP after UNREGISTER");
}

void v2_lacks(bench& b) {
  const v2 c(b);
  expect(c.request(VFIO_IOMMU_ENABLE), -ENOTTY, "ENABLE");
  expect(c.request(VFIO_IOMMU_DISABLE), -ENOTTY, "DISABLE");
}

void v2_memory_is_shared(bench& b) {
  const v2 first(b);
  const session second(b, {b.pair()}, VFIO_SPAPR_TCE_v2_IOMMU);
  const memory ram(4 * page);
  expect(first.enlist(ram.address(), 4 * page), 0, "REGISTER");
  vfio_iommu_spapr_register_memory what{.argsz = sizeof(what), .flags = 0, .vaddr = ram.address(), .size = 4 * page};
  expect(b.kernel.ioctl(second.container.get(), VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, &what), -EPERM,
         "UNREGISTER by a stranger");
  expect(b.kernel.ioctl(second.container.get(), VFIO_IOMMU_SPAPR_REGISTER_MEMORY, &what), 0,
         "REGISTER by a second container");
  expect(first.delist(ram.address(), 4 * page), 0, "UNREGISTER by the first");
  expect(second.map(0, 4 * page, ram.address()), 0, "MAP by the second");
}

// --- version 2: windows ---

void v2_windows(bench& b) {
  const v2 c(b);
  std::uint64_t start = 0;
  expect(c.create(16, 1ULL << 32, 1, &start), 0, "TCE_CREATE, which makes the default window first");
  expect(start, static_cast<long long>(second_window), "its start");
  expect(c.create(16, 1ULL << 32, 1), -ENOSPC, "TCE_CREATE of a third");
  expect(c.remove(second_window), 0, "TCE_REMOVE");
  expect(c.remove(second_window), -EINVAL, "TCE_REMOVE again");
  expect(c.remove(0), 0, "TCE_REMOVE of the default window");
  expect(c.create(24, 1ULL << 40, 2, &start), 0, "TCE_CREATE in its place");
  expect(start, 0, "its start");
}

void v2_default_window_not_wanted(bench& b) {
  const v2 c(b);
  const memory ram(page);
  expect(c.enlist(ram.address(), page), 0, "REGISTER");
  expect(c.remove(0), 0, "TCE_REMOVE of the default window before it is made");
  expect(c.s.map(0, page, ram.address()), -ENXIO, "MAP without a window");
  expect(c.unmap(0, page), -ENXIO, "UNMAP without a window");
}

void v2_bad_windows(bench& b) {
  const v2 c(b);
  expect(c.create(13, 1ULL << 32, 1), -EINVAL, "pages of 8 KiB");
  expect(c.create(16, 3ULL << 31, 1), -EINVAL, "a size that is no power of two");
  expect(c.create(16, 1ULL << 32, 0), -EINVAL, "no levels");
  expect(c.create(16, 1ULL << 32, 6), -EINVAL, "more levels than there are");
  expect(c.create(16, 1ULL << 32, 1), 0, "a good one");
}

void v2_large_pages(bench& b) {
  const v2 c(b);
  const memory ram(64 * page);
  const std::uint64_t large = 1 << 16;
  const std::uint64_t vaddr = (ram.address() + large - 1) & ~(large - 1);
  std::uint64_t start = 0;
  expect(c.create(16, 1ULL << 32, 1, &start), 0, "TCE_CREATE");
  expect(c.enlist(vaddr, 2 * large), 0, "REGISTER");
  expect(c.s.map(start, page, vaddr), -EINVAL, "MAP of less than the window's page");
  expect(c.s.map(start + page, large, vaddr), -EINVAL, "MAP of an iova within the window's page");
  expect(c.s.map(start, 2 * large, vaddr), 0, "MAP");
  expect(c.s.map(0, page, vaddr), 0, "MAP in the default window");
  expect(c.unmap(start, 2 * large), 0, "UNMAP");
}

void v2_window_memlock(bench& b) {
  const v2 c(b);
  const memory ram(page);
  expect(c.enlist(ram.address(), page), 0, "REGISTER");
  expect(c.s.map(0, page, ram.address()), -ENOMEM, "MAP, which makes the default window, whose table is locked memory");
  expect(c.create(24, 1ULL << 32, 1), -ENOMEM, "TCE_CREATE, which makes the default window");
}

void v2_removed_with_mappings(bench& b) {
  const v2 c(b);
  const memory ram(4 * page);
  expect(c.enlist(ram.address(), 4 * page), 0, "REGISTER");
  expect(c.s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(c.remove(0), 0, "TCE_REMOVE with a mapping inside");
  expect(c.delist(ram.address(), 4 * page), 0, "UNREGISTER");
  expect(c.unmap(0, page), -ENXIO, "UNMAP where there is no window");
}

void leaves_all(bench& b) {
  const v2 c(b);
  const memory ram(4 * page);
  expect(c.enlist(ram.address(), 4 * page), 0, "REGISTER");
  expect(c.s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(b.kernel.ioctl(c.s.groups[0].get(), VFIO_GROUP_UNSET_CONTAINER), 0, "UNSET_CONTAINER");
  expect(c.s.map(0, page, ram.address()), -EINVAL, "MAP without a type");
}

}  // namespace

std::vector<test_case> spapr_cases() {
  std::vector<test_case> with_windows = {
      {"spapr: both versions are offered, and no type1", offered},
      {"spapr: where windows are dynamic v2 works and v1 is EPERM", v2_works},
      {"spapr: a group with an emulated IOMMU is ENODEV", emulated_refused},
      {"spapr v2: several groups share a container", v2_second_group},
      {.name = "spapr v2: groups of different hardware are EPERM",
       .run = v2_incompatible,
       .shape = [](kernel::model_options& options) { options.groups[3].shares_container = false; }},
      {"spapr v2: GET_INFO tells the default window and what windows there can be", v2_info},
      {"spapr v2: memory is registered and unregistered whole", v2_registers},
      {.name = "spapr v2: memory that cannot be registered is ENOMEM or EFAULT",
       .run = v2_register_fails,
       .memlock_pages = 32},
      {"spapr v2: only registered memory can be mapped", v2_maps_registered},
      {"spapr v2: there is no ENABLE", v2_lacks},
      {"spapr v2: containers of a process share registered memory", v2_memory_is_shared},
      {"spapr v2: windows are made and removed", v2_windows},
      {"spapr v2: the default window can be done without", v2_default_window_not_wanted},
      {"spapr v2: windows that cannot be are EINVAL", v2_bad_windows},
      {"spapr v2: a window has its page size", v2_large_pages},
      {.name = "spapr v2: a window's table is locked memory", .run = v2_window_memlock, .memlock_pages = table_pages},
      {"spapr v2: a window goes with its mappings", v2_removed_with_mappings},
      {"spapr v2: nothing is left when the last group leaves", leaves_all},
  };
  std::vector<test_case> fixed = {
      {"spapr: where windows are fixed v1 works and v2 is EPERM", v1_works},
      {"spapr v1: a second group is EBUSY", v1_second_group},
      {"spapr v1: GET_INFO tells the window", v1_info},
      {"spapr v1: nothing is mapped before ENABLE", v1_enables},
      {"spapr v1: there are no windows to make and no memory to register", v1_lacks},
      {.name = "spapr v1: ENABLE over the limit of locked memory is ENOMEM", .run = v1_memlock, .memlock_pages = 1024},
      {.name = "spapr v1: containers share the limit of locked memory",
       .run = v1_memlock_shared,
       .memlock_pages = window_bytes / page},
      {"spapr v1: MAP inside the window", v1_maps},
      {"spapr v1: UNMAP of any pages", v1_unmaps},
  };
  std::vector<test_case> all;
  for (auto* cases : {&with_windows, &fixed}) {
    for (test_case& one : *cases) {
      one.shape = [dynamic = cases == &with_windows, also = one.shape](kernel::model_options& options) {
        options.spapr = kernel::model_spapr{.dynamic_windows = dynamic};
        if (also) also(options);
      };
      one.model_only = "no packaged kernel binds a device to VFIO with sPAPR";
      all.push_back(std::move(one));
    }
  }
  return all;
}

}  // namespace tidemark::conformance
