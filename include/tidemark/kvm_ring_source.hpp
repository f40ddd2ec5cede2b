// SPDX-License-Identifier: Apache-2.0
//
// What the CPUs of a KVM VM dirtied, from the ring that KVM fills for each vCPU: KVM_CAP_DIRTY_LOG_RING (or
// KVM_CAP_DIRTY_LOG_RING_ACQ_REL), struct kvm_dirty_gfn, KVM_RESET_DIRTY_RINGS. Costs by what was dirtied, not by how much
// memory there is, and a vCPU that dirties faster than anybody harvests is stopped by its full ring.
//
//   tidemark::kvm_ring_source cpus(tidemark::kernel::host_kernel(), vm_fd);
//   cpus.add_slot(...);
//   cpus.add_vcpu({static_cast<kvm_dirty_gfn*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd,
//                                                    KVM_DIRTY_LOG_PAGE_OFFSET * page_size)), entries});
//   ... a vCPU's thread: case KVM_EXIT_DIRTY_RING_FULL: cpus.collect(); continue;
//
// Invariants
//  1. A page that a vCPU writes after start() is told by the first harvest after the vCPU left the guest, or a harvest says
//     that it failed. (Before it leaves, a processor may still have the page in a buffer of its own, as Intel's PML: so the
//     harvest that is to be the last comes when all vCPUs are paused.)
//  2. Pages are told when KVM_RESET_DIRTY_RINGS has made KVM log writes to them again, never before.
//
// Threading: any function from any thread; they take turns. The page_sink is called meanwhile, and calls nothing here.
// Life: the kernel, the VM's descriptor and the rings' mappings outlive this. There is one such object a VM, from before its
// vCPUs run to its end: the rings begin where the last one who took entries left off, which only that one knows.
// Not for machines where KVM dirties pages on behalf of no vCPU (Arm's interrupt controller tables, which have
// KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP for it).

#pragma once

#include <tidemark/dirty_source.hpp>
#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>
#include <tidemark/kvm_slot.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

struct kvm_dirty_gfn;  // <linux/kvm.h>

namespace tidemark {

class kvm_ring_source final : public cpu_dirty_source {
  class state;

 public:
  kvm_ring_source(kernel::files& kernel, int vm);
  /// stop(), if it was not called: slots that carry their `memory` still have it.
  ~kvm_ring_source() override;

  /// A vCPU's ring, of which nobody took an entry yet. EINVAL: its length is no power of two.
  result<void> add_vcpu(std::span<kvm_dirty_gfn> ring);

  /// As kvm_log_source::add_slot and remove_slot; what the rings still have of a removed slot is told at the next harvest.
  /// Entries of it that come later are of an unknown slot.
  result<void> add_slot(const kvm_slot& slot);
  result<void> remove_slot(std::uint32_t id);

  /// Takes what the rings have, and makes room in them. Told at the next harvest. For a vCPU's thread when KVM_RUN ended
  /// with KVM_EXIT_DIRTY_RING_FULL, after which the vCPU may run on; and for whoever wants to be early. Also when not
  /// started: what it takes is forgotten then. An error: the ring may be as full as it was (KVM_RESET_DIRTY_RINGS failed:
  /// its pages are told when it has succeeded); or it had a page of an unknown slot or outside of its slot, and the next
  /// harvest fails with that, too.
  result<void> collect();

  std::string_view name() const noexcept override { return "kvm dirty ring"; }
  /// An error leaves every log as it was.
  result<void> start() override;
  result<void> harvest(page_sink& to) override;
  void stop() noexcept override;

 private:
  std::unique_ptr<state> state_;
};

}  // namespace tidemark
