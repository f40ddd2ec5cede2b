// SPDX-License-Identifier: Apache-2.0
//
// A test device's log of its writes: VFIO_DEVICE_FEATURE_DMA_LOGGING_START, STOP and REPORT.
//
// covers R27

#include <cerrno>

#include "conformance/feature.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t start_feature = feature_set | VFIO_DEVICE_FEATURE_DMA_LOGGING_START;
constexpr std::uint32_t stop_feature = feature_set | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP;
constexpr std::uint32_t report_feature = feature_get | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT;

using range = vfio_device_feature_dma_logging_range;

/// A test device with 64 pages mapped from IOVA 0 on.
struct logger {
  explicit logger(const bench& b) : s(emulated_session(b)), ram(64 * page), device(s.device()) {
    expect(s.map(0, 64 * page, ram.address()), 0, "MAP");
  }

  int start(const std::vector<range>& ranges, std::uint64_t page_bytes = page) {
    vfio_device_feature_dma_logging_control request{};
    request.page_size = page_bytes;
    request.num_ranges = static_cast<std::uint32_t>(ranges.size());
    request.ranges = reinterpret_cast<std::uintptr_t>(ranges.data());
    const int answer = feature(s.on, device, start_feature, request);
    page_size = request.page_size;
    return answer;
  }
  int stop() const { return feature(s.on, device, stop_feature); }
  int report(std::uint64_t iova, std::uint64_t length, std::uint64_t* bitmap, std::uint64_t page_bytes = page) const {
    vfio_device_feature_dma_logging_report request{};
    request.iova = iova;
    request.length = length;
    request.page_size = page_bytes;
    request.bitmap = reinterpret_cast<std::uintptr_t>(bitmap);
    return feature(s.on, device, report_feature, request);
  }
  /// The bits reported for the pages from 0 on.
  std::uint64_t word(std::uint64_t pages = 64, std::uint64_t page_bytes = page) const {
    std::uint64_t bits = 0;
    expect(report(0, pages * page, &bits, page_bytes), 0, "REPORT");
    return bits;
  }
  void write(std::uint64_t page_number) const { expect(ring(s.on, device, page_number * page, 8, 1), 0, "a doorbell"); }

  session s;
  memory ram;
  kernel::handle device;
  std::uint64_t page_size = 0;
};

const std::vector<range> everything = {{.iova = 0, .length = 64 * page}};

void probes(bench& b) {
  const logger l(b);
  const auto ask = [&](std::uint32_t flags) { return feature(b, l.device, feature_probe | flags); };
  expect(ask(start_feature), 0, "PROBE of START");
  expect(ask(stop_feature), 0, "PROBE of STOP");
  expect(ask(report_feature), 0, "PROBE of REPORT");
  expect(ask(feature_get | VFIO_DEVICE_FEATURE_DMA_LOGGING_START), -EINVAL, "PROBE of a GET of START");
  expect(ask(feature_set | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT), -EINVAL, "PROBE of a SET of REPORT");
}

void unable(bench& b) {
  logger l(b);
  expect(l.start(everything), -ENOTTY, "START");
  expect(l.stop(), -ENOTTY, "STOP");
}

// --- START and STOP ---

void refused_ranges(bench& b) {
  logger l(b);
  expect(l.start({}), -EINVAL, "no ranges");
  expect(l.start({{.iova = 0, .length = page}, {.iova = 0, .length = page}}), -EINVAL, "ranges that overlap");
  expect(l.start({{.iova = 0, .length = 4 * page}, {.iova = page, .length = page}}), -EINVAL, "a range in another");
  expect(l.start({{.iova = 8, .length = page}}), -EINVAL, "an iova within a page");
  expect(l.start({{.iova = 0, .length = page + 8}}), -EINVAL, "a length that is no multiple of the page");
  expect(l.start({{.iova = top - page + 1, .length = 2 * page}}), -EOVERFLOW, "a range that wraps");
  expect(l.start({{.iova = top - page + 1, .length = page}}), -EOVERFLOW, "a range to the end of the space");
  expect(l.report(0, page, nullptr), -EFAULT, "REPORT without a bitmap");
}

void too_many(bench& b) {
  logger l(b);
  std::vector<range> ranges;
  for (std::uint64_t i = 0; i < 257; ++i) ranges.push_back({.iova = 2 * i * page, .length = page});
  expect(l.start(ranges), -E2BIG, "257 ranges");
  ranges.pop_back();
  expect(l.start(ranges), 0, "256 ranges");
}

void ranges_gone(bench& b) {
  const logger l(b);
  vfio_device_feature_dma_logging_control request{};
  request.page_size = page;
  request.num_ranges = 1;
  expect(feature(b, l.device, start_feature, request), -EFAULT, "START with no ranges at their address");
}

void starts_once(bench& b) {
  logger l(b);
  expect(l.stop(), 0, "STOP before START");
  expect(l.start(everything, 2 * page), 0, "START");
  expect(l.page_size, page, "the page size it tells");
  expect(l.start(everything), -EINVAL, "START again");
  expect(l.stop(), 0, "STOP");
  expect(l.stop(), 0, "STOP again");
  expect(l.start(everything), 0, "START after STOP");
}

// --- REPORT ---

void refused_reports(bench& b) {
  logger l(b);
  std::uint64_t bits = 0;
  expect(l.report(0, page, &bits), -EINVAL, "before START");
  expect(l.start(everything), 0, "START");
  expect(l.report(0, page, &bits, page / 2), -EINVAL, "pages of 2 KiB");
  expect(l.report(0, page, &bits, 3 * page), -EINVAL, "pages of no power of two");
  expect(l.report(8, page, &bits), -EINVAL, "an iova within a page");
  expect(l.report(0, page + 8, &bits), -EINVAL, "a length that is no multiple of the page");
  expect(l.report(top - page + 1, 2 * page, &bits), -EOVERFLOW, "a range that wraps");
  expect(l.report(0, page, nullptr), -EFAULT, "no bitmap");
}

void reports_once(bench& b) {
  logger l(b);
  l.write(1);
  expect(l.start(everything), 0, "START");
  l.write(2);
  l.write(5);
  expect(l.word(), 0b100100, "what was written since START");
  expect(l.word(), 0, "asked for again");
  expect(ring(b, l.device, 7 * page - 8, page + 16, 1), 0, "a doorbell over three pages");
  expect(l.word(7), 0b1000000, "the pages of a part of the range");
  expect(l.word(), 0b110000000, "the others, later");
}

void only_sets(bench& b) {
  logger l(b);
  expect(l.start(everything), 0, "START");
  l.write(0);
  std::uint64_t bits = 0b1100;
  expect(l.report(0, 64 * page, &bits), 0, "REPORT");
  expect(bits, 0b1101, "the bitmap, with what stood there");
}

void only_ranges(bench& b) {
  logger l(b);
  expect(l.start({{.iova = 4 * page, .length = 2 * page}, {.iova = 16 * page, .length = page}}), 0, "START");
  for (const std::uint64_t n : {3U, 4U, 5U, 6U, 15U, 16U, 17U}) l.write(n);
  expect(l.word(), 0b10000000000110000, "pages of the ranges");
}

void larger_pages(bench& b) {
  logger l(b);
  expect(l.start(everything), 0, "START");
  l.write(5);
  l.write(8);
  expect(l.word(64, 4 * page), 0b110, "a bit for four pages");
}

void stop_forgets(bench& b) {
  logger l(b);
  expect(l.start(everything), 0, "START");
  l.write(5);
  expect(l.stop(), 0, "STOP");
  expect(l.start(everything), 0, "START");
  expect(l.word(), 0, "the bitmap");
  l.write(6);
  expect(b.kernel.ioctl(l.device.get(), VFIO_DEVICE_RESET), 0, "RESET");
  std::uint64_t bits = 0;
  expect(l.report(0, page, &bits), -EINVAL, "REPORT after a reset");
}

void each_its_own(bench& b) {
  const session s(b, {b.emulated(0), b.emulated(1)});
  const memory ram(2 * page);
  expect(s.map(0, 2 * page, ram.address()), 0, "MAP");
  const auto first = s.device(0);
  const auto second = s.device(1);
  const range whole{.iova = 0, .length = 2 * page};
  for (const auto* device : {&first, &second}) {
    vfio_device_feature_dma_logging_control request{};
    request.page_size = page;
    request.num_ranges = 1;
    request.ranges = reinterpret_cast<std::uintptr_t>(&whole);
    expect(feature(b, *device, start_feature, request), 0, "START");
  }
  expect(ring(b, first, page, 8, 1), 0, "a doorbell of the first");
  for (const auto* device : {&first, &second}) {
    std::uint64_t bits = 0;
    vfio_device_feature_dma_logging_report request{};
    request.length = 2 * page;
    request.page_size = page;
    request.bitmap = reinterpret_cast<std::uintptr_t>(&bits);
    expect(feature(b, *device, report_feature, request), 0, "REPORT");
    expect(bits, device == &first ? 0b10 : 0, "its own pages");
  }
}

}  // namespace

std::vector<test_case> log_cases() {
  std::vector<test_case> cases = {
      {"log: PROBE tells what there is", probes},
      {.name = "log: a device that does not log answers ENOTTY",
       .run = unable,
       .shape = [](kernel::model_options& options) { options.groups[0].logs_dma = false; },
       .model_only = "every test device of the guest logs"},
      {"log: START with bad ranges is EINVAL or EOVERFLOW", refused_ranges},
      {"log: START with more than 256 ranges is E2BIG", too_many},
      {"log: START with ranges that are not there is EFAULT", ranges_gone},
      {"log: START once, STOP at any time", starts_once},
      {"log: REPORT of a bad range is EINVAL, EOVERFLOW or EFAULT", refused_reports},
      {"log: REPORT gives each write once", reports_once},
      {"log: REPORT only sets bits", only_sets},
      {"log: only the ranges asked for are logged", only_ranges},
      {"log: REPORT in larger pages", larger_pages},
      {"log: STOP and a reset forget", stop_forgets},
      {"log: each device logs its own writes", each_its_own},
  };
  for (test_case& one : cases) one.from = {6, 1};
  return cases;
}

}  // namespace tidemark::conformance
