// SPDX-License-Identifier: Apache-2.0
//
// VFIO_DEVICE_FEATURE in short verbs.

#pragma once

#include <cstring>
#include <vector>

#include "conformance/bench.hpp"

namespace tidemark::conformance {

/// The answer to a feature request with `data` behind its head, which becomes what the kernel wrote.
template <class Data>
int feature(const bench& b, const kernel::handle& device, std::uint32_t flags, Data& data,
            std::uint32_t argsz = sizeof(vfio_device_feature) + sizeof(Data)) {
  std::vector<std::uint64_t> buffer((sizeof(vfio_device_feature) + sizeof(Data) + 7) / 8);
  constexpr std::size_t head_bytes = sizeof(vfio_device_feature);
  const std::uint32_t head[] = {argsz, flags};
  static_assert(sizeof(head) == head_bytes);
  std::memcpy(buffer.data(), head, sizeof(head));
  std::memcpy(reinterpret_cast<std::byte*>(buffer.data()) + head_bytes, &data, sizeof(data));
  const int answer = b.kernel.ioctl(device.get(), VFIO_DEVICE_FEATURE, buffer.data());
  std::memcpy(&data, reinterpret_cast<std::byte*>(buffer.data()) + head_bytes, sizeof(data));
  return answer;
}

/// A request without data, such as a probe.
inline int feature(const bench& b, const kernel::handle& device, std::uint32_t flags) {
  const std::uint32_t head[] = {sizeof(vfio_device_feature), flags};
  return b.kernel.ioctl(device.get(), VFIO_DEVICE_FEATURE, head);
}

inline constexpr std::uint32_t feature_get = VFIO_DEVICE_FEATURE_GET;
inline constexpr std::uint32_t feature_set = VFIO_DEVICE_FEATURE_SET;
inline constexpr std::uint32_t feature_probe = VFIO_DEVICE_FEATURE_PROBE;

}  // namespace tidemark::conformance
