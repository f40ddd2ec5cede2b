// SPDX-License-Identifier: Apache-2.0
//
// The answers before VFIO_SET_IOMMU and to VFIO_IOMMU_MAP_DMA, one by one, in the order of the driver's checks.
//
// covers R4 R14 R15 R20 R21 R24

#include <cerrno>

#include "conformance/row.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t read_write = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

// --- before SET_IOMMU ---

/// A container with a group and no type.
struct untyped {
  explicit untyped(const bench& b) : group(b.open_group(b.emulated())), container(b.open_container()) {
    expect(b.attach(group, container), 0, "SET_CONTAINER");
  }
  kernel::handle group;
  kernel::handle container;
};

template <class Structure>
long long ask_untyped(const bench& b, unsigned long request) {
  const untyped u(b);
  Structure argument{};
  argument.argsz = sizeof(argument);
  return b.kernel.ioctl(u.container.get(), request, &argument);
}

long long map_untyped(const bench& b) { return ask_untyped<vfio_iommu_type1_dma_map>(b, VFIO_IOMMU_MAP_DMA); }
long long unmap_untyped(const bench& b) { return ask_untyped<vfio_iommu_type1_dma_unmap>(b, VFIO_IOMMU_UNMAP_DMA); }
long long info_untyped(const bench& b) { return ask_untyped<vfio_iommu_type1_info>(b, VFIO_IOMMU_GET_INFO); }

long long type_without_group(const bench& b) {
  const auto container = b.open_container();
  return b.kernel.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_TYPE1v2_IOMMU});
}

long long type_again(const bench& b) {
  const session s = emulated_session(b);
  return b.kernel.ioctl(s.container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_TYPE1v2_IOMMU});
}

long long type_unsupported(const bench& b) {
  const untyped u(b);
  return b.kernel.ioctl(u.container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_SPAPR_TCE_v2_IOMMU});
}

// --- MAP ---

long long map_argsz(const bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  vfio_iommu_type1_dma_map map{
      .argsz = sizeof(map) - 1, .flags = read_write, .vaddr = ram.address(), .iova = 0, .size = page};
  return b.kernel.ioctl(s.container.get(), VFIO_IOMMU_MAP_DMA, &map);
}

/// The answer to a MAP in a container with nothing mapped. `vaddr` counts from good memory of two pages.
long long map(const bench& b, std::uint64_t iova, std::uint64_t size, std::uint64_t vaddr, std::uint32_t flags) {
  const session s = emulated_session(b);
  const memory ram(2 * page);
  return s.map(iova, size, ram.address() + vaddr, flags);
}

long long map_flags(const bench& b) { return map(b, 0, page, 0, read_write | 0x80); }
long long map_nothing(const bench& b) { return map(b, 0, 0, 0, read_write); }
long long map_iova_wraps(const bench& b) { return map(b, top - page + 1, 2 * page, 0, read_write); }
long long map_vaddr_wraps(const bench& b) { return emulated_session(b).map(0, 2 * page, top - page + 1, read_write); }
long long map_no_access(const bench& b) { return map(b, 0, page, 0, 0); }
long long map_read_vaddr(const bench& b) { return map(b, 0, page, 0, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_VADDR); }
long long map_write_vaddr(const bench& b) { return map(b, 0, page, 0, VFIO_DMA_MAP_FLAG_WRITE | VFIO_DMA_MAP_FLAG_VADDR); }
long long map_iova_unaligned(const bench& b) { return map(b, 8, page, 0, read_write); }
long long map_size_unaligned(const bench& b) { return map(b, 0, page + 8, 0, read_write); }
long long map_vaddr_unaligned(const bench& b) { return map(b, 0, page, 8, read_write); }
long long map_vaddr_nothing(const bench& b) { return map(b, 0, page, 0, VFIO_DMA_MAP_FLAG_VADDR); }

long long map_vaddr_valid(const bench& b) {
  const one_mapping one(b);
  return one.s.map(4 * page, 4 * page, one.ram.address(), VFIO_DMA_MAP_FLAG_VADDR);
}

long long map_vaddr_extent(const bench& b) {
  const session s = backed_session(b);
  const memory ram(4 * page);
  std::uint64_t size = 4 * page;
  expect(s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(s.unmap(0, size, VFIO_DMA_UNMAP_FLAG_VADDR), 0, "UNMAP VADDR");
  return s.map(0, page, ram.address(), VFIO_DMA_MAP_FLAG_VADDR);
}

long long map_overlap(const bench& b) {
  const one_mapping one(b);
  return one.s.map(7 * page, 4 * page, one.ram.address());
}

long long map_over_budget(const bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  const std::uint64_t slots = get_info(s).available.value_or(0);
  for (std::uint64_t i = 0; i < slots; ++i) expect(s.map(i * page, page, ram.address()), 0, "MAP within the budget");
  return s.map(slots * page, page, ram.address());
}

long long map_over_window(const bench& b) {
  const session s = backed_session(b);
  const memory ram(page);
  return s.map(get_info(s).windows.back().end + 1, page, ram.address());
}

long long map_over_gap(const bench& b) {
  const session s = backed_session(b);
  const memory ram(2 * page);
  return s.map(get_info(s).windows.front().end + 1 - page, 2 * page, ram.address());
}

/// A MAP that cannot be pinned, in a container with an IOMMU-backed group.
struct unpinnable {
  unpinnable(const bench& b, bool memory_there) : s(backed_session(b)), ram(64 * page) {
    slots = get_info(s).available.value_or(0);
    if (!memory_there) ram.release();
    answer = s.map(0, 64 * page, memory_there ? ram.address() : top - (1ULL << 40) + 1);
  }
  long long slots_lost() const { return slots - get_info(s).available.value_or(0); }

  session s;
  memory ram;
  long long slots = 0;
  long long answer = 0;
};

long long map_over_memlock(const bench& b) { return unpinnable(b, true).answer; }
long long map_no_memory(const bench& b) { return unpinnable(b, false).answer; }
long long memlock_left(const bench& b) { return static_cast<long long>(unpinnable(b, true).s.unmap_low()); }
long long no_memory_left(const bench& b) { return static_cast<long long>(unpinnable(b, false).s.unmap_low()); }
long long memlock_slots(const bench& b) { return unpinnable(b, true).slots_lost(); }
long long no_memory_slots(const bench& b) { return unpinnable(b, false).slots_lost(); }

}  // namespace

std::vector<test_case> container_rows() {
  return cases_of({
      {"MAP before SET_IOMMU", map_untyped, -EINVAL},
      {"UNMAP before SET_IOMMU", unmap_untyped, -EINVAL},
      {"GET_INFO before SET_IOMMU", info_untyped, -EINVAL},
      {"SET_IOMMU with no group", type_without_group, -EINVAL},
      {"SET_IOMMU a second time", type_again, -EINVAL},
      {"SET_IOMMU of an unsupported type", type_unsupported, -ENODEV},
      {"MAP: argsz too small", map_argsz, -EINVAL},
      {"MAP: unknown flags", map_flags, -EINVAL},
      {"MAP: size 0", map_nothing, -EINVAL},
      {"MAP: iova wraps", map_iova_wraps, when_wrapping},
      {"MAP: vaddr wraps", map_vaddr_wraps, when_wrapping},
      {"MAP: neither READ nor WRITE", map_no_access, -EINVAL},
      {"MAP: READ with VADDR", map_read_vaddr, -EINVAL},
      {"MAP: WRITE with VADDR", map_write_vaddr, -EINVAL},
      {"MAP: iova misaligned", map_iova_unaligned, -EINVAL},
      {"MAP: size misaligned", map_size_unaligned, -EINVAL},
      {"MAP: vaddr misaligned", map_vaddr_unaligned, -EINVAL},
      {"MAP VADDR: no mapping", map_vaddr_nothing, -ENOENT, {5, 12}},
      {"MAP VADDR: address not invalidated", map_vaddr_valid, -EINVAL, {5, 12}},
      {"MAP VADDR: another extent", map_vaddr_extent, -EINVAL, {5, 12}},
      {"MAP: overlap", map_overlap, -EEXIST},
      {"MAP: budget used up", map_over_budget, -ENOSPC, {5, 10}},
      {"MAP: beyond the IOVA windows", map_over_window, -EINVAL, {5, 4}},
      {"MAP: across the end of a window", map_over_gap, -EINVAL, {5, 4}},
      {"MAP: over the limit of locked memory", map_over_memlock, -ENOMEM, {0, 0}, {1000, 0}, 32},
      {"MAP: over the limit of locked memory: bytes that stay mapped", memlock_left, 0, {0, 0}, {1000, 0}, 32},
      {"MAP: over the limit of locked memory: slots lost", memlock_slots, 0, {5, 10}, {1000, 0}, 32},
      {"MAP: memory that cannot be pinned", map_no_memory, -EFAULT},
      {"MAP: memory that cannot be pinned: bytes that stay mapped", no_memory_left, 0},
      {"MAP: memory that cannot be pinned: slots lost", no_memory_slots, 0, {5, 10}},
  });
}

}  // namespace tidemark::conformance
