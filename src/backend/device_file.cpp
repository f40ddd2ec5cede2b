// SPDX-License-Identifier: Apache-2.0

#include "backend/device_file.hpp"

#include <linux/vfio.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

#include "backend/capability_chain.hpp"
#include "kernel/vfio_newer.h"

namespace tidemark::backend {

namespace {

constexpr auto opening = operation::open_device;
using bytes = std::span<const std::byte>;

/// An open device that is being asked what it is.
struct asked_device {
  kernel::files& kernel;
  int fd;
  const std::string& name;
  const std::function<void(const error&)>& warn;

  std::string about(const char* request) const { return name + ": " + request; }
  std::string about(const char* request, std::uint32_t index) const { return about(request) + " " + std::to_string(index); }
};

result<void> read_sparse_areas(bytes answer, std::size_t offset, device_region& region) {
  vfio_region_info_cap_sparse_mmap head;
  if (!copy_at(answer, offset, head)) return malformed(opening, "the sparse mmap capability is cut off");
  region.mappable.clear();
  for (std::uint32_t i = 0; i < head.nr_areas; ++i) {
    vfio_region_sparse_mmap_area area;
    if (!copy_at(answer, offset + sizeof head + i * sizeof area, area))
      return malformed(opening, "the list of mappable areas leaves the buffer");
    if (area.size != 0) region.mappable.push_back({area.offset, area.size});
  }
  return {};
}

result<void> read_region_capability(bytes answer, std::size_t offset, std::uint16_t id, device_region& region) {
  vfio_region_info_cap_type kind;
  switch (id) {
    case VFIO_REGION_INFO_CAP_SPARSE_MMAP:
      return read_sparse_areas(answer, offset, region);
    case VFIO_REGION_INFO_CAP_MSIX_MAPPABLE:
      region.msix_mappable = true;
      return {};
    case VFIO_REGION_INFO_CAP_TYPE:
      if (!copy_at(answer, offset, kind)) return malformed(opening, "the region type capability is cut off");
      region.type = kind.type;
      region.subtype = kind.subtype;
      return {};
    default:
      return {};  // newer kernels may say more
  }
}

result<device_region> read_region(const asked_device& from, std::uint32_t index) {
  vfio_region_info question{};
  question.index = index;
  device_region region;
  region.index = index;
  const auto answer = ask(from.kernel, from.fd, VFIO_DEVICE_GET_REGION_INFO, question, opening,
                          from.about("VFIO_DEVICE_GET_REGION_INFO", index));
  if (!answer) {
    if (answer.error().code.value() == EINVAL && answer.error().code.category() == boost::system::system_category())
      return region;
    return answer.error();
  }
  vfio_region_info head;
  std::memcpy(&head, answer->data(), sizeof head);
  region.size = head.size;
  region.file_offset = head.offset;
  region.readable = (head.flags & VFIO_REGION_INFO_FLAG_READ) != 0;
  region.writable = (head.flags & VFIO_REGION_INFO_FLAG_WRITE) != 0;
  if ((head.flags & VFIO_REGION_INFO_FLAG_MMAP) != 0 && head.size != 0) region.mappable.push_back({0, head.size});
  if ((head.flags & VFIO_REGION_INFO_FLAG_CAPS) == 0) return region;
  auto read = walk_capabilities(opening, *answer, head.cap_offset, sizeof head,
                                [&](const vfio_info_cap_header& header, std::size_t offset) {
                                  return read_region_capability(*answer, offset, header.id, region);
                                });
  if (!read) return read.error();
  return region;
}

result<device_irq> read_irq(const asked_device& from, std::uint32_t index) {
  vfio_irq_info info{};
  info.argsz = sizeof info;
  info.index = index;
  const int answer = from.kernel.ioctl(from.fd, VFIO_DEVICE_GET_IRQ_INFO, &info);
  if (answer == -EINVAL) return device_irq{index, 0, 0};
  if (answer < 0) return kernel_error(opening, -answer, {}, from.about("VFIO_DEVICE_GET_IRQ_INFO", index));
  return device_irq{index, info.count, info.flags};
}

/// Whether a feature is there. A kernel, or a driver, without it says ENOTTY, and before that was mended EINVAL.
bool has_feature(const asked_device& from, int answer, const char* request) {
  if (answer < 0 && answer != -ENOTTY && answer != -EINVAL && from.warn)
    from.warn(kernel_error(opening, -answer, {}, from.about(request) + ": taken as not supported"));
  return answer >= 0;
}

device_migration read_migration(const asked_device& from) {
  alignas(vfio_device_feature) std::array<std::byte, sizeof(vfio_device_feature) + sizeof(vfio_device_feature_migration)>
      storage{};
  auto* request = new (storage.data()) vfio_device_feature{};
  request->argsz = sizeof storage;
  request->flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION;
  const int answer = from.kernel.ioctl(from.fd, VFIO_DEVICE_FEATURE, request);
  if (!has_feature(from, answer, "VFIO_DEVICE_FEATURE_MIGRATION")) return {};
  vfio_device_feature_migration told;
  std::memcpy(&told, storage.data() + sizeof *request, sizeof told);
  device_migration migration;
  migration.stop_copy = (told.flags & VFIO_MIGRATION_STOP_COPY) != 0;
  migration.p2p = (told.flags & VFIO_MIGRATION_P2P) != 0;
  migration.pre_copy = (told.flags & VFIO_MIGRATION_PRE_COPY) != 0;
  return migration;
}

bool logs_dma(const asked_device& from) {
  vfio_device_feature request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START;
  return has_feature(from, from.kernel.ioctl(from.fd, VFIO_DEVICE_FEATURE, &request),
                     "VFIO_DEVICE_FEATURE_DMA_LOGGING_START");
}

result<device_info> read_info(const asked_device& from) {
  const auto answer =
      ask(from.kernel, from.fd, VFIO_DEVICE_GET_INFO, vfio_device_info{}, opening, from.about("VFIO_DEVICE_GET_INFO"));
  if (!answer) return answer.error();
  vfio_device_info head;
  std::memcpy(&head, answer->data(), sizeof head);
  device_info info;
  info.flags = head.flags;
  info.can_reset = (head.flags & VFIO_DEVICE_FLAGS_RESET) != 0;
  for (std::uint32_t i = 0; i < head.num_regions; ++i) {
    auto region = read_region(from, i);
    if (!region) return region.error();
    info.regions.push_back(std::move(*region));
  }
  for (std::uint32_t i = 0; i < head.num_irqs; ++i) {
    auto irq = read_irq(from, i);
    if (!irq) return irq.error();
    info.irqs.push_back(*irq);
  }
  info.migration = read_migration(from);
  info.logs_dma = logs_dma(from);
  return info;
}

}  // namespace

result<device> open_device(kernel::files& kernel, const group& owner, const std::string& name,
                           const std::function<void(const error&)>& warn) {
  const int fd = kernel.ioctl(owner.file.get(), VFIO_GROUP_GET_DEVICE_FD, name.c_str());
  if (fd < 0)
    return kernel_error(opening, -fd, {},
                        name + " in group " + std::to_string(owner.number) +
                            ": all devices of the group must be bound to a vfio driver or pci-stub, and unused");
  kernel::handle file(kernel, fd);
  auto info = read_info({kernel, fd, name, warn});
  if (!info) return info.error();
  return device(kernel, std::move(file), name, owner.number, std::move(*info));
}

}  // namespace tidemark::backend
