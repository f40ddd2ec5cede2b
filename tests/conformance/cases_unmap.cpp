// SPDX-License-Identifier: Apache-2.0
//
// VFIO_IOMMU_UNMAP_DMA.

#include <cerrno>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t all = VFIO_DMA_UNMAP_FLAG_ALL;
constexpr std::uint32_t vaddr = VFIO_DMA_UNMAP_FLAG_VADDR;

/// The bytes told when UNMAP gives this answer.
std::uint64_t unmap(const session& s, std::uint64_t iova, std::uint64_t size, std::uint32_t flags = 0, int answer = 0) {
  expect(s.unmap(iova, size, flags), answer, "UNMAP");
  return size;
}

/// A type1v2 container with two mappings, of 4 pages at page 4 and of 4 pages at page 12.
struct two_mappings {
  explicit two_mappings(const bench& b, unsigned long type = VFIO_TYPE1v2_IOMMU)
      : s(emulated_session(b, type)), ram(8 * page) {
    expect(s.map(4 * page, 4 * page, ram.address()), 0, "MAP");
    expect(s.map(12 * page, 4 * page, ram.address() + 4 * page), 0, "MAP");
  }
  session s;
  memory ram;
};

// --- requests refused for what they say ---

void argsz_short(bench& b) {
  const session s = emulated_session(b);
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof(request) - 1;
  request.size = page;
  expect(b.kernel.ioctl(s.container.get(), VFIO_IOMMU_UNMAP_DMA, &request), -EINVAL, "UNMAP");
  expect(b.kernel.ioctl(s.container.get(), VFIO_IOMMU_UNMAP_DMA), -EFAULT, "UNMAP without an address");
}

struct refused {
  const char* name;
  std::uint64_t iova;
  std::uint64_t size;
  std::uint32_t flags;
  int answer;  ///< 0: the answer to ranges that wrap
  kernel::kernel_version from{0, 0};
};

const refused refused_requests[] = {
    {"unmap: an unknown flag is EINVAL", 0, page, 0x80, -EINVAL},
    {"unmap: an iova within a page is EINVAL", 8, page, 0, -EINVAL},
    {"unmap: size 0 is EINVAL", 0, 0, 0, -EINVAL},
    {"unmap: a size that is no multiple of the page is EINVAL", 0, page + 8, 0, -EINVAL},
    {"unmap: a range that wraps is EINVAL, from 6.18 EOVERFLOW", top - page + 1, 2 * page, 0, 0},
    {"unmap: ALL with an iova is EINVAL", page, 0, all, -EINVAL, {5, 12}},
    {"unmap: ALL with a size is EINVAL", 0, page, all, -EINVAL, {5, 12}},
    {"unmap: VADDR with an emulated group is EBUSY", 0, page, vaddr, -EBUSY, {5, 12}},
    {"unmap: VADDR with an emulated group is EBUSY before anything else is looked at", 8, 8, vaddr, -EBUSY, {5, 12}},
    {"unmap: over a mapping's start only is EINVAL", 2 * page, 4 * page, 0, -EINVAL},
    {"unmap: over a mapping's end only is EINVAL", 6 * page, 4 * page, 0, -EINVAL},
    {"unmap: inside a mapping is EINVAL", 5 * page, 2 * page, 0, -EINVAL},
    {"unmap: the front of a mapping is EINVAL", 4 * page, 2 * page, 0, -EINVAL},
    {"unmap: a whole mapping and a part of the next is EINVAL", 4 * page, 9 * page, 0, -EINVAL},
};

void refuse(bench& b, const refused& row) {
  const two_mappings two(b);
  expect(unmap(two.s, row.iova, row.size, row.flags, row.answer != 0 ? row.answer : b.wraps()), row.size,
         "the size field after a failure, which is left alone");
  expect(unmap(two.s, 0, 16 * page), 8 * page, "bytes still mapped");
}

void dirty_with_others(bench& b) {
  const two_mappings two(b);
  expect(two.s.start(), 0, "START");
  std::vector<std::uint64_t> words(1);
  std::uint64_t size = 4 * page;
  expect(two.s.unmap_with_bitmap(4 * page, size, bitmap_of(words), all), -EINVAL, "with ALL");
  expect(two.s.unmap_with_bitmap(4 * page, size, bitmap_of(words), vaddr), -EINVAL, "with VADDR");
}

void dirty_argsz(bench& b) {
  const two_mappings two(b);
  expect(two.s.start(), 0, "START");
  std::uint64_t size = 4 * page;
  expect(two.s.unmap(4 * page, size, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP), -EINVAL, "an argsz without the bitmap");
}

void dirty_bitmap_size(bench& b) {
  const session s = emulated_session(b);
  const memory ram(65 * page);
  expect(s.map(0, 65 * page, ram.address()), 0, "MAP");
  expect(s.start(), 0, "START");
  std::vector<std::uint64_t> words(2);
  vfio_bitmap bitmap = bitmap_of(words);
  std::uint64_t size = 65 * page;
  bitmap.size = 0;
  expect(s.unmap_with_bitmap(0, size, bitmap), -EINVAL, "no bytes");
  bitmap.size = 15;
  expect(s.unmap_with_bitmap(0, size, bitmap), -EINVAL, "a byte too few for 65 pages");
  bitmap.size = (256ULL << 20) + 8;
  expect(s.unmap_with_bitmap(0, size, bitmap), -EINVAL, "over 256 MiB");
  bitmap = bitmap_of(words);
  bitmap.data = reinterpret_cast<decltype(bitmap.data)>(top - 7);
  expect(s.unmap_with_bitmap(0, size, bitmap), -EINVAL, "at an address of the kernel");
  expect(s.unmap_with_bitmap(0, size, bitmap_of(words)), 0, "sixteen bytes");
  expect(size, 65 * page, "bytes unmapped");
}

void dirty_not_tracking(bench& b) {
  const two_mappings two(b);
  std::vector<std::uint64_t> words(1);
  std::uint64_t size = 4 * page;
  expect(two.s.unmap_with_bitmap(4 * page, size, bitmap_of(words)), -EINVAL, "UNMAP");
}

void dirty_page_size(bench& b) {
  const two_mappings two(b);
  expect(two.s.start(), 0, "START");
  std::vector<std::uint64_t> words(1);
  std::uint64_t size = 4 * page;
  expect(two.s.unmap_with_bitmap(4 * page, size, bitmap_of(words, 2 * page)), -EINVAL, "UNMAP with pages of 8 KiB");
}

void dirty_memory_gone(bench& b) {
  const two_mappings two(b);
  memory gone(page);
  vfio_bitmap bitmap{};
  bitmap.pgsize = page;
  bitmap.size = 8;
  bitmap.data = reinterpret_cast<decltype(bitmap.data)>(gone.address());
  gone.release();
  expect(two.s.start(), 0, "START");
  std::uint64_t size = 4 * page;
  expect(two.s.unmap_with_bitmap(4 * page, size, bitmap), -EFAULT, "UNMAP");
  expect(unmap(two.s, 4 * page, 4 * page), 4 * page, "bytes still mapped");
}

// --- what is unmapped ---

void nothing_there(bench& b) {
  const two_mappings two(b);
  expect(unmap(two.s, 8 * page, 4 * page), 0, "bytes unmapped in the gap");
  expect(unmap(two.s, 64 * page, page), 0, "bytes unmapped behind all");
}

void exactly_one(bench& b) {
  const two_mappings two(b);
  expect(unmap(two.s, 4 * page, 4 * page), 4 * page, "bytes unmapped");
  expect(unmap(two.s, 4 * page, 4 * page), 0, "bytes unmapped the second time");
}

void several(bench& b) {
  const two_mappings two(b);
  expect(unmap(two.s, 0, 64 * page), 8 * page, "bytes unmapped by a range around both");
}

void everything(bench& b) {
  const two_mappings two(b);
  expect(unmap(two.s, 0, 0, all), 8 * page, "bytes unmapped");
  expect(unmap(two.s, 0, 0, all), 0, "bytes unmapped the second time");
}

void backed(bench& b) {
  const session s = backed_session(b);
  const memory ram(4 * page);
  expect(s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(unmap(s, 0, 4 * page), 4 * page, "bytes unmapped");
  expect(s.map(0, 4 * page, ram.address()), 0, "MAP again");
}

void dirty_pages_of_it(bench& b) {
  const two_mappings two(b);
  expect(two.s.start(), 0, "START");
  const auto device = two.s.device();
  expect(ring(b, device, 5 * page, 8, 1), 0, "a doorbell");
  std::vector<std::uint64_t> words(1);
  std::uint64_t size = 4 * page;
  expect(two.s.unmap_with_bitmap(4 * page, size, bitmap_of(words)), 0, "UNMAP");
  expect(size, 4 * page, "bytes unmapped");
  expect(words[0], 0b10, "its bitmap");
  expect(unmap(two.s, 4 * page, 4 * page), 0, "bytes still mapped");
}

void dirty_pages_of_several(bench& b) {
  const two_mappings two(b);
  expect(two.s.start(), 0, "START");
  const auto device = two.s.device();
  expect(ring(b, device, 7 * page, 8, 1), 0, "a doorbell");
  expect(ring(b, device, 12 * page, 8, 1), 0, "a doorbell");
  std::vector<std::uint64_t> words(1);
  std::uint64_t size = 16 * page;
  expect(two.s.unmap_with_bitmap(0, size, bitmap_of(words)), 0, "UNMAP");
  expect(size, 8 * page, "bytes unmapped");
  expect(words[0], (1U << 7) | (1U << 12), "the bitmap of both");
}

void dirty_pages_backed(bench& b) {
  const session s = backed_session(b);
  const memory ram(4 * page);
  expect(s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(s.start(), 0, "START");
  std::vector<std::uint64_t> words(1);
  std::uint64_t size = 4 * page;
  expect(s.unmap_with_bitmap(0, size, bitmap_of(words)), 0, "UNMAP");
  expect(words[0], 0b1111, "its bitmap");
}

// --- type1 version 1 ---

void v1_from_the_middle(bench& b) {
  const two_mappings two(b, VFIO_TYPE1_IOMMU);
  expect(unmap(two.s, 5 * page, 2 * page), 0, "bytes unmapped inside a mapping");
  expect(unmap(two.s, 5 * page, 16 * page), 0, "bytes unmapped from inside a mapping over the next");
  expect(unmap(two.s, 0, 0, all), 8 * page, "bytes still mapped");
}

void v1_over_the_start(bench& b) {
  const two_mappings two(b, VFIO_TYPE1_IOMMU);
  expect(unmap(two.s, 4 * page, page), 4 * page, "bytes unmapped by a mapping's first page");
  expect(unmap(two.s, 10 * page, 3 * page), 4 * page, "bytes unmapped by a range over a mapping's start");
}

// --- the end of the space ---

// Three other mappings first: their look-up goes by a search tree in which the lost mapping must not be in the way.
void last_page_lost(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  for (const std::uint64_t iova : {2 * page, 0 * page, 4 * page}) expect(s.map(iova, page, ram.address()), 0, "MAP");
  expect(s.map(top - page + 1, page, ram.address()), 0, "MAP of the last page");
  expect(unmap(s, top - page + 1, page), 0, "bytes unmapped, the end having wrapped");
  expect(s.map(top - page + 1, page, ram.address()), 0, "MAP again, the overlap unseen");
  expect(unmap(s, 0, 0, all), 5 * page, "bytes unmapped by ALL");
}

void last_page_alone(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(top - page + 1, page, ram.address()), 0, "MAP of the last page");
  expect(unmap(s, 0, 0, all), 0, "bytes unmapped by ALL with nothing else mapped");
}

void last_page_found(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(top - page + 1, page, ram.address()), 0, "MAP");
  expect(s.map(top - page + 1, page, ram.address()), -EEXIST, "MAP again");
  expect(unmap(s, top - page + 1, page), page, "bytes unmapped");
  expect(s.map(top - page + 1, page, ram.address()), 0, "MAP");
  expect(unmap(s, 0, 0, all), page, "bytes unmapped by ALL");
}

void to_the_end_refused(bench& b) {
  const two_mappings two(b);
  expect(unmap(two.s, 12 * page, top - 12 * page + 1, 0, -EINVAL), top - 12 * page + 1, "the size field");
  expect(unmap(two.s, 12 * page, top - 13 * page + 1), 4 * page, "bytes unmapped without the last page");
}

void to_the_end_lost(bench& b) {
  const two_mappings two(b);
  expect(unmap(two.s, 12 * page, top - 12 * page + 1), 0, "bytes unmapped, the end having wrapped");
  expect(unmap(two.s, 12 * page, top - 13 * page + 1), 4 * page, "bytes unmapped without the last page");
}

void to_the_end_found(bench& b) {
  const two_mappings two(b);
  expect(unmap(two.s, 12 * page, top - 12 * page + 1), 4 * page, "bytes unmapped");
}

// --- VADDR ---

void vaddr_twice(bench& b) {
  const session s = backed_session(b);
  const memory ram(4 * page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(s.map(page, page, ram.address() + page), 0, "MAP");
  expect(unmap(s, page, page, vaddr), page, "bytes invalidated");
  unmap(s, 0, 2 * page, vaddr, -EINVAL);
  expect(s.map(0, page, ram.address(), VFIO_DMA_MAP_FLAG_VADDR), -EINVAL, "the first was made valid again");
  expect(s.map(page, page, ram.address(), VFIO_DMA_MAP_FLAG_VADDR), 0, "the second is still invalid");
}

void vaddr_then_unmap(bench& b) {
  const session s = backed_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(unmap(s, 0, page, vaddr), page, "bytes invalidated");
  expect(unmap(s, 0, page), page, "bytes unmapped");
  expect(s.map(0, page, ram.address()), 0, "MAP again");
}

}  // namespace

std::vector<test_case> unmap_cases() {
  std::vector<test_case> cases = {
      {"unmap: a short argsz is EINVAL, no argument EFAULT", argsz_short},
      {"unmap: the dirty bitmap with ALL or VADDR is EINVAL", dirty_with_others, {5, 12}},
      {"unmap: the dirty bitmap with an argsz that lacks it is EINVAL", dirty_argsz, {5, 8}},
      {"unmap: a dirty bitmap of a wrong size is EINVAL", dirty_bitmap_size, {5, 8}},
      {"unmap: the dirty bitmap while not tracking is EINVAL", dirty_not_tracking, {5, 8}},
      {"unmap: the dirty bitmap with another page size is EINVAL", dirty_page_size, {5, 8}},
      {"unmap: a dirty bitmap that is not there is EFAULT, and the mapping stays", dirty_memory_gone, {5, 8}},
      {"unmap: where nothing is mapped succeeds with size 0", nothing_there},
      {"unmap: one mapping", exactly_one},
      {"unmap: a range around several takes them all", several},
      {"unmap: ALL", everything, {5, 12}},
      {"unmap: with an IOMMU-backed group", backed},
      {"unmap: gives the dirty pages of what goes", dirty_pages_of_it, {5, 8}},
      {"unmap: gives the dirty pages of several that go", dirty_pages_of_several, {5, 8}},
      {"unmap: with an IOMMU-backed group every page that goes is dirty", dirty_pages_backed, {5, 8}},
      {"unmap: type1 v1 stops at a mapping that began before the range", v1_from_the_middle, {5, 12}},
      {"unmap: type1 v1 takes the whole of a mapping whose start is covered", v1_over_the_start},
      {"unmap: a mapping at the end of the space is out of reach before 6.18", last_page_lost, {5, 12}, {6, 18}},
      {"unmap: a mapping at the end of the space, alone, is out of reach even of ALL before 6.18",
       last_page_alone,
       {5, 12},
       {6, 18}},
      {"unmap: a mapping at the end of the space is found from 6.18 on", last_page_found, {6, 18}},
      {"unmap: a range to the end of the space is EINVAL from 4.15 to 4.20", to_the_end_refused, {4, 15}, {5, 0}},
      {"unmap: a range to the end of the space finds nothing from 5.0 on", to_the_end_lost, {5, 0}, {6, 18}},
      {"unmap: a range to the end of the space works from 6.18 on", to_the_end_found, {6, 18}},
      {"unmap: VADDR that meets an invalid one is EINVAL and changes nothing", vaddr_twice, {5, 12}},
      {"unmap: what is invalid can be unmapped", vaddr_then_unmap, {5, 12}},
  };
  for (const refused& row : refused_requests) {
    cases.push_back({row.name, [&row](bench& b) { refuse(b, row); }, row.from});
  }
  return cases;
}

}  // namespace tidemark::conformance
