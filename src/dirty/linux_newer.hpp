// SPDX-License-Identifier: Apache-2.0
//
// What Linux has and the headers we build with (6.1) do not: userfaultfd's asynchronous write-protection and PAGEMAP_SCAN,
// both of 6.7. As <linux/userfaultfd.h> and <linux/fs.h> have them, under names that newer headers do not take.

#pragma once

#include <sys/ioctl.h>

#include <cstdint>

namespace tidemark::dirty::linux_newer {

inline constexpr std::uint64_t uffd_feature_wp_unpopulated = 1U << 13;
inline constexpr std::uint64_t uffd_feature_wp_async = 1U << 15;

inline constexpr std::uint64_t page_is_written = 1U << 1;
inline constexpr std::uint64_t pm_scan_wp_matching = 1U << 0;
inline constexpr std::uint64_t pm_scan_check_wpasync = 1U << 1;

struct page_region {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t categories;
};

struct pm_scan_arg {
  std::uint64_t size;
  std::uint64_t flags;
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t walk_end;
  std::uint64_t vec;
  std::uint64_t vec_len;
  std::uint64_t max_pages;
  std::uint64_t category_inverted;
  std::uint64_t category_mask;
  std::uint64_t category_anyof_mask;
  std::uint64_t return_mask;
};

inline constexpr unsigned long pagemap_scan = _IOWR('f', 16, pm_scan_arg);

}  // namespace tidemark::dirty::linux_newer
