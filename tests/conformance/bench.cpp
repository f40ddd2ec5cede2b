// SPDX-License-Identifier: Apache-2.0

#include "conformance/bench.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernel/test_device.h"

namespace tidemark::conformance {
namespace {

/// The answers of the case that runs, and how often in a row the last one came.
struct transcript {
  std::string line;
  std::string last;
  std::size_t times = 0;

  void close() {
    if (times == 0) return;
    if (!line.empty()) line += ' ';
    line += last;
    if (times > 1) line += "*" + std::to_string(times);
    times = 0;
  }
  void add(const std::string& answer) {
    if (answer != last) close();
    last = answer;
    ++times;
  }
};
transcript observed;

std::string hexadecimal(long long value) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "%#llx", static_cast<unsigned long long>(value));
  return text.data();
}

std::string named(long long answer) {
  constexpr long long decimal_max = 0xffff;
  if (answer > decimal_max || answer < -4095) return hexadecimal(answer);
  if (answer >= 0) return std::to_string(answer);
  const char* name = ::strerrorname_np(static_cast<int>(-answer));
  return name != nullptr ? name : std::to_string(answer);
}

template <class Structure>
Structure taken(const std::vector<std::uint8_t>& from, std::uint32_t offset) {
  expect_true(offset + sizeof(Structure) <= from.size(), "the capability lies in the buffer");
  Structure to{};
  std::memcpy(&to, from.data() + offset, sizeof(to));
  return to;
}

void take_windows(iommu_info& into, const std::vector<std::uint8_t>& from, std::uint32_t offset) {
  constexpr auto head_bytes = static_cast<std::uint32_t>(offsetof(vfio_iommu_type1_info_cap_iova_range, iova_ranges));
  constexpr auto count_at = static_cast<std::uint32_t>(offsetof(vfio_iommu_type1_info_cap_iova_range, nr_iovas));
  const auto count = taken<std::uint32_t>(from, offset + count_at);
  const std::uint32_t first = offset + head_bytes;
  for (std::uint32_t i = 0; i < count; ++i) {
    into.windows.push_back(taken<vfio_iova_range>(from, static_cast<std::uint32_t>(first + i * sizeof(vfio_iova_range))));
  }
}

}  // namespace

std::string take_transcript() {
  observed.close();
  return std::exchange(observed, {}).line;
}

void expect_equal(long long actual, long long expected, const std::string& what) {
  observed.add(named(actual));
  if (actual != expected) throw failure(what + ": expected " + named(expected) + ", got " + named(actual));
}

void expect_true(bool holds, const std::string& what) {
  observed.add(holds ? "yes" : "no");
  if (!holds) throw failure("not so: " + what);
}

memory::memory(std::uint64_t bytes, bool writable) : bytes_(bytes) {
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* got = ::mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (got == MAP_FAILED) throw failure("mmap: " + named(-errno));
  data_ = static_cast<std::uint8_t*>(got);
}

void memory::release() noexcept {
  if (data_ != nullptr) ::munmap(data_, bytes_);
  data_ = nullptr;
}

const group_name& bench::emulated(std::size_t index) const {
  if (index >= groups_.emulated.size()) throw skipped("needs " + std::to_string(index + 1) + " groups of test devices");
  return groups_.emulated[index];
}

const group_name& bench::backed() const {
  if (!groups_.backed) throw skipped("needs an IOMMU-backed group");
  return *groups_.backed;
}

const group_name& bench::pair() const {
  if (!groups_.pair) throw skipped("needs an IOMMU-backed group of two devices");
  return *groups_.pair;
}

const group_name& bench::not_viable() const {
  if (!groups_.not_viable) throw skipped("needs a group with a device of another driver");
  return *groups_.not_viable;
}

const group_name& bench::noiommu() const {
  if (groups_.noiommu.empty()) throw skipped("needs a kernel with noiommu support, which Debian's is built without");
  return groups_.noiommu.front();
}

kernel::handle bench::open(const std::string& path) const {
  const int fd = kernel.open(path.c_str(), O_RDWR);
  if (fd < 0) throw failure("open " + path + ": " + named(fd));
  return {kernel, fd};
}

kernel::handle bench::open_device(const kernel::handle& group, const std::string& name) const {
  const int fd = kernel.ioctl(group.get(), VFIO_GROUP_GET_DEVICE_FD, name.c_str());
  if (fd < 0) throw failure("GET_DEVICE_FD " + name + ": " + named(fd));
  return {kernel, fd};
}

int bench::attach(const kernel::handle& group, const kernel::handle& container) const {
  int fd = container.get();
  return kernel.ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &fd);
}

session::session(const bench& b, const std::vector<group_name>& with, unsigned long type)
    : on(b), container(b.open_container()), members(with) {
  for (const group_name& member : with) {
    groups.push_back(b.open_group(member));
    expect(b.attach(groups.back(), container), 0, "SET_CONTAINER");
  }
  expect(b.kernel.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{type}), 0, "SET_IOMMU");
}

int session::map(std::uint64_t iova, std::uint64_t size, std::uint64_t vaddr, std::uint32_t flags) const {
  vfio_iommu_type1_dma_map request{.argsz = sizeof(request), .flags = flags, .vaddr = vaddr, .iova = iova, .size = size};
  return on.kernel.ioctl(container.get(), VFIO_IOMMU_MAP_DMA, &request);
}

int session::unmap(std::uint64_t iova, std::uint64_t& size, std::uint32_t flags) const {
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof(request);
  request.flags = flags;
  request.iova = iova;
  request.size = size;
  const int answer = on.kernel.ioctl(container.get(), VFIO_IOMMU_UNMAP_DMA, &request);
  size = request.size;
  return answer;
}

std::uint64_t session::unmap_low() const {
  std::uint64_t size = std::uint64_t{1} << 63;
  expect(unmap(0, size), 0, "UNMAP of the lower half of the space");
  return size;
}

int session::unmap_with_bitmap(std::uint64_t iova, std::uint64_t& size, const vfio_bitmap& bitmap,
                               std::uint32_t flags) const {
  std::array<std::byte, sizeof(vfio_iommu_type1_dma_unmap) + sizeof(vfio_bitmap)> request{};
  vfio_iommu_type1_dma_unmap head{};
  head.argsz = sizeof(request);
  head.flags = flags | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
  head.iova = iova;
  head.size = size;
  std::memcpy(request.data(), &head, sizeof(head));
  std::memcpy(request.data() + sizeof(head), &bitmap, sizeof(bitmap));
  const int answer = on.kernel.ioctl(container.get(), VFIO_IOMMU_UNMAP_DMA, request.data());
  std::memcpy(&head, request.data(), sizeof(head));
  size = head.size;
  return answer;
}

int session::dirty(std::uint32_t flags) const {
  vfio_iommu_type1_dirty_bitmap request{};
  request.argsz = sizeof(request);
  request.flags = flags;
  return on.kernel.ioctl(container.get(), VFIO_IOMMU_DIRTY_PAGES, &request);
}

int session::get(std::uint64_t iova, std::uint64_t size, const vfio_bitmap& bitmap) const {
  constexpr std::size_t head_bytes = offsetof(vfio_iommu_type1_dirty_bitmap, data);
  std::array<std::byte, head_bytes + sizeof(vfio_iommu_type1_dirty_bitmap_get)> request{};
  const std::array<std::uint32_t, 2> head{sizeof(request), VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP};  // argsz and flags
  static_assert(sizeof(head) == head_bytes);
  vfio_iommu_type1_dirty_bitmap_get range{};
  range.iova = iova;
  range.size = size;
  range.bitmap = bitmap;
  std::memcpy(request.data(), head.data(), sizeof(head));
  std::memcpy(request.data() + head_bytes, &range, sizeof(range));
  return on.kernel.ioctl(container.get(), VFIO_IOMMU_DIRTY_PAGES, request.data());
}

int session::get(std::uint64_t iova, std::uint64_t size, std::vector<std::uint64_t>& words) const {
  return get(iova, size, bitmap_of(words));
}

kernel::handle session::device(std::size_t member) const { return on.open_device(groups[member], members[member].device); }

vfio_bitmap bitmap_of(std::vector<std::uint64_t>& words, std::uint64_t page_bytes) {
  vfio_bitmap bitmap{};
  bitmap.pgsize = page_bytes;
  bitmap.size = words.size() * sizeof(std::uint64_t);
  bitmap.data = reinterpret_cast<decltype(bitmap.data)>(words.data());
  return bitmap;
}

int ring(const bench& b, const kernel::handle& device, std::uint64_t iova, std::uint64_t length, std::uint64_t value) {
  const tidemark_test_doorbell bell{.iova = iova, .length = length, .value = value};
  const ssize_t done = b.kernel.write(device.get(), &bell, sizeof(bell));
  if (done < 0) return static_cast<int>(done);
  expect(done, sizeof(bell), "bytes of a doorbell carried out");
  return 0;
}

iommu_info get_info(const session& s) {
  std::vector<std::uint8_t> buffer(4096);
  iommu_info result;
  result.info.argsz = static_cast<std::uint32_t>(buffer.size());
  std::memcpy(buffer.data(), &result.info, sizeof(result.info));
  expect(s.on.kernel.ioctl(s.container.get(), VFIO_IOMMU_GET_INFO, buffer.data()), 0, "GET_INFO");
  std::memcpy(&result.info, buffer.data(), sizeof(result.info));
  for (std::uint32_t offset = result.info.cap_offset; offset != 0;) {
    const auto header = taken<vfio_info_cap_header>(buffer, offset);
    result.offsets.push_back(offset);
    expect(header.version, 1, "version of a capability");
    if (header.id == VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION) {
      result.migration = taken<vfio_iommu_type1_info_cap_migration>(buffer, offset);
    } else if (header.id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL) {
      result.available = taken<vfio_iommu_type1_info_dma_avail>(buffer, offset).avail;
    } else if (header.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
      take_windows(result, buffer, offset);
    }
    offset = header.next;
  }
  return result;
}

}  // namespace tidemark::conformance
