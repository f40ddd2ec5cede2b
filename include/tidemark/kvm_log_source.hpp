// SPDX-License-Identifier: Apache-2.0
//
// What the CPUs of a KVM VM dirtied, from the log that KVM keeps for each memory slot: KVM_GET_DIRTY_LOG, and
// KVM_CLEAR_DIRTY_LOG where the VM has KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 enabled. For VMs without dirty rings; with them the
// log is ENXIO, and kvm_ring_source is the source.
//
//   tidemark::kvm_log_source cpus(tidemark::kernel::host_kernel(), vm_fd, {.manual_protect = true});
//   cpus.add_slot({.id = 0, .block = 0, .first_page = 0, .pages = ram_pages, .memory = {{gpa, host}}});
//   tidemark::dirty_stream stream(space, {&cpus});
//
// Invariants
//  1. A page that a vCPU writes after start() is told by some harvest, or a harvest says that it failed.
//  2. Pages are told when KVM logs writes to them again, never before: a page written while it is sent comes again.
//
// Threading: any function from any thread; they take turns, and one may wait for another's ioctls. The page_sink is called
// meanwhile, and calls nothing here. Blocking: as the ioctls, which hold KVM's slots_lock; with manual_protect its MMU lock,
// for which vCPUs that fault wait, is held for `clear_pages` at a time, else for a whole slot.
// Life: the kernel and the VM's descriptor, which stays the caller's, outlive this.

#pragma once

#include <tidemark/dirty_source.hpp>
#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>
#include <tidemark/kvm_slot.hpp>

#include <cstdint>
#include <memory>
#include <string_view>

namespace tidemark {

struct kvm_log_options {
  /// The VM has KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 enabled, with or without KVM_DIRTY_LOG_INITIALLY_SET: KVM protects pages
  /// when they are cleared, not when the log is read. False when it has: no page is ever told to be clean again. True when
  /// it has not: harmless, and a system call more.
  bool manual_protect = false;
  /// Pages that one KVM_CLEAR_DIRTY_LOG covers at most; taken down to a multiple of 64, up to 64. 1 GiB, as QEMU does.
  std::uint32_t clear_pages = 262144;
};

class kvm_log_source final : public cpu_dirty_source {
  class state;

 public:
  kvm_log_source(kernel::files& kernel, int vm, kvm_log_options options = {});
  /// stop(), if it was not called: slots that carry their `memory` still have it.
  ~kvm_log_source() override;

  /// A slot that is there, after KVM_SET_USER_MEMORY_REGION made it. While tracking: one that carries its `memory` has its
  /// log switched on, and all its pages are told once, since nobody knows what was written before; of one that does not, the
  /// log is on since it was made. EEXIST: its id is known.
  result<void> add_slot(const kvm_slot& slot);

  /// Before KVM_SET_USER_MEMORY_REGION deletes, moves or resizes the slot, by which KVM forgets its log. What the log still
  /// has is told at the next harvest. What vCPUs write between this and the deletion is in no log that anybody can read, so
  /// they are paused meanwhile, or have been told to keep away. ENOENT: there is no such slot. Another error: the log could
  /// not be read; the slot is gone here, and all its pages are told, so nothing is lost either.
  result<void> remove_slot(std::uint32_t id);

  std::string_view name() const noexcept override { return "kvm dirty log"; }
  /// An error leaves every log as it was.
  result<void> start() override;
  result<void> harvest(page_sink& to) override;
  void stop() noexcept override;

 private:
  std::unique_ptr<state> state_;
};

}  // namespace tidemark
