// SPDX-License-Identifier: Apache-2.0

#include "backend/type1.hpp"

#include <fcntl.h>
#include <linux/vfio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <vector>

#include "backend/capabilities.hpp"
#include "core/bitmap.hpp"

namespace tidemark::backend {

namespace {

constexpr std::uint32_t info_bytes_max = 1 << 20;  // of VFIO_IOMMU_GET_INFO; a hundred windows take less than 2 KiB

std::uint64_t host_page_size() noexcept {
  static const auto size = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return size;
}

std::string group_path(unsigned group) { return "/dev/vfio/" + std::to_string(group); }

std::string why_group_does_not_open(unsigned group, int errno_value) {
  const auto path = group_path(group);
  switch (errno_value) {
    case ENOENT:
      return "no such group: " + path +
             " is not there; bind the group's devices to vfio-pci first ('tidemark doctor' lists the groups)";
    case EACCES:
    case EPERM:
      return "no permission on " + path + ": run as root, or give the file to your user (chown)";
    case EBUSY:
      return "group " + std::to_string(group) + " is in use by another container or process";
    default:
      return path;
  }
}

std::string why_map_fails(int errno_value) {
  switch (errno_value) {
    case ENOMEM:
      return "pinning is over the locked-memory limit: raise it (ulimit -l unlimited, or LimitMEMLOCK=infinity)";
    case ENOSPC:
      return "the kernel's mapping budget is used up (vfio_iommu_type1.dma_entry_limit)";
    case EEXIST:
      return "the range meets a mapping that is already there";
    case EFAULT:
      return "the host memory cannot be pinned with the access asked for";
    case EINVAL:
      return "misaligned, or outside the IOVA windows";
    default:
      return {};
  }
}

/// The bitmap as the kernel takes it: bytes in whole words.
vfio_bitmap bitmap_for(iova_range range, std::uint64_t page_size, std::span<std::uint64_t> dirty) {
  vfio_bitmap described{};
  described.pgsize = page_size;
  described.size = core::words_for(range.size / page_size) * sizeof(std::uint64_t);
  described.data = reinterpret_cast<__u64*>(dirty.data());
  return described;
}

}  // namespace

type1::~type1() {
  // Groups leave before the container file closes; what is still mapped goes with the last of them.
  for (auto& [number, group] : groups_) kernel_.ioctl(group.get(), VFIO_GROUP_UNSET_CONTAINER);
}

result<kernel::handle> type1::open_group(unsigned group) {
  const int fd = kernel_.open(group_path(group).c_str(), O_RDWR);
  if (fd < 0) return kernel_error(operation::open_group, -fd, {}, why_group_does_not_open(group, -fd));
  kernel::handle file(kernel_, fd);
  vfio_group_status status{};
  status.argsz = sizeof status;
  if (const int answer = kernel_.ioctl(file.get(), VFIO_GROUP_GET_STATUS, &status); answer < 0)
    return kernel_error(operation::open_group, -answer, {}, group_path(group));
  if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0)
    return make_error(operation::open_group, errc::group_not_viable, {},
                      "every device of group " + std::to_string(group) + " must be bound to its vfio bus driver");
  return file;
}

result<void> type1::set_iommu_type(int container_file) {
  for (const std::uintptr_t type : {std::uintptr_t{VFIO_TYPE1v2_IOMMU}, std::uintptr_t{VFIO_TYPE1_IOMMU}}) {
    if (kernel_.ioctl(container_file, VFIO_CHECK_EXTENSION, type) <= 0) continue;
    const int answer = kernel_.ioctl(container_file, VFIO_SET_IOMMU, type);
    if (answer < 0) return kernel_error(operation::connect_container, -answer, {}, "VFIO_SET_IOMMU");
    v2_ = type == VFIO_TYPE1v2_IOMMU;
    return {};
  }
  return make_error(operation::connect_container, errc::no_iommu_model, {},
                    "load vfio_iommu_type1 (modprobe vfio_iommu_type1)");
}

result<void> type1::open_container(int group_file) {
  const int fd = kernel_.open("/dev/vfio/vfio", O_RDWR);
  if (fd < 0)
    return kernel_error(operation::connect_container, -fd, {},
                        "/dev/vfio/vfio: load vfio (modprobe vfio-pci) and check its permissions");
  kernel::handle file(kernel_, fd);
  const int version = kernel_.ioctl(fd, VFIO_GET_API_VERSION);
  if (version < 0) return kernel_error(operation::connect_container, -version, {}, "VFIO_GET_API_VERSION");
  if (version != VFIO_API_VERSION)
    return make_error(operation::connect_container, errc::api_version, {},
                      "the kernel says " + std::to_string(version) + ", known is " + std::to_string(VFIO_API_VERSION));
  if (const int answer = kernel_.ioctl(group_file, VFIO_GROUP_SET_CONTAINER, &fd); answer < 0)
    return kernel_error(operation::connect_container, -answer, {}, "VFIO_GROUP_SET_CONTAINER");
  container_ = std::move(file);
  auto typed = set_iommu_type(fd);
  if (typed) {
    auto info = get_info();
    if (info) {
      info_ = std::move(*info);
      return {};
    }
    typed = info.error();
  }
  kernel_.ioctl(group_file, VFIO_GROUP_UNSET_CONTAINER);
  container_.reset();
  return typed;
}

result<container_info> type1::connect(unsigned group) {
  if (groups_.contains(group)) return info_;
  auto file = open_group(group);
  if (!file) return file.error();
  if (container_) {
    const int fd = container_.get();
    if (const int answer = kernel_.ioctl(file->get(), VFIO_GROUP_SET_CONTAINER, &fd); answer < 0)
      return kernel_error(operation::connect_container, -answer, {},
                          "VFIO_GROUP_SET_CONTAINER: the group does not fit this container");
    auto info = get_info();  // the new group may narrow the windows
    if (!info) {
      kernel_.ioctl(file->get(), VFIO_GROUP_UNSET_CONTAINER);
      return info.error();
    }
    info_ = std::move(*info);
  } else if (auto opened = open_container(file->get()); !opened) {
    return opened.error();
  }
  groups_.emplace(group, std::move(*file));
  return info_;
}

result<container_info> type1::get_info() {
  std::vector<std::byte> answer(sizeof(vfio_iommu_type1_info));
  for (;;) {
    // The head is written in place: the buffer comes from operator new, so it is aligned for it.
    auto* head = reinterpret_cast<vfio_iommu_type1_info*>(answer.data());
    *head = {};
    head->argsz = static_cast<std::uint32_t>(answer.size());
    if (const int code = kernel_.ioctl(container_.get(), VFIO_IOMMU_GET_INFO, head); code < 0)
      return kernel_error(operation::get_info, -code, {}, "VFIO_IOMMU_GET_INFO");
    if (head->argsz <= answer.size()) break;
    if (head->argsz > info_bytes_max)
      return make_error(operation::get_info, errc::malformed_capability, {},
                        "the kernel asks for " + std::to_string(head->argsz) + " bytes");
    answer.resize(head->argsz);
  }
  auto info = read_iommu_info(answer, host_page_size());
  if (info && !v2_) info->can_track_dirty = false;  // v1 reports the capability and refuses VFIO_IOMMU_DIRTY_PAGES
  return info;
}

result<device> type1::open_device(unsigned group, const std::string& name) {
  const auto found = groups_.find(group);
  if (found == groups_.end())
    return make_error(operation::open_device, errc::region_unknown, {},
                      "group " + std::to_string(group) + " is not connected");
  const int fd = kernel_.ioctl(found->second.get(), VFIO_GROUP_GET_DEVICE_FD, name.c_str());
  if (fd < 0)
    return kernel_error(operation::open_device, -fd, {},
                        name + " in group " + std::to_string(group) +
                            ": all devices of the group must be bound to a vfio driver or pci-stub, and unused");
  kernel::handle file(kernel_, fd);
  vfio_device_info info{};
  info.argsz = sizeof info;
  if (const int answer = kernel_.ioctl(fd, VFIO_DEVICE_GET_INFO, &info); answer < 0)
    return kernel_error(operation::open_device, -answer, {}, name + ": VFIO_DEVICE_GET_INFO");
  return device(kernel_, std::move(file), name, {info.flags, info.num_regions, info.num_irqs});
}

result<void> type1::map(const mapping& what) {
  vfio_iommu_type1_dma_map request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DMA_MAP_FLAG_READ | (what.writable ? VFIO_DMA_MAP_FLAG_WRITE : 0u);
  request.vaddr = reinterpret_cast<std::uintptr_t>(what.host);
  request.iova = what.at.iova;
  request.size = what.at.size;
  if (const int answer = kernel_.ioctl(container_.get(), VFIO_IOMMU_MAP_DMA, &request); answer < 0)
    return kernel_error(operation::map, -answer, what.at, why_map_fails(-answer));
  return {};
}

result<void> type1::check_bitmap(operation what, iova_range range, std::span<const std::uint64_t> dirty) const {
  if (!info_.can_track_dirty) return make_error(what, errc::dirty_not_supported, range);
  const auto words = core::words_for(range.size / info_.page_size());
  if (words * sizeof(std::uint64_t) > info_.dirty_bitmap_bytes_max)
    return make_error(
        what, errc::bitmap_too_large, range,
        "at most " + std::to_string(info_.dirty_bitmap_bytes_max) + " bytes of bitmap: map the memory in smaller regions");
  if (dirty.size() < words) return kernel_error(what, EINVAL, range, "the bitmap handed in is too small for the range");
  return {};
}

result<std::uint64_t> type1::unmap(iova_range range, std::span<std::uint64_t> dirty) {
  // The structure ends in a flexible member that the bitmap's description fills.
  alignas(vfio_bitmap) std::array<std::byte, sizeof(vfio_iommu_type1_dma_unmap) + sizeof(vfio_bitmap)> storage{};
  auto* request = new (storage.data()) vfio_iommu_type1_dma_unmap{};
  request->argsz = sizeof *request;
  request->iova = range.iova;
  request->size = range.size;
  if (!dirty.empty()) {
    if (auto fits = check_bitmap(operation::unmap, range, dirty); !fits) return fits.error();
    std::fill(dirty.begin(), dirty.end(), 0);
    request->argsz = sizeof storage;
    request->flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
    new (request->data) vfio_bitmap(bitmap_for(range, info_.page_size(), dirty));
  }
  if (const int answer = kernel_.ioctl(container_.get(), VFIO_IOMMU_UNMAP_DMA, request); answer < 0)
    return kernel_error(operation::unmap, -answer, range);
  return std::uint64_t{request->size};
}

result<void> type1::set_dirty_tracking(bool on) {
  const auto what = on ? operation::start_dirty_tracking : operation::stop_dirty_tracking;
  if (!info_.can_track_dirty) return make_error(what, errc::dirty_not_supported);
  vfio_iommu_type1_dirty_bitmap request{};
  request.argsz = sizeof request;
  request.flags = on ? VFIO_IOMMU_DIRTY_PAGES_FLAG_START : VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
  if (const int answer = kernel_.ioctl(container_.get(), VFIO_IOMMU_DIRTY_PAGES, &request); answer < 0)
    return kernel_error(what, -answer);
  return {};
}

result<void> type1::query_dirty(iova_range range, std::span<std::uint64_t> dirty) {
  if (auto fits = check_bitmap(operation::query_dirty, range, dirty); !fits) return fits.error();
  // The kernel overwrites the words of mapped areas and leaves gaps alone.
  std::fill(dirty.begin(), dirty.end(), 0);
  alignas(vfio_bitmap)
      std::array<std::byte, sizeof(vfio_iommu_type1_dirty_bitmap) + sizeof(vfio_iommu_type1_dirty_bitmap_get)>
          storage{};
  auto* request = new (storage.data()) vfio_iommu_type1_dirty_bitmap{};
  request->argsz = sizeof storage;
  request->flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
  new (request->data) vfio_iommu_type1_dirty_bitmap_get{range.iova, range.size, bitmap_for(range, info_.page_size(), dirty)};
  if (const int answer = kernel_.ioctl(container_.get(), VFIO_IOMMU_DIRTY_PAGES, request); answer < 0)
    return kernel_error(operation::query_dirty, -answer, range);
  return {};
}

}  // namespace tidemark::backend
