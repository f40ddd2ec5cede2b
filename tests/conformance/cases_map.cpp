// SPDX-License-Identifier: Apache-2.0
//
// VFIO_IOMMU_MAP_DMA.

#include <algorithm>
#include <cerrno>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t read_write = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

std::uint64_t unmapped_by(const session& s, std::uint64_t iova, std::uint64_t size) {
  expect(s.unmap(iova, size), 0, "UNMAP");
  return size;
}

// --- requests refused for what they say ---

void argsz_short(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  vfio_iommu_type1_dma_map map{
      .argsz = sizeof(map) - 1, .flags = VFIO_DMA_MAP_FLAG_READ, .vaddr = ram.address(), .iova = 0, .size = page};
  expect(b.kernel.ioctl(s.container.get(), VFIO_IOMMU_MAP_DMA, &map), -EINVAL, "MAP");
  expect(b.kernel.ioctl(s.container.get(), VFIO_IOMMU_MAP_DMA), -EFAULT, "MAP without an address");
}

/// A request that differs from a good one in one thing. Numbers are multiples of nothing: what is written is what is sent.
struct refused {
  const char* name;
  std::uint64_t iova;
  std::uint64_t size;
  std::uint64_t vaddr;  ///< from the start of good memory, but where `wild` is set
  std::uint32_t flags;
  int answer;  ///< 0: the answer to ranges that wrap
  bool wild = false;
};

const refused refused_requests[] = {
    {"map: an unknown flag is EINVAL", 0, page, 0, read_write | 0x80, -EINVAL},
    {"map: size 0 is EINVAL", 0, 0, 0, read_write, -EINVAL},
    {"map: an iova range that wraps is EINVAL, from 6.18 EOVERFLOW", top - page + 1, 2 * page, 0, read_write, 0},
    {"map: a vaddr range that wraps is EINVAL, from 6.18 EOVERFLOW", 0, 2 * page, top - page + 1, read_write, 0, true},
    {"map: neither READ nor WRITE is EINVAL", 0, page, 0, 0, -EINVAL},
    {"map: an iova within a page is EINVAL", 8, page, 0, read_write, -EINVAL},
    {"map: a size that is no multiple of the page is EINVAL", 0, page + 8, 0, read_write, -EINVAL},
    {"map: a vaddr within a page is EINVAL", 0, page, 8, read_write, -EINVAL},
    {"map: READ with VADDR is EINVAL", 0, page, 0, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_VADDR, -EINVAL},
    {"map: WRITE with VADDR is EINVAL", 0, page, 0, VFIO_DMA_MAP_FLAG_WRITE | VFIO_DMA_MAP_FLAG_VADDR, -EINVAL},
    {"map: VADDR where nothing is mapped is ENOENT", 0, page, 0, VFIO_DMA_MAP_FLAG_VADDR, -ENOENT},
};

void refuse(bench& b, const refused& row) {
  const session s = emulated_session(b);
  const memory ram(2 * page);
  const std::uint64_t vaddr = row.wild ? row.vaddr : ram.address() + row.vaddr;
  expect(s.map(row.iova, row.size, vaddr, row.flags), row.answer != 0 ? row.answer : b.wraps(), "MAP");
  expect(s.unmap_low(), 0, "bytes mapped all the same");
}

// --- overlaps ---

void overlaps(bench& b) {
  const session s = emulated_session(b);
  const memory ram(16 * page);
  expect(s.map(4 * page, 4 * page, ram.address()), 0, "MAP");
  expect(s.map(4 * page, 4 * page, ram.address()), -EEXIST, "the same range");
  expect(s.map(5 * page, page, ram.address()), -EEXIST, "inside it");
  expect(s.map(3 * page, 2 * page, ram.address()), -EEXIST, "over its start");
  expect(s.map(7 * page, 2 * page, ram.address()), -EEXIST, "over its end");
  expect(s.map(0, 16 * page, ram.address()), -EEXIST, "around it");
}

void neighbours(bench& b) {
  const session s = emulated_session(b);
  const memory ram(4 * page);
  expect(s.map(4 * page, 4 * page, ram.address()), 0, "MAP");
  expect(s.map(3 * page, page, ram.address()), 0, "right before it");
  expect(s.map(8 * page, page, ram.address()), 0, "right behind it");
}

void same_memory_twice(bench& b) {
  const session s = backed_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(s.map(page, page, ram.address()), 0, "MAP of the same memory elsewhere");
}

// --- budget ---

void budget(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  const std::uint64_t slots = get_info(s).available.value_or(0);
  expect_true(slots > 0, "the budget is reported");
  for (std::uint64_t i = 0; i < slots; ++i) expect(s.map(2 * i * page, page, ram.address()), 0, "MAP within the budget");
  expect(get_info(s).available.value(), 0, "mappings available");
  expect(s.map(page, page, ram.address()), -ENOSPC, "MAP over the budget");
  expect(s.map(0, page, ram.address()), -EEXIST, "an overlap is noticed before the budget");
  expect(unmapped_by(s, 0, page), page, "bytes unmapped");
  expect(s.map(page, page, ram.address()), 0, "MAP with a slot free again");
}

// --- windows ---

void outside_windows(bench& b) {
  const session s = backed_session(b);
  const memory ram(4 * page);
  const auto windows = get_info(s).windows;
  const std::uint64_t end = windows.front().end;
  expect(s.map(end + 1 - page, page, ram.address()), 0, "MAP up to a window's end");
  expect(s.unmap_low(), page, "bytes unmapped");
  expect(s.map(end + 1 - page, 2 * page, ram.address()), -EINVAL, "MAP across a window's end");
  expect(s.map(end + 1, page, ram.address()), -EINVAL, "MAP between windows");
  expect(s.map(windows.back().end + 1, page, ram.address()), -EINVAL, "MAP behind the last window");
}

void across_a_gap(bench& b) {
  const session s = backed_session(b);
  const auto windows = get_info(s).windows;
  if (windows.size() < 2) throw skipped("needs an IOMMU with a reserved range");
  const std::uint64_t size = windows[1].start + page - (windows[0].end + 1 - page);
  const memory ram(size);
  expect(s.map(windows[0].end + 1 - page, size, ram.address()), -EINVAL, "MAP across the reserved range");
  expect(s.map(windows[1].start, page, ram.address()), 0, "MAP from the second window's start");
}

void last_page(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(top - page + 1, page, ram.address()), 0, "MAP of the last page of the space");
}

// --- pinning ---

void memlock(bench& b) {
  const session s = backed_session(b);
  const memory ram(64 * page);
  const auto slots = get_info(s).available;
  expect(s.map(0, 33 * page, ram.address()), -ENOMEM, "MAP over the limit");
  expect(s.unmap_low(), 0, "bytes mapped all the same");
  expect_true(get_info(s).available == slots, "its slot is returned");
  expect(s.map(0, 32 * page, ram.address()), 0, "MAP of just the limit");
  expect(s.map(64 * page, page, ram.address()), -ENOMEM, "MAP of a page more");
  expect(s.unmap_low(), 32 * page, "bytes unmapped");
  expect(s.map(64 * page, page, ram.address()), 0, "MAP after the UNMAP");
}

void memlock_emulated(bench& b) {
  const session s = emulated_session(b);
  const memory ram(64 * page);
  expect(s.map(0, 64 * page, ram.address()), 0, "MAP over the limit");
}

void no_memory(bench& b) {
  const session s = backed_session(b);
  memory ram(4 * page);
  const std::uint64_t address = ram.address();
  const auto slots = get_info(s).available;
  ram.release();
  expect(s.map(0, 4 * page, address), -EFAULT, "MAP");
  expect(s.unmap_low(), 0, "bytes mapped all the same");
  expect_true(get_info(s).available == slots, "its slot is returned");
}

void memory_with_a_hole(bench& b) {
  const session s = backed_session(b);
  const memory ram(2 * page);
  expect(s.map(0, 1ULL << 46, ram.address()), -EINVAL, "a range over the windows, first");
  expect(s.map(0, 1ULL << 30, top - (1ULL << 40) + 1), -EFAULT, "addresses of the kernel");
  expect(s.unmap_low(), 0, "bytes mapped all the same");
}

void no_memory_emulated(bench& b) {
  const session s = emulated_session(b);
  memory ram(page);
  const std::uint64_t address = ram.address();
  ram.release();
  expect(s.map(0, page, address), 0, "MAP");
}

void read_only_memory(bench& b) {
  const session s = backed_session(b);
  const memory fixed(page, false);
  expect(s.map(0, page, fixed.address(), read_write), -EFAULT, "MAP to write");
  expect(s.map(0, page, fixed.address(), VFIO_DMA_MAP_FLAG_READ), 0, "MAP to read");
}

// --- VADDR ---

void vaddr_not_invalid(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(s.map(0, page, ram.address(), VFIO_DMA_MAP_FLAG_VADDR), -EINVAL, "MAP VADDR");
}

void vaddr_handover(bench& b) {
  const session s = backed_session(b);
  const memory ram(4 * page);
  expect(s.map(0, 2 * page, ram.address()), 0, "MAP");
  expect(s.map(8 * page, page, ram.address()), 0, "MAP of another");
  std::uint64_t size = 0;
  expect(s.unmap(0, size, VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL), 0, "UNMAP VADDR of all");
  expect(size, 3 * page, "bytes invalidated");
  expect(s.map(0, page, ram.address(), VFIO_DMA_MAP_FLAG_VADDR), -EINVAL, "MAP VADDR of a part");
  expect(s.map(page, page, ram.address(), VFIO_DMA_MAP_FLAG_VADDR), -EINVAL, "MAP VADDR from the middle");
  expect(s.map(4 * page, page, ram.address(), VFIO_DMA_MAP_FLAG_VADDR), -ENOENT, "MAP VADDR of nothing");
  expect(s.map(0, 2 * page, ram.address() + page, VFIO_DMA_MAP_FLAG_VADDR), 0, "MAP VADDR");
  expect(s.map(0, 2 * page, ram.address() + page, VFIO_DMA_MAP_FLAG_VADDR), -EINVAL, "MAP VADDR a second time");
  expect(s.map(8 * page, page, ram.address(), VFIO_DMA_MAP_FLAG_VADDR), 0, "MAP VADDR of the other");
  expect(s.unmap_low(), 3 * page, "bytes mapped all the time");
}

}  // namespace

std::vector<test_case> map_cases() {
  std::vector<test_case> cases = {
      {"map: a short argsz is EINVAL, no argument EFAULT", argsz_short},
      {"map: an overlap is EEXIST", overlaps},
      {"map: neighbours do not overlap", neighbours},
      {"map: the same memory may be mapped twice", same_memory_twice},
      {"map: over the budget is ENOSPC", budget, {5, 10}},
      {"map: outside the windows is EINVAL", outside_windows, {5, 4}},
      {"map: across two windows is EINVAL", across_a_gap, {5, 4}},
      {"map: the last page of the space can be mapped", last_page},
      {.name = "map: over the limit of locked memory is ENOMEM, and nothing stays", .run = memlock, .memlock_pages = 32},
      {.name = "map: emulated groups lock nothing", .run = memlock_emulated, .memlock_pages = 32},
      {"map: memory that is not there is EFAULT, and nothing stays", no_memory},
      {"map: the kernel's addresses are EFAULT, after the windows are checked", memory_with_a_hole},
      {"map: emulated groups do not look at the memory", no_memory_emulated},
      {"map: memory that may not be written is EFAULT to write", read_only_memory},
      {"map: VADDR of addresses that are not invalid is EINVAL", vaddr_not_invalid, {5, 12}},
      {"map: VADDR hands mappings over one by one", vaddr_handover, {5, 12}},
  };
  for (const refused& row : refused_requests) {
    const bool vaddr = (row.flags & VFIO_DMA_MAP_FLAG_VADDR) != 0;
    cases.push_back({row.name, [&row](bench& b) { refuse(b, row); }, {vaddr ? 5U : 0U, vaddr ? 12U : 0U}});
  }
  return cases;
}

}  // namespace tidemark::conformance
