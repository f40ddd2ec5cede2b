// SPDX-License-Identifier: Apache-2.0
//
// Reads the answer of VFIO_IOMMU_GET_INFO: a fixed head, then a chain of capabilities linked by offsets. Pure; the kernel's
// bytes are not trusted: a chain that loops or leaves the buffer is an error.

#pragma once

#include <tidemark/container.hpp>

#include <span>

namespace tidemark::backend {

/// `answer` is what the kernel filled, argsz bytes of it. `host_page_size` in bytes.
result<container_info> read_iommu_info(std::span<const std::byte> answer, std::uint64_t host_page_size);

}  // namespace tidemark::backend
