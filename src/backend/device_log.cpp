// SPDX-License-Identifier: Apache-2.0

#include "backend/device_log.hpp"

#include <linux/vfio.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "backend/feature.hpp"

namespace tidemark::backend {

namespace {

error refused(operation what, int answer, const device& of, iova_range range, const std::string& request) {
  return kernel_error(what, -answer, range, of.name() + ": VFIO_DEVICE_FEATURE_DMA_LOGGING_" + request);
}

}  // namespace

std::size_t logged_ranges_max() noexcept {
  static const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return page / sizeof(vfio_device_feature_dma_logging_range);
}

result<void> start_log(const device& of, std::span<const iova_range> ranges, std::uint64_t page_size) {
  std::vector<vfio_device_feature_dma_logging_range> list;
  list.reserve(ranges.size());
  for (const auto& range : ranges) list.push_back({range.iova, range.size});
  vfio_device_feature_dma_logging_control control{};
  control.page_size = page_size;
  control.num_ranges = static_cast<__u32>(list.size());
  control.ranges = reinterpret_cast<std::uintptr_t>(list.data());
  const int answer = feature(of, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, control);
  if (answer >= 0) return {};
  return refused(operation::start_dirty_tracking, answer, of, {}, "START of " + std::to_string(list.size()) + " ranges");
}

result<void> stop_log(const device& of) {
  vfio_device_feature request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP;
  const int answer = of.kernel().ioctl(of.file(), VFIO_DEVICE_FEATURE, &request);
  if (answer >= 0) return {};
  return refused(operation::stop_dirty_tracking, answer, of, {}, "STOP");
}

result<void> report_log(const device& of, iova_range range, std::uint64_t page_size, std::span<std::uint64_t> bits) {
  vfio_device_feature_dma_logging_report report{};
  report.iova = range.iova;
  report.length = range.size;
  report.page_size = page_size;
  report.bitmap = reinterpret_cast<std::uintptr_t>(bits.data());
  const int answer = feature(of, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, report);
  if (answer >= 0) return {};
  return refused(operation::query_dirty, answer, of, range, "REPORT");
}

}  // namespace tidemark::backend
