// SPDX-License-Identifier: Apache-2.0
//
// edu_dma: proves by data that a type1 mapping is what a device sees. QEMU's edu device, behind a real IOMMU driver, copies
// mapped memory into its buffer and from there into other mapped memory; where nothing is mapped, or only for reading, it
// changes nothing.
//
// Runs on a real kernel only (tools/vm). One line a step; the status is 0 when all hold, 77 when there is no edu device.

#include <cstdio>
#include <string>

#include "conformance/bench.hpp"
#include "conformance/edu_device.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t from_iova = 0x100000;
constexpr std::uint32_t to_iova = 0x300000;
constexpr auto copied = edu_device::copied;

void fill(const memory& ram, std::uint8_t seed) {
  for (std::uint64_t i = 0; i < page; ++i) ram.at(i) = static_cast<std::uint8_t>(seed + i * 7 + i / 256);
}

std::uint64_t differing_bytes(const memory& left, const memory& right) {
  std::uint64_t count = 0;
  for (std::uint64_t i = 0; i < copied; ++i) count += left.at(i) != right.at(i) ? 1U : 0U;
  return count;
}

void told(const char* step) { std::printf("ok      edu_dma: %s\n", step); }

void run(const bench& b) {
  const memory source(page);
  const memory target(page);
  const memory expected(page);
  // Before it is mapped: kernels before 6.2 pin the shared zero page for a mapping to read of memory that was never written,
  // and the device would go on seeing that page.
  fill(source, 3);
  const session s = backed_session(b);
  expect(s.map(from_iova, page, source.address(), VFIO_DMA_MAP_FLAG_READ), 0, "MAP to read");
  expect(s.map(to_iova, page, target.address()), 0, "MAP to read and write");
  const auto device = s.device();
  edu_device edu(b.kernel, device.get());
  told("the device answers through its regions");

  fill(target, 77);
  fill(expected, 3);
  edu.copy_in(from_iova);
  edu.copy_out(to_iova);
  expect(differing_bytes(target, expected), 0, "bytes that did not arrive");
  told("memory goes to the device and comes back at another address");

  fill(target, 99);
  fill(expected, 3);
  edu.copy_out(from_iova);
  expect(differing_bytes(source, expected), 0, "bytes changed through a mapping to read");
  told("a mapping to read cannot be written");

  std::uint64_t size = page;
  expect(s.unmap(to_iova, size), 0, "UNMAP");
  fill(expected, 99);
  edu.copy_out(to_iova);
  expect(differing_bytes(target, expected), 0, "bytes changed after the UNMAP");
  told("memory that was unmapped is out of reach");
}

}  // namespace
}  // namespace tidemark::conformance

int main() {
  using namespace tidemark;
  try {
    conformance::run(conformance::bench(kernel::host_kernel(), conformance::running_version(), conformance::discover()));
  } catch (const conformance::skipped& reason) {
    std::printf("skipped edu_dma: %s\n", reason.what());
    return 77;
  } catch (const std::exception& reason) {
    std::printf("FAILED  edu_dma: %s\n", reason.what());
    return 1;
  }
  return 0;
}
