// SPDX-License-Identifier: Apache-2.0
//
// VFIO_DEVICE_FEATURE with its payload behind it.
//
// Threading: blocks as the feature's driver does.

#pragma once

#include <linux/vfio.h>
#include <tidemark/device.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

namespace tidemark::backend {

/// What the kernel answers; `payload` becomes what it wrote.
template <class Payload>
int feature(const device& of, std::uint32_t flags, Payload& payload) {
  alignas(vfio_device_feature) alignas(Payload) std::array<std::byte, sizeof(vfio_device_feature) + sizeof(Payload)>
      storage{};
  auto* request = new (storage.data()) vfio_device_feature{};
  request->argsz = sizeof storage;
  request->flags = flags;
  std::memcpy(storage.data() + sizeof *request, &payload, sizeof payload);
  const int answer = of.kernel().ioctl(of.file(), VFIO_DEVICE_FEATURE, request);
  std::memcpy(&payload, storage.data() + sizeof *request, sizeof payload);
  return answer;
}

}  // namespace tidemark::backend
