// SPDX-License-Identifier: Apache-2.0
//
// What a VMM supplies: sources of the pages that its CPUs, or its own threads, dirtied.
//
//   kvm_log_source    a KVM VM's log (KVM_GET_DIRTY_LOG)
//   kvm_ring_source   a KVM VM's rings (KVM_CAP_DIRTY_LOG_RING)
//   pagemap_source   this process's own memory, as the kernel saw it written (PAGEMAP_SCAN, Linux 6.7)
//   dirty_log        what the program says that it wrote
//
// or one of your own. A dirty stream takes any number of them.
//
// Threading: the stream calls one function of a source at a time, on a worker thread and never on an event loop: they may
// block. A page_sink takes calls from any thread.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/page_run.hpp>

#include <cstdint>
#include <span>
#include <string_view>

namespace tidemark {

/// Takes pages that are dirty.
class page_sink {
 public:
  virtual ~page_sink() = default;
  /// Pages of `block` from `first_page` on, a bit each, `pages` of them, the lowest bit of the first word first. Bits
  /// beyond are ignored.
  virtual void merge(block_index block, std::uint64_t first_page, std::uint64_t pages,
                     std::span<const std::uint64_t> bits) = 0;
  /// All of these pages.
  virtual void mark(page_run pages) = 0;
};

class cpu_dirty_source {
 public:
  virtual ~cpu_dirty_source() = default;

  /// What statistics call it: "kvm dirty log".
  virtual std::string_view name() const noexcept = 0;

  /// From its completion on every write is recorded. Called before a stream takes every page as dirty: what was recorded
  /// before may be forgotten.
  virtual result<void> start() { return {}; }

  /// Tells `to` the pages written since the last call, and forgets them. A page is recorded after it was written, so a page
  /// written while it is sent comes again. An error: what could not be told is lost, and the stream takes every page as
  /// dirty.
  virtual result<void> harvest(page_sink& to) = 0;

  /// Nobody asks any more. Harmless when it was not started, or start() failed.
  virtual void stop() noexcept {}
};

}  // namespace tidemark
