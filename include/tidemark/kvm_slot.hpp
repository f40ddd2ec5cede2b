// SPDX-License-Identifier: Apache-2.0
//
// A memory slot of a KVM VM, as the sources kvm_dirty_log and kvm_dirty_ring are told of it. Threading: values.

#pragma once

#include <tidemark/page_run.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace tidemark {

/// What KVM_SET_USER_MEMORY_REGION made the slot with, for a source that is to switch its log on and off.
struct kvm_slot_memory {
  std::uint64_t guest_address = 0;  ///< guest physical, bytes
  std::byte* host = nullptr;        ///< where this process sees the slot's first page
  std::uint32_t flags = 0;          ///< KVM_MEM_READONLY and the like; KVM_MEM_LOG_DIRTY_PAGES is the source's
};

/// Pages [first_page, first_page + pages) of a RAM block, as guest memory. `pages` is exactly the slot's size: KVM writes a
/// bit for each page that the slot has, however many we think there are.
///
/// Who switches the log (KVM_MEM_LOG_DIRTY_PAGES) is chosen slot by slot. VMMs whose memory listener owns the flags of its
/// slots (QEMU), or that log from the VM's first day (Firecracker, for snapshots), leave `memory` out: a source that set
/// flags behind their back would be undone by the next update of the slot. Those that only keep the list of their slots
/// (Cloud Hypervisor, crosvm) give `memory`, and nothing is logged, and no write is slowed down, but between start() and
/// stop(). Slots made by KVM_SET_USER_MEMORY_REGION2 with a guest_memfd cannot be logged at all.
struct kvm_slot {
  std::uint32_t id = 0;  ///< as KVM counts them: the address space in the upper 16 bits
  block_index block = 0;
  std::uint64_t first_page = 0;
  std::uint64_t pages = 0;
  std::optional<kvm_slot_memory> memory{};  ///< nothing: the log is on before start(), or add_slot() while tracking
};

}  // namespace tidemark
