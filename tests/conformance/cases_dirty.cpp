// SPDX-License-Identifier: Apache-2.0
//
// VFIO_IOMMU_DIRTY_PAGES: what it refuses, START and STOP, and what IOMMU-backed groups dirty.

#include <cerrno>

#include "conformance/tracked.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t start = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
constexpr std::uint32_t stop = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
constexpr std::uint32_t get = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;

// --- requests refused for what they say ---

void version_one(bench& b) {
  const session s = emulated_session(b, VFIO_TYPE1_IOMMU);
  expect(s.start(), -EACCES, "START");
  expect(s.stop(), -EACCES, "STOP");
  expect(s.dirty(0), -EACCES, "no flag");
}

void argsz_short(bench& b) {
  const session s = emulated_session(b);
  vfio_iommu_type1_dirty_bitmap request{};
  request.argsz = sizeof(request) - 1;
  request.flags = start;
  expect(b.kernel.ioctl(s.container.get(), VFIO_IOMMU_DIRTY_PAGES, &request), -EINVAL, "START");
  expect(b.kernel.ioctl(s.container.get(), VFIO_IOMMU_DIRTY_PAGES), -EFAULT, "no argument");
  expect(s.dirty(get), -EINVAL, "GET without its range");
}

void flags(bench& b) {
  const session s = emulated_session(b);
  expect(s.dirty(0), -EINVAL, "no flag");
  expect(s.dirty(start | stop), -EINVAL, "START and STOP");
  expect(s.dirty(start | get), -EINVAL, "START and GET");
  expect(s.dirty(0x80), -EINVAL, "an unknown flag");
  expect(s.dirty(start | 0x80), -EINVAL, "START and an unknown flag");
}

struct refused {
  const char* name;
  std::uint64_t iova;
  std::uint64_t size;
  int answer;  ///< 0: the answer to ranges that wrap
};

const refused refused_ranges[] = {
    {"dirty: GET of size 0 is EINVAL", 4 * page, 0, -EINVAL},
    {"dirty: GET of a range that wraps is EINVAL, from 6.18 EOVERFLOW", top - page + 1, 2 * page, 0},
    {"dirty: GET of an iova within a page is EINVAL", 4 * page + 8, page, -EINVAL},
    {"dirty: GET of a size that is no multiple of the page is EINVAL", 4 * page, 4 * page + 8, -EINVAL},
    {"dirty: GET of less than a page is EINVAL", 4 * page, 8, -EINVAL},
    {"dirty: GET of a mapping's front is EINVAL", 4 * page, 2 * page, -EINVAL},
    {"dirty: GET of a mapping's back is EINVAL", 6 * page, 2 * page, -EINVAL},
    {"dirty: GET of a mapping's middle is EINVAL", 5 * page, 2 * page, -EINVAL},
    {"dirty: GET over a mapping's start only is EINVAL", 2 * page, 4 * page, -EINVAL},
};

void refuse(bench& b, const refused& row) {
  const tracked t(b, 4, 4);
  t.write(4);
  std::vector<std::uint64_t> words(1);
  expect(t.s.get(row.iova, row.size, words), row.answer != 0 ? row.answer : b.wraps(), "GET");
  expect(words[0], 0, "the bitmap after a failure");
  expect(t.word(4, 4), 1, "the record after it");
}

void not_tracking(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  std::vector<std::uint64_t> words(1);
  expect(s.get(0, page, words), -EINVAL, "GET before START");
  expect(s.start(), 0, "START");
  expect(s.get(0, page, words), 0, "GET");
  expect(s.stop(), 0, "STOP");
  expect(s.get(0, page, words), -EINVAL, "GET after STOP");
}

void bitmap_size(bench& b) {
  const tracked t(b, 0, 65);
  std::vector<std::uint64_t> words(2);
  vfio_bitmap bitmap = bitmap_of(words);
  bitmap.size = 0;
  expect(t.s.get(0, 65 * page, bitmap), -EINVAL, "no bytes");
  bitmap.size = 15;
  expect(t.s.get(0, 65 * page, bitmap), -EINVAL, "a byte too few for 65 pages");
  bitmap.size = (256ULL << 20) + 8;
  expect(t.s.get(0, 65 * page, bitmap), -EINVAL, "over 256 MiB");
  bitmap = bitmap_of(words);
  bitmap.data = reinterpret_cast<decltype(bitmap.data)>(top - 7);
  expect(t.s.get(0, 65 * page, bitmap), -EINVAL, "at an address of the kernel");
  expect(t.s.get(0, 65 * page, words), 0, "sixteen bytes");
}

void bitmap_gone(bench& b) {
  const tracked t(b, 0, 4);
  memory gone(page);
  vfio_bitmap bitmap{};
  bitmap.pgsize = page;
  bitmap.size = 8;
  bitmap.data = reinterpret_cast<decltype(bitmap.data)>(gone.address());
  gone.release();
  expect(t.s.get(0, 4 * page, bitmap), -EFAULT, "GET");
}

void page_size(bench& b) {
  const tracked t(b, 0, 4);
  std::vector<std::uint64_t> words(1);
  expect(t.s.get(0, 4 * page, bitmap_of(words, 2 * page)), -EINVAL, "pages of 8 KiB");
  expect(t.s.get(0, 4 * page, bitmap_of(words, page / 2)), -EINVAL, "pages of 2 KiB");
}

// --- START and STOP ---

void idempotent(bench& b) {
  const session s = emulated_session(b);
  expect(s.stop(), 0, "STOP before START");
  expect(s.start(), 0, "START");
  expect(s.start(), 0, "START again");
  expect(s.stop(), 0, "STOP");
  expect(s.stop(), 0, "STOP again");
}

void start_again_keeps(bench& b) {
  const tracked t(b, 0, 4);
  t.write(2);
  expect(t.s.start(), 0, "START again");
  expect(t.word(0, 4), 0b100, "the bitmap");
}

void stop_forgets(bench& b) {
  const tracked t(b, 0, 4);
  t.write(2);
  expect(t.s.stop(), 0, "STOP");
  expect(t.s.start(), 0, "START");
  expect(t.word(0, 4), 0, "the bitmap");
}

void too_large_to_track(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  const std::uint64_t size = 1ULL << 43;  // 8 TiB: one page more than a bitmap may have bits
  expect(s.map(0, size, ram.address() & ~(size - 1)), 0, "MAP of 8 TiB");
  expect(s.start(), -EINVAL, "START");
  std::uint64_t told = size;
  expect(s.unmap(0, told), 0, "UNMAP");
  expect(s.start(), 0, "START without it");
  expect(s.map(0, size, ram.address() & ~(size - 1)), -EINVAL, "MAP of 8 TiB while tracking");
  told = size;
  expect(s.unmap(0, told), 0, "UNMAP");
  expect(told, 0, "bytes mapped all the same");
}

// --- IOMMU-backed groups ---

void backed_all(bench& b) {
  const session s = backed_session(b);
  const memory ram(70 * page);
  expect(s.map(0, 70 * page, ram.address()), 0, "MAP");
  expect(s.start(), 0, "START");
  for (int round = 0; round < 2; ++round) {
    std::vector<std::uint64_t> words(2);
    expect(s.get(0, 70 * page, words), 0, "GET");
    expect(words[0], top, "the first word");
    expect(words[1], 0b111111, "the second word");
  }
}

void backed_shifted(bench& b) {
  const session s = backed_session(b);
  const memory ram(64 * page);
  expect(s.map(4 * page, 62 * page, ram.address()), 0, "MAP");
  expect(s.start(), 0, "START");
  std::vector<std::uint64_t> words(2);
  expect(s.get(0, 128 * page, words), 0, "GET");
  expect(words[0], top << 4, "the first word");
  expect(words[1], 0b11, "the second word");
}

void mixed_all(bench& b) {
  const session s = mixed_session(b);
  const memory ram(4 * page);
  expect(s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(s.start(), 0, "START");
  for (int round = 0; round < 2; ++round) {
    std::vector<std::uint64_t> words(1);
    expect(s.get(0, 4 * page, words), 0, "GET");
    expect(words[0], 0b1111, "the bitmap");
  }
}

void backed_leaves(bench& b) {
  const session s = mixed_session(b);
  const memory ram(4 * page);
  expect(s.map(0, 4 * page, ram.address()), 0, "MAP");
  expect(s.start(), 0, "START");
  expect(b.kernel.ioctl(s.groups[1].get(), VFIO_GROUP_UNSET_CONTAINER), 0, "UNSET_CONTAINER of the IOMMU-backed group");
  std::vector<std::uint64_t> words(1);
  expect(s.get(0, 4 * page, words), 0, "GET");
  expect(words[0], 0b1111, "the bitmap: it may have written anything");
  expect(s.get(0, 4 * page, words), 0, "GET");
  expect(words[0], 0, "the bitmap asked for again");
}

void backed_joins(bench& b) {
  const tracked t(b, 0, 4);
  expect(t.word(0, 4), 0, "the bitmap before");
  const auto group = b.open_group(b.backed());
  expect(b.attach(group, t.s.container), 0, "SET_CONTAINER");
  expect(t.word(0, 4), 0b1111, "the bitmap after");
}

}  // namespace

std::vector<test_case> dirty_cases() {
  std::vector<test_case> cases = {
      {"dirty: type1 v1 answers EACCES", version_one},
      {"dirty: a short argsz is EINVAL, no argument EFAULT", argsz_short},
      {"dirty: anything but one known flag is EINVAL", flags},
      {"dirty: GET while not tracking is EINVAL", not_tracking},
      {"dirty: GET with a bitmap of a wrong size is EINVAL", bitmap_size},
      {"dirty: GET with a bitmap that is not there is EFAULT", bitmap_gone},
      {"dirty: GET with another page size is EINVAL", page_size},
      {"dirty: START and STOP may be repeated", idempotent},
      {"dirty: a repeated START keeps what is recorded", start_again_keeps},
      {"dirty: STOP forgets what is recorded", stop_forgets},
      {"dirty: a mapping of 8 TiB cannot be tracked", too_large_to_track},
      {"dirty: with an IOMMU-backed group everything, every time", backed_all},
      {"dirty: with an IOMMU-backed group everything, shifted", backed_shifted},
      {"dirty: with groups of both kinds everything, every time", mixed_all},
      {"dirty: everything once when the IOMMU-backed group has left", backed_leaves},
      {"dirty: everything when an IOMMU-backed group has joined", backed_joins},
  };
  for (const refused& row : refused_ranges) cases.push_back({row.name, [&row](bench& b) { refuse(b, row); }});
  for (test_case& one : cases) one.from = {5, 8};
  return cases;
}

}  // namespace tidemark::conformance
