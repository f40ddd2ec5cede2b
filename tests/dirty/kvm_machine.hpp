// SPDX-License-Identifier: Apache-2.0
//
// A KVM VM with one vCPU that writes where it is told: a modelled one, here, and one of the real KVM, in the test guest. The
// cases of kvm_dirty_test see no difference.
//
// Guest memory is 256 pages at guest physical address 0. Page 0 is the vCPU's program, in a slot that is not logged; the
// rest are two slots: kvm_machine::slots().
//
// Threading: a vCPU's calls (write, program, run) from one thread at a time; all else from any.

#pragma once

#include <linux/kvm.h>
#include <tidemark/kernel.hpp>
#include <tidemark/kvm_slot.hpp>

#include <cstdint>
#include <memory>
#include <ostream>
#include <span>
#include <stdexcept>
#include <vector>

namespace tidemark::tests {

/// How the VM was set up to log.
enum class logging { plain, manual, manual_initially_set, ring };

inline std::ostream& operator<<(std::ostream& to, logging how) {
  static const char* const names[] = {"plain", "manual", "manual, initially set", "ring"};
  return to << names[static_cast<int>(how)];
}

class kvm_machine {
 public:
  static constexpr std::uint64_t pages = 256;
  static constexpr std::uint32_t ring_entries = 256;  // the least that KVM takes

  virtual ~kvm_machine() = default;

  virtual kernel::files& kernel() = 0;
  virtual int vm() = 0;
  /// The vCPU's ring; none unless logging::ring.
  virtual std::span<kvm_dirty_gfn> ring() = 0;

  /// The next run() writes to these pages of guest memory, in this order, and halts.
  virtual void program(const std::vector<std::uint64_t>& pages) = 0;
  enum class ended { halted, ring_full };
  virtual ended run() = 0;

  void write(const std::vector<std::uint64_t>& these) {
    program(these);
    if (run() != ended::halted) throw std::runtime_error("the ring is full");
  }

  std::byte* memory() const noexcept { return memory_; }

  /// Page p of guest memory is page p - 1 of the slot of id 1, block 0, or page p - 101 + 1000 of block 3, by the slot of id
  /// 2: numbers of pages that are no multiples of 64, and blocks shown from somewhere on.
  std::vector<kvm_slot> slots() const { return {slot(1, 1, 100, 0, 0), slot(2, 101, 155, 3, 1000)}; }

 protected:
  explicit kvm_machine(std::byte* memory) : memory_(memory) {}

  kvm_slot slot(std::uint32_t id, std::uint64_t first, std::uint64_t count, block_index block,
                std::uint64_t first_page) const {
    return {id, block, first_page, count, kvm_slot_memory{first * page_bytes, memory_ + first * page_bytes, 0}};
  }

 private:
  std::byte* const memory_;
};

std::unique_ptr<kvm_machine> make_modelled_machine(logging how);
/// Throws std::runtime_error: where there is no KVM, or it lacks what is asked for.
std::unique_ptr<kvm_machine> make_real_machine(logging how);

}  // namespace tidemark::tests
