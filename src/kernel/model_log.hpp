// SPDX-License-Identifier: Apache-2.0
//
// The test device's log of its own writes: VFIO_DEVICE_FEATURE_DMA_LOGGING_START, STOP and REPORT.
//
// Threading: the model's mutex is held around every call.

#pragma once

#include <cstdint>
#include <map>
#include <set>

struct vfio_device_feature_dma_logging_report;

namespace tidemark::kernel::modelled {

class dma_log {
 public:
  /// `argument` is a vfio_device_feature_dma_logging_control.
  int start(std::uintptr_t argument);
  void stop() noexcept;
  int report(const vfio_device_feature_dma_logging_report& request);

  /// A write within one page: pages outside the ranges asked for are not logged.
  void mark(std::uint64_t iova, std::uint64_t bytes);

 private:
  bool overlaps(std::uint64_t first, std::uint64_t last) const noexcept;

  bool active_ = false;
  std::map<std::uint64_t, std::uint64_t> ranges_;  ///< first byte to last
  std::set<std::uint64_t> pages_;                  ///< numbers of the pages written
};

}  // namespace tidemark::kernel::modelled
