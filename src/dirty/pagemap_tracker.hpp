// SPDX-License-Identifier: Apache-2.0
//
// What pagemap_source does, over system calls that a test may answer.
//
// Threading: one call at a time.

#pragma once

#include <tidemark/dirty_source.hpp>
#include <tidemark/kernel.hpp>
#include <tidemark/pagemap_source.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dirty/linux_newer.hpp"

namespace tidemark::dirty {

/// The calls on this process's own memory that are not on a file.
class memory_calls {
 public:
  virtual ~memory_calls() = default;
  /// userfaultfd(2): a descriptor or a negative errno.
  virtual int userfaultfd(int flags) noexcept = 0;
  /// Whether all of the range is mapped.
  virtual bool mapped(std::byte* host, std::uint64_t bytes) noexcept = 0;
};
memory_calls& system_calls() noexcept;

class pagemap_tracker {
 public:
  pagemap_tracker(std::vector<seen_memory> memory, kernel::files& kernel, memory_calls& calls);
  ~pagemap_tracker() { stop(); }

  result<void> start();
  result<void> harvest(page_sink& to);
  void stop() noexcept;

 private:
  result<void> open_files();
  result<kernel::handle> open_userfaultfd();
  result<void> begin(const seen_memory& memory);
  result<void> register_memory(const seen_memory& memory);
  result<void> protect(const seen_memory& memory);
  result<void> scan(const seen_memory& memory, page_sink& to);
  result<void> scan(const seen_memory& memory, std::uint64_t from, std::uint64_t end, page_sink& to);
  result<void> check_mapped(const seen_memory& memory, operation what);

  std::vector<seen_memory> memory_;  // by address
  kernel::files& kernel_;
  memory_calls& calls_;
  kernel::handle userfaultfd_;
  kernel::handle pagemap_;
  std::size_t registered_ = 0;                     // of memory_, from its front
  std::vector<linux_newer::page_region> regions_;  // what one scan can tell
};

}  // namespace tidemark::dirty
