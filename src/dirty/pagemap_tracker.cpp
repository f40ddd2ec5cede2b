// SPDX-License-Identifier: Apache-2.0

#include "dirty/pagemap_tracker.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/words.hpp"

namespace tidemark::dirty {

namespace {

constexpr std::size_t regions_at_once = 2048;
/// What one call protects or scans: it holds the lock that mmap and munmap need.
constexpr std::uint64_t piece_bytes = std::uint64_t{1} << 30;

class linux_calls final : public memory_calls {
 public:
  int userfaultfd(int flags) noexcept override {
    const auto fd = ::syscall(SYS_userfaultfd, flags);
    return fd < 0 ? -errno : static_cast<int>(fd);
  }
  // MS_ASYNC does nothing but look whether the range has holes, without walking its pages.
  bool mapped(std::byte* host, std::uint64_t bytes) noexcept override { return ::msync(host, bytes, MS_ASYNC) == 0; }
};

std::uint64_t address_of(const std::byte* host) noexcept { return reinterpret_cast<std::uintptr_t>(host); }

std::string words(const seen_memory& memory) {
  return "memory " + core::words({address_of(memory.host), memory.bytes}) + " of RAM block " + std::to_string(memory.block);
}

error start_failed(int errno_value, std::string detail) {
  return kernel_error(operation::start_dirty_tracking, errno_value, {}, std::move(detail));
}

error no_userfaultfd(int errno_value) {
  if (errno_value == ENOSYS)
    return start_failed(errno_value,
                        "userfaultfd(2): the kernel is built without CONFIG_USERFAULTFD, or a sandbox hides it");
  return start_failed(errno_value,
                      "userfaultfd(2): allow it in the sandbox (seccomp) that this process runs in, or let it open "
                      "/dev/userfaultfd");
}

error no_feature(int errno_value) {
  utsname system{};
  ::uname(&system);
  return start_failed(errno_value, std::string("UFFDIO_API: asynchronous write-protection (UFFD_FEATURE_WP_ASYNC) needs "
                                               "Linux 6.7, and this is ") +
                                       system.release + ": take another source of what CPUs dirty");
}

error no_pagemap(int errno_value) {
  return start_failed(errno_value,
                      errno_value == EACCES
                          ? "/proc/self/pagemap: a process that changed its user or its capabilities may open it after "
                            "prctl(PR_SET_DUMPABLE, 1)"
                          : "/proc/self/pagemap: is /proc mounted?");
}

std::string why_not_registered(int errno_value) {
  if (errno_value == EBUSY) return ": another userfaultfd has it";
  if (errno_value == EPERM) return ": it is shared and cannot be made writable";
  return {};
}

}  // namespace

memory_calls& system_calls() noexcept {
  static linux_calls calls;
  return calls;
}

pagemap_tracker::pagemap_tracker(std::vector<seen_memory> memory, kernel::files& kernel, memory_calls& calls)
    : memory_(std::move(memory)), kernel_(kernel), calls_(calls), regions_(regions_at_once) {
  std::erase_if(memory_, [](const auto& one) { return one.bytes == 0; });
  std::sort(memory_.begin(), memory_.end(), [](const auto& a, const auto& b) { return a.host < b.host; });
}

result<void> pagemap_tracker::start() {
  stop();
  auto begun = open_files();
  for (std::size_t i = 0; begun && i < memory_.size(); ++i) {
    // The second scan of a page would find it clean, and its block would never hear of it.
    if (i > 0 && memory_[i - 1].host + memory_[i - 1].bytes > memory_[i].host)
      begun = start_failed(EINVAL, words(memory_[i]) + " overlaps " + words(memory_[i - 1]));
    else
      begun = begin(memory_[i]);
  }
  if (!begun) stop();
  return begun;
}

result<void> pagemap_tracker::open_files() {
  auto opened = open_userfaultfd();
  if (!opened) return opened.error();
  uffdio_api api{};
  api.api = UFFD_API;
  api.features =
      linux_newer::uffd_feature_wp_async | linux_newer::uffd_feature_wp_unpopulated | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  if (const int answer = kernel_.ioctl(opened->get(), UFFDIO_API, &api); answer < 0) return no_feature(-answer);
  const int pagemap = kernel_.open("/proc/self/pagemap", O_RDONLY);
  if (pagemap < 0) return no_pagemap(-pagemap);
  userfaultfd_ = std::move(*opened);
  pagemap_ = kernel::handle(kernel_, pagemap);
  return {};
}

result<kernel::handle> pagemap_tracker::open_userfaultfd() {
  // USER_MODE_ONLY needs no privilege. What it forbids, to hold up the kernel at a fault, we never do: it lets each write
  // through by itself.
  constexpr int flags = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;
  int fd = calls_.userfaultfd(flags);
  if (fd >= 0) return kernel::handle(kernel_, fd);
  const auto refused = no_userfaultfd(-fd);
  const int device = kernel_.open("/dev/userfaultfd", O_RDWR);
  if (device < 0) return refused;
  const kernel::handle maker(kernel_, device);
  fd = kernel_.ioctl(device, USERFAULTFD_IOC_NEW, static_cast<std::uintptr_t>(flags));
  if (fd < 0) return refused;
  return kernel::handle(kernel_, fd);
}

result<void> pagemap_tracker::begin(const seen_memory& memory) {
  if (auto mapped = check_mapped(memory, operation::start_dirty_tracking); !mapped) return mapped;
  if (auto registered = register_memory(memory); !registered) return registered;
  ++registered_;
  return protect(memory);
}

result<void> pagemap_tracker::check_mapped(const seen_memory& memory, operation what) {
  if (calls_.mapped(memory.host, memory.bytes)) return {};
  return kernel_error(what, ENOMEM, {}, words(memory) + " is not mapped, or not all of it, or its ends are no whole pages");
}

result<void> pagemap_tracker::register_memory(const seen_memory& memory) {
  uffdio_register request{};
  request.range = {address_of(memory.host), memory.bytes};
  request.mode = UFFDIO_REGISTER_MODE_WP;
  const int answer = kernel_.ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &request);
  if (answer == 0) return {};
  return start_failed(-answer, "UFFDIO_REGISTER of " + words(memory) + why_not_registered(-answer));
}

result<void> pagemap_tracker::protect(const seen_memory& memory) {
  for (std::uint64_t first = 0; first < memory.bytes; first += piece_bytes) {
    uffdio_writeprotect request{};
    request.range = {address_of(memory.host) + first, std::min(piece_bytes, memory.bytes - first)};
    request.mode = UFFDIO_WRITEPROTECT_MODE_WP;
    const int answer = kernel_.ioctl(userfaultfd_.get(), UFFDIO_WRITEPROTECT, &request);
    if (answer < 0) return start_failed(-answer, "UFFDIO_WRITEPROTECT of " + words(memory));
  }
  return {};
}

result<void> pagemap_tracker::harvest(page_sink& to) {
  if (!pagemap_) return make_error(operation::query_cpu_dirty, errc::closed, {}, "start() comes first");
  for (const auto& memory : memory_) {
    // A hole is not the scan's business, which passes over it; memory mapped anew it refuses.
    if (auto mapped = check_mapped(memory, operation::query_cpu_dirty); !mapped) return mapped;
    if (auto scanned = scan(memory, to); !scanned) return scanned;
  }
  return {};
}

result<void> pagemap_tracker::scan(const seen_memory& memory, page_sink& to) {
  const auto begin = address_of(memory.host);
  for (std::uint64_t first = 0; first < memory.bytes; first += piece_bytes) {
    const auto end = std::min(first + piece_bytes, memory.bytes);
    if (auto scanned = scan(memory, begin + first, begin + end, to); !scanned) return scanned;
  }
  return {};
}

result<void> pagemap_tracker::scan(const seen_memory& memory, std::uint64_t from, std::uint64_t end, page_sink& to) {
  while (from < end) {
    linux_newer::pm_scan_arg request{};
    request.size = sizeof request;
    request.flags = linux_newer::pm_scan_wp_matching | linux_newer::pm_scan_check_wpasync;
    request.start = from;
    request.end = end;
    request.vec = reinterpret_cast<std::uintptr_t>(regions_.data());
    request.vec_len = regions_.size();
    request.category_mask = linux_newer::page_is_written;
    request.return_mask = linux_newer::page_is_written;
    const int answer = kernel_.ioctl(pagemap_.get(), linux_newer::pagemap_scan, &request);
    // No progress would be a kernel's bug: an error rather than a loop without end.
    if (answer < 0 || request.walk_end <= from)
      return kernel_error(operation::query_cpu_dirty, answer < 0 ? -answer : EIO, {},
                          "PAGEMAP_SCAN of " + words(memory) + (answer == -EPERM ? ": a part of it was mapped anew" : ""));
    for (const auto& region : std::span(regions_).first(static_cast<std::size_t>(answer)))
      to.mark({memory.block, memory.first_page + (region.start - address_of(memory.host)) / page_bytes,
               (region.end - region.start) / page_bytes});
    from = request.walk_end;
  }
  return {};
}

void pagemap_tracker::stop() noexcept {
  // Closing would do, if no child of a fork() kept the descriptor.
  for (; registered_ > 0; --registered_) {
    const auto& memory = memory_[registered_ - 1];
    uffdio_range range{address_of(memory.host), memory.bytes};
    (void)kernel_.ioctl(userfaultfd_.get(), UFFDIO_UNREGISTER, &range);
  }
  userfaultfd_.reset();
  pagemap_.reset();
}

}  // namespace tidemark::dirty
