// SPDX-License-Identifier: Apache-2.0
//
// A memory slot of a KVM VM, as the sources kvm_log_source and kvm_ring_source are told of it. Threading: values.

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
/// Who switches the log (KVM_MEM_LOG_DIRTY_PAGES) is chosen slot by slot. A VMM whose own code decides over the flags of its
/// slots leaves `memory` out: QEMU, whose memory listener would undo at its next update what a source set behind its back;
/// crosvm and Firecracker, which say when they make a slot whether it is logged. One that keeps a list of slots, and logs
/// them only while it migrates, as Cloud Hypervisor does, gives `memory`: then nothing is logged, and no write slowed down,
/// but between start() and stop(). Slots that KVM_SET_USER_MEMORY_REGION2 made with a guest_memfd are not for these sources.
struct kvm_slot {
  std::uint32_t id = 0;  ///< as KVM counts them: the address space in the upper 16 bits
  block_index block = 0;
  std::uint64_t first_page = 0;
  std::uint64_t pages = 0;
  std::optional<kvm_slot_memory> memory{};  ///< nothing: the log is on before start(), or add_slot() while tracking
};

}  // namespace tidemark
