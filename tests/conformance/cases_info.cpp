// SPDX-License-Identifier: Apache-2.0
//
// VFIO_IOMMU_GET_INFO.

#include <algorithm>
#include <cerrno>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t without_capabilities = offsetof(vfio_iommu_type1_info, cap_offset);

int ask(const session& s, vfio_iommu_type1_info& info) {
  return s.on.kernel.ioctl(s.container.get(), VFIO_IOMMU_GET_INFO, &info);
}

void argsz_short(bench& b) {
  const session s = emulated_session(b);
  vfio_iommu_type1_info info{};
  info.argsz = without_capabilities - 1;
  expect(ask(s, info), -EINVAL, "GET_INFO");
  expect(b.kernel.ioctl(s.container.get(), VFIO_IOMMU_GET_INFO), -EFAULT, "GET_INFO without an address");
}

void argsz_of_old_structure(bench& b) {
  const session s = emulated_session(b);
  vfio_iommu_type1_info info{};
  info.argsz = without_capabilities;
  info.cap_offset = 0x5a5a5a5a;
  expect(ask(s, info), 0, "GET_INFO");
  expect(info.flags, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS, "flags");
  expect_true(info.argsz > sizeof(info), "argsz is raised");
  expect(info.cap_offset, 0x5a5a5a5a, "what lies behind the old structure");
}

void argsz_raised(bench& b) {
  const session s = emulated_session(b);
  vfio_iommu_type1_info info{};
  info.argsz = sizeof(info);
  info.cap_offset = 0x5a5a5a5a;
  expect(ask(s, info), 0, "GET_INFO");
  expect_true(info.argsz > sizeof(info), "argsz is raised");
  expect(info.cap_offset, 0, "cap_offset");
}

void argsz_exact(bench& b) {
  const session s = emulated_session(b);
  vfio_iommu_type1_info info{};
  info.argsz = sizeof(info);
  expect(ask(s, info), 0, "GET_INFO");
  std::vector<std::uint64_t> buffer(info.argsz / sizeof(std::uint64_t) + 1);
  auto* exact = reinterpret_cast<vfio_iommu_type1_info*>(buffer.data());
  exact->argsz = info.argsz - 1;
  expect(ask(s, *exact), 0, "GET_INFO with a byte too few");
  expect(exact->cap_offset, 0, "cap_offset with a byte too few");
  exact->argsz = info.argsz;
  expect(ask(s, *exact), 0, "GET_INFO with just enough");
  expect(exact->cap_offset, sizeof(info), "cap_offset with just enough");
}

void page_sizes_emulated(bench& b) {
  const auto answer = get_info(emulated_session(b));
  expect_true(answer.info.iova_pgsizes == ~(page - 1), "every size from the page on");
}

void page_sizes_backed(bench& b) {
  const auto answer = get_info(backed_session(b));
  expect_true((answer.info.iova_pgsizes & (~answer.info.iova_pgsizes + 1)) == page, "the smallest is the page");
}

void migration(bench& b) {
  const auto answer = get_info(emulated_session(b));
  expect_true(answer.migration.has_value(), "the capability is there");
  expect(answer.migration->pgsize_bitmap, page, "page sizes");
  expect(answer.migration->max_dirty_bitmap_size, 256LL * 1024 * 1024, "largest bitmap");
}

void available(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  const auto before = get_info(s).available;
  expect_true(before.has_value(), "the capability is there");
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(get_info(s).available.value(), *before - 1LL, "mappings available after a MAP");
  expect(s.map(0, page, ram.address()), -EEXIST, "a MAP that fails");
  expect(get_info(s).available.value(), *before - 1LL, "mappings available after it");
  std::uint64_t size = page;
  expect(s.unmap(0, size), 0, "UNMAP");
  expect(get_info(s).available.value(), *before, "mappings available after the UNMAP");
}

void windows_of_emulated(bench& b) { expect(get_info(emulated_session(b)).windows.size(), 0, "windows"); }

void windows_of_backed(bench& b) {
  const auto windows = get_info(backed_session(b)).windows;
  expect_true(!windows.empty(), "there are windows");
  for (const auto& window : windows) expect_true(window.start < window.end, "a window's end is behind its start");
  const bool ascending = std::is_sorted(windows.begin(), windows.end(),
                                        [](const auto& left, const auto& right) { return left.end < right.start; });
  expect_true(ascending, "windows ascend and do not meet");
}

void windows_after_backed_left(bench& b) {
  const session s = mixed_session(b);
  expect(b.kernel.ioctl(s.groups[1].get(), VFIO_GROUP_UNSET_CONTAINER), 0, "UNSET_CONTAINER");
  const auto windows = get_info(s).windows;
  expect(windows.size(), 1, "windows");
  expect_true(windows[0].start == 0 && windows[0].end == top, "it is the whole space");
}

void chain_alignment(bench& b) {
  const auto answer = get_info(backed_session(b));
  expect(answer.offsets.size(), 3, "capabilities");
  expect(answer.offsets[0], sizeof(vfio_iommu_type1_info), "the first");
  const long long unaligned = answer.offsets[1] + 12LL;  // DMA_AVAIL has twelve bytes
  expect(answer.offsets[2], b.since(6, 6) ? unaligned + 4 : unaligned, "the one behind DMA_AVAIL");
}

}  // namespace

std::vector<test_case> info_cases() {
  return {
      {"info: a short argsz is EINVAL", argsz_short},
      {"info: the structure without cap_offset is answered, and nothing written behind it", argsz_of_old_structure, {5, 8}},
      {"info: an argsz too small for the capabilities is raised", argsz_raised, {5, 8}},
      {"info: an argsz that just suffices gets the capabilities", argsz_exact, {5, 8}},
      {"info: page sizes with emulated groups", page_sizes_emulated},
      {"info: page sizes with an IOMMU-backed group", page_sizes_backed},
      {"info: the migration capability", migration, {5, 8}},
      {"info: the mapping budget goes down and up", available, {5, 10}},
      {"info: emulated groups report no windows", windows_of_emulated},
      {"info: an IOMMU-backed group reports its windows", windows_of_backed, {5, 4}},
      {"info: one window is left when the last IOMMU-backed group has gone", windows_after_backed_left, {5, 4}},
      {"info: capabilities are aligned from 6.6 on, and before they are not", chain_alignment, {5, 10}},
  };
}

}  // namespace tidemark::conformance
