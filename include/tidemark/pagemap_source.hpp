// SPDX-License-Identifier: Apache-2.0
//
// What was written to memory of this process through its own mappings, as the kernel saw it: for programs that are no VMM,
// and for VMMs whose hypervisor keeps no log. Linux 6.7 or later.
//
// It rests on a userfaultfd with UFFD_FEATURE_WP_ASYNC: memory is write-protected, and the first write to a page is let
// through by the kernel at once and noted in the page table; ioctl PAGEMAP_SCAN on /proc/self/pagemap reads the notes and
// protects those pages again, each in one step. Needs no privilege (the userfaultfd is one of UFFD_USER_MODE_ONLY, yet
// writes by system calls such as read(2) count, too). It needs to be allowed: a seccomp filter as container engines set it
// may refuse userfaultfd(2), and then /dev/userfaultfd is tried.
//
// What counts as a write (seen on Linux 6.18)
//  - Threads of this process, and system calls that write for them: a page of page_bytes each, exactly. A transparent huge
//    page stays whole while it is clean; the first write splits it, and only the small page is told.
//  - Memory that was never touched is tracked, too: reading it is no write. For that its page tables are made, 2 MiB a GiB.
//  - Pages given back (MADV_DONTNEED) read as zeros without a write; they may be told or not. A RAM block's pages are given
//    back by the address space's events (async_discard), which the stream knows of.
// What does not
//  - DMA of devices into pinned pages: it passes by page tables. That is what device and container tracking are for.
//  - Writes to shared memory through another mapping, of this process or of another (a vhost-user backend), or by write(2)
//    to its file.
//  - Memory of a child made by fork().
// For the guest of a KVM VM the log or the ring is the better source: each scan makes KVM forget its mappings of the whole
// range that is scanned, and the guest faults them in again.
//
// Any memory that is mapped and writable will do: anonymous, memfd, a file's. Nobody else has it registered with a
// userfaultfd (EBUSY). Huge pages of hugetlbfs are told whole, as the kernel's documentation says; it was not tried.
//
// Threading: as cpu_dirty_source says. The first write to a page after each harvest takes a fault, about 1 µs, in the thread
// that writes, and waits for nobody. mmap and munmap of other threads wait while up to 1 GiB is scanned, about 0.5 ms.
//
// Life: the memory stays mapped, at its place, from start() to stop(). If it does not, harvest fails, until stop(); moved
// memory (address_space::async_move_blocks) wants another source. No two ranges overlap.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/dirty_source.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace tidemark {

namespace dirty {
class pagemap_tracker;
}

/// Where this process sees pages of a RAM block. `host` and `bytes` are multiples of the machine's page.
struct seen_memory {
  std::byte* host = nullptr;
  std::uint64_t bytes = 0;
  block_index block = 0;
  std::uint64_t first_page = 0;
};

class pagemap_source final : public cpu_dirty_source {
 public:
  /// All of each block.
  explicit pagemap_source(const std::vector<ram_block>& blocks);
  explicit pagemap_source(std::vector<seen_memory> memory);
  /// stop(), if it was not called.
  ~pagemap_source() override;

  std::string_view name() const noexcept override { return "pagemap"; }
  /// An error says what is missing (the kernel, a permission, a mapping) and what would mend it, and leaves nothing behind.
  result<void> start() override;
  /// An error, too, when memory is no longer as start() found it: unmapped, or mapped anew.
  result<void> harvest(page_sink& to) override;
  void stop() noexcept override;

 private:
  std::unique_ptr<dirty::pagemap_tracker> tracker_;
};

}  // namespace tidemark
