// SPDX-License-Identifier: Apache-2.0
//
// The answers to VFIO_IOMMU_UNMAP_DMA, VFIO_IOMMU_DIRTY_PAGES and VFIO_IOMMU_GET_INFO and to a last group that leaves, one
// by one, in the order of the driver's checks; and what dirties what.
//
// covers R5 R10 R16 R17 R18 R19 R25 R26

#include <cerrno>

#include "conformance/row.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t all = VFIO_DMA_UNMAP_FLAG_ALL;
constexpr std::uint32_t vaddr = VFIO_DMA_UNMAP_FLAG_VADDR;
constexpr std::uint32_t start = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
constexpr std::uint32_t stop = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;

// --- UNMAP ---

/// The answer to an UNMAP where pages 4 to 7 are one mapping.
long long unmap(const bench& b, std::uint64_t iova, std::uint64_t size, std::uint32_t flags = 0) {
  return one_mapping(b).s.unmap(iova, size, flags);
}

/// The bytes told by an UNMAP that succeeds, in a container of this version of type1.
long long told(const bench& b, unsigned long type, std::uint64_t iova, std::uint64_t size) {
  const one_mapping one(b, type);
  expect(one.s.map(12 * page, 4 * page, one.ram.address()), 0, "MAP of another");
  expect(one.s.unmap(iova, size), 0, "UNMAP");
  return static_cast<long long>(size);
}

/// The answer to an UNMAP of the mapping with its dirty bitmap.
long long unmap_dirty(const bench& b, std::uint64_t bitmap_bytes, std::uint32_t flags = 0, std::uint64_t page_bytes = page,
                      bool tracks = true) {
  const one_mapping one(b);
  if (tracks) expect(one.s.start(), 0, "START");
  std::vector<std::uint64_t> words(1);
  vfio_bitmap bitmap = bitmap_of(words, page_bytes);
  bitmap.size = bitmap_bytes;
  std::uint64_t size = 4 * page;
  return one.s.unmap_with_bitmap(4 * page, size, bitmap, flags);
}

long long unmap_flags(const bench& b) { return unmap(b, 4 * page, 4 * page, 0x80); }
long long unmap_dirty_all(const bench& b) { return unmap_dirty(b, 8, all); }
long long unmap_dirty_vaddr(const bench& b) { return unmap_dirty(b, 8, vaddr); }
long long unmap_dirty_empty(const bench& b) { return unmap_dirty(b, 0); }
long long unmap_dirty_small(const bench& b) { return unmap_dirty(b, 7); }
long long unmap_dirty_large(const bench& b) { return unmap_dirty(b, (256ULL << 20) + 8); }
long long unmap_vaddr_emulated(const bench& b) { return unmap(b, 4 * page, 4 * page, vaddr); }
long long unmap_iova_unaligned(const bench& b) { return unmap(b, 4 * page + 8, page); }
long long unmap_all_iova(const bench& b) { return unmap(b, page, 0, all); }
long long unmap_all_size(const bench& b) { return unmap(b, 0, page, all); }
long long unmap_nothing(const bench& b) { return unmap(b, 4 * page, 0); }
long long unmap_size_unaligned(const bench& b) { return unmap(b, 4 * page, page + 8); }
long long unmap_wraps(const bench& b) { return unmap(b, top - page + 1, 2 * page); }
long long unmap_dirty_untracked(const bench& b) { return unmap_dirty(b, 8, 0, page, false); }
long long unmap_dirty_page_size(const bench& b) { return unmap_dirty(b, 8, 0, 2 * page); }
long long unmap_front(const bench& b) { return unmap(b, 4 * page, 2 * page); }
long long unmap_back(const bench& b) { return unmap(b, 6 * page, 2 * page); }
long long unmap_middle(const bench& b) { return unmap(b, 5 * page, 2 * page); }
long long unmap_where_nothing_is(const bench& b) { return unmap(b, 20 * page, page); }
long long told_where_nothing_is(const bench& b) { return told(b, VFIO_TYPE1v2_IOMMU, 20 * page, page); }
long long v1_inside(const bench& b) { return told(b, VFIO_TYPE1_IOMMU, 5 * page, 2 * page); }
long long v1_from_inside(const bench& b) { return told(b, VFIO_TYPE1_IOMMU, 5 * page, 11 * page); }
long long v1_start(const bench& b) { return told(b, VFIO_TYPE1_IOMMU, 4 * page, page); }

// --- DIRTY_PAGES ---

long long dirty(const bench& b, std::uint32_t flags) { return emulated_session(b).dirty(flags); }
long long dirty_v1(const bench& b) { return emulated_session(b, VFIO_TYPE1_IOMMU).start(); }
long long dirty_no_flag(const bench& b) { return dirty(b, 0); }
long long dirty_two_flags(const bench& b) { return dirty(b, start | stop); }
long long dirty_unknown_flag(const bench& b) { return dirty(b, 0x80); }

long long twice(const bench& b, std::uint32_t flag) {
  const session s = emulated_session(b);
  expect(s.dirty(flag), 0, "the first");
  return s.dirty(flag);
}
long long start_again(const bench& b) { return twice(b, start); }
long long stop_again(const bench& b) { return twice(b, stop); }

/// The answer to a GET where pages 4 to 7 are one mapping.
long long get(const bench& b, std::uint64_t iova, std::uint64_t size, std::uint64_t bitmap_bytes = 8,
              std::uint64_t page_bytes = page, bool tracks = true) {
  const one_mapping one(b);
  if (tracks) expect(one.s.start(), 0, "START");
  std::vector<std::uint64_t> words(1);
  vfio_bitmap bitmap = bitmap_of(words, page_bytes);
  bitmap.size = bitmap_bytes;
  return one.s.get(iova, size, bitmap);
}

long long get_nothing(const bench& b) { return get(b, 4 * page, 0); }
long long get_wraps(const bench& b) { return get(b, top - page + 1, 2 * page); }
long long get_empty(const bench& b) { return get(b, 4 * page, 4 * page, 0); }
long long get_small(const bench& b) { return get(b, 4 * page, 4 * page, 7); }
long long get_large(const bench& b) { return get(b, 4 * page, 4 * page, (256ULL << 20) + 8); }
long long get_page_size(const bench& b) { return get(b, 4 * page, 4 * page, 8, 2 * page); }
long long get_iova_unaligned(const bench& b) { return get(b, 4 * page + 8, 4 * page); }
long long get_size_unaligned(const bench& b) { return get(b, 4 * page, 4 * page + 8); }
long long get_untracked(const bench& b) { return get(b, 4 * page, 4 * page, 8, page, false); }
long long get_front(const bench& b) { return get(b, 4 * page, 2 * page); }
long long get_back(const bench& b) { return get(b, 6 * page, 2 * page); }

// --- GET_INFO, and a last group that leaves ---

vfio_iommu_type1_info small_info(const bench& b, long long& answer) {
  const session s = emulated_session(b);
  vfio_iommu_type1_info info{};
  info.argsz = sizeof(info);
  info.cap_offset = ~0U;
  answer = b.kernel.ioctl(s.container.get(), VFIO_IOMMU_GET_INFO, &info);
  return info;
}

long long info_answer(const bench& b) {
  long long answer = 0;
  small_info(b, answer);
  return answer;
}
long long info_raised(const bench& b) {
  long long answer = 0;
  return small_info(b, answer).argsz > sizeof(vfio_iommu_type1_info) ? 1 : 0;
}
long long info_offset(const bench& b) {
  long long answer = 0;
  return small_info(b, answer).cap_offset;
}

/// A container with a mapping whose last group has left.
struct left_alone {
  explicit left_alone(const bench& b) : one(b) {
    expect(b.kernel.ioctl(one.s.groups[0].get(), VFIO_GROUP_UNSET_CONTAINER), 0, "UNSET_CONTAINER");
  }
  int join_again() const {
    expect(one.s.on.attach(one.s.groups[0], one.s.container), 0, "SET_CONTAINER");
    return one.s.on.kernel.ioctl(one.s.container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_TYPE1v2_IOMMU});
  }
  one_mapping one;
};

long long left_map(const bench& b) {
  const left_alone left(b);
  return left.one.s.map(0, page, left.one.ram.address());
}
long long left_type(const bench& b) { return left_alone(b).join_again(); }
long long left_mappings(const bench& b) {
  const left_alone left(b);
  expect(left.join_again(), 0, "SET_IOMMU");
  return static_cast<long long>(left.one.s.unmap_low());
}

// --- what dirties what ---

/// The bits of the second GET of four pages, of which the device has written one before each.
long long second_get(const session& s, bool writes) {
  const memory ram(4 * page);
  expect(s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(s.start(), 0, "START");
  std::vector<std::uint64_t> words(1);
  for (int i = 0; i < 2; ++i) {
    words[0] = 0;
    if (writes) expect(ring(s.on, s.device(), page, 8, 1), 0, "a doorbell");
    expect(s.get(0, 4 * page, words), 0, "GET");
  }
  return static_cast<long long>(words[0]);
}

long long dirty_backed(const bench& b) { return second_get(backed_session(b), false); }
long long dirty_mixed(const bench& b) { return second_get(mixed_session(b), false); }
long long dirty_written(const bench& b) { return second_get(emulated_session(b), true); }
long long dirty_unwritten(const bench& b) { return second_get(emulated_session(b), false); }

}  // namespace

std::vector<test_case> unmap_rows() {
  return cases_of({
      {"UNMAP: unknown flags", unmap_flags, -EINVAL},
      {"UNMAP: DIRTY with ALL", unmap_dirty_all, -EINVAL, {5, 12}},
      {"UNMAP: DIRTY with VADDR", unmap_dirty_vaddr, -EINVAL, {5, 12}},
      {"UNMAP DIRTY: bitmap of no size", unmap_dirty_empty, -EINVAL, {5, 8}},
      {"UNMAP DIRTY: bitmap smaller than its pages need", unmap_dirty_small, -EINVAL, {5, 8}},
      {"UNMAP DIRTY: bitmap over 256 MiB", unmap_dirty_large, -EINVAL, {5, 8}},
      {"UNMAP: VADDR with an emulated group", unmap_vaddr_emulated, -EBUSY, {5, 12}},
      {"UNMAP: iova misaligned", unmap_iova_unaligned, -EINVAL},
      {"UNMAP: ALL with iova", unmap_all_iova, -EINVAL, {5, 12}},
      {"UNMAP: ALL with size", unmap_all_size, -EINVAL, {5, 12}},
      {"UNMAP: size 0", unmap_nothing, -EINVAL},
      {"UNMAP: size misaligned", unmap_size_unaligned, -EINVAL},
      {"UNMAP: wraps", unmap_wraps, when_wrapping},
      {"UNMAP DIRTY: while not tracking", unmap_dirty_untracked, -EINVAL, {5, 8}},
      {"UNMAP DIRTY: another page size", unmap_dirty_page_size, -EINVAL, {5, 8}},
      {"UNMAP: v2, a mapping's front", unmap_front, -EINVAL},
      {"UNMAP: v2, a mapping's back", unmap_back, -EINVAL},
      {"UNMAP: v2, a mapping's middle", unmap_middle, -EINVAL},
      {"UNMAP: nothing there", unmap_where_nothing_is, 0},
      {"UNMAP: nothing there: size told", told_where_nothing_is, 0},
      {"UNMAP: v1, inside a mapping: size told", v1_inside, 0},
      {"UNMAP: v1, from inside a mapping over the next: size told", v1_from_inside, 0},
      {"UNMAP: v1, over a mapping's start: size told", v1_start, 4 * page},
      {"DIRTY_PAGES: type1 v1", dirty_v1, -EACCES, {5, 8}},
      {"DIRTY_PAGES: no flag", dirty_no_flag, -EINVAL, {5, 8}},
      {"DIRTY_PAGES: two flags", dirty_two_flags, -EINVAL, {5, 8}},
      {"DIRTY_PAGES: unknown flag", dirty_unknown_flag, -EINVAL, {5, 8}},
      {"DIRTY_PAGES START: a second time", start_again, 0, {5, 8}},
      {"DIRTY_PAGES STOP: a second time", stop_again, 0, {5, 8}},
      {"DIRTY_PAGES GET: size 0", get_nothing, -EINVAL, {5, 8}},
      {"DIRTY_PAGES GET: wraps", get_wraps, when_wrapping, {5, 8}},
      {"DIRTY_PAGES GET: bitmap of no size", get_empty, -EINVAL, {5, 8}},
      {"DIRTY_PAGES GET: bitmap smaller than its pages need", get_small, -EINVAL, {5, 8}},
      {"DIRTY_PAGES GET: bitmap over 256 MiB", get_large, -EINVAL, {5, 8}},
      {"DIRTY_PAGES GET: page size not the smallest", get_page_size, -EINVAL, {5, 8}},
      {"DIRTY_PAGES GET: iova misaligned", get_iova_unaligned, -EINVAL, {5, 8}},
      {"DIRTY_PAGES GET: size misaligned", get_size_unaligned, -EINVAL, {5, 8}},
      {"DIRTY_PAGES GET: while not tracking", get_untracked, -EINVAL, {5, 8}},
      {"DIRTY_PAGES GET: a mapping's front", get_front, -EINVAL, {5, 8}},
      {"DIRTY_PAGES GET: a mapping's back", get_back, -EINVAL, {5, 8}},
      {"GET_INFO: argsz too small for the capabilities", info_answer, 0, {5, 8}},
      {"GET_INFO: argsz too small for the capabilities: argsz is raised", info_raised, 1, {5, 8}},
      {"GET_INFO: argsz too small for the capabilities: cap_offset", info_offset, 0, {5, 8}},
      {"last group left: MAP", left_map, -EINVAL},
      {"last group left and back: SET_IOMMU", left_type, 0},
      {"last group left and back: bytes still mapped", left_mappings, 0},
      {"GET again with an IOMMU-backed group: every mapped page", dirty_backed, 0b1111, {5, 8}},
      {"GET again with groups of both kinds: every mapped page", dirty_mixed, 0b1111, {5, 8}},
      {"GET again with an emulated group: the page written since", dirty_written, 0b10, {5, 8}},
      {"GET again with an emulated group: nothing written since", dirty_unwritten, 0, {5, 8}},
  });
}

}  // namespace tidemark::conformance
