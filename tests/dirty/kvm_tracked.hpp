// SPDX-License-Identifier: Apache-2.0
//
// What the cases of kvm_dirty_test share: the machine that was chosen, and the source that suits it.
//
// Threading: as kvm_machine.

#pragma once

#include <linux/kvm.h>
#include <tidemark/kvm_log_source.hpp>
#include <tidemark/kvm_ring_source.hpp>

#include <boost/test/unit_test.hpp>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "dirty/harvested.hpp"
#include "dirty/kvm_machine.hpp"
#include "support/ruled_kernel.hpp"

namespace tidemark::tests {

inline std::unique_ptr<kvm_machine> machine(logging how) {
  const auto& suite = boost::unit_test::framework::master_test_suite();
  const bool real = suite.argc > 1 && std::string(suite.argv[1]) == "--kernel=linux";
  return real ? make_real_machine(how) : make_modelled_machine(how);
}

/// Guest pages as the sources tell them: kvm_machine::slots().
inline pages_of told(const std::vector<std::uint64_t>& guest_pages) {
  pages_of as_told;
  for (const auto page : guest_pages)
    if (page < 101)
      as_told.emplace(0, page - 1);
    else
      as_told.emplace(3, page - 101 + 1000);
  return as_told;
}

inline std::vector<std::uint64_t> pages_from(std::uint64_t first, std::uint64_t count) {
  std::vector<std::uint64_t> pages(count);
  std::iota(pages.begin(), pages.end(), first);
  return pages;
}

inline kvm_slot without_memory(kvm_slot slot) {
  slot.memory.reset();
  return slot;
}

/// The embedder's own hand on a slot.
inline int set_region(kvm_machine& of, const kvm_slot& slot, std::uint32_t flags, std::uint64_t pages) {
  kvm_userspace_memory_region region{slot.id, flags, slot.memory->guest_address, pages * page_bytes,
                                     reinterpret_cast<std::uintptr_t>(slot.memory->host)};
  return of.kernel().ioctl(of.vm(), KVM_SET_USER_MEMORY_REGION, &region);
}

/// What KVM answers to who reads a slot's log: 0, or the negative errno.
inline int log_answer(kvm_machine& of, std::uint32_t id) {
  std::vector<std::uint64_t> bits(kvm_machine::pages / 64);
  kvm_dirty_log request{};
  request.slot = id;
  request.dirty_bitmap = bits.data();
  return of.kernel().ioctl(of.vm(), KVM_GET_DIRTY_LOG, &request);
}

/// A machine, and the source that suits it, over a kernel that can be ruled.
struct tracked {
  explicit tracked(logging how, std::uint32_t clear_pages = 64)
      : guest(machine(how)),
        kernel(guest->kernel()),
        log(kernel, guest->vm(), {.manual_protect = how != logging::plain, .clear_pages = clear_pages}),
        ring(kernel, guest->vm()),
        has_ring(how == logging::ring) {
    if (has_ring) must(ring.add_vcpu(guest->ring()));
  }

  cpu_dirty_source& source() { return has_ring ? static_cast<cpu_dirty_source&>(ring) : log; }
  result<void> add(const kvm_slot& slot) { return has_ring ? ring.add_slot(slot) : log.add_slot(slot); }
  result<void> remove(std::uint32_t id) { return has_ring ? ring.remove_slot(id) : log.remove_slot(id); }
  void start() {
    for (const auto& slot : guest->slots()) must(add(slot));
    must(source().start());
  }

  std::unique_ptr<kvm_machine> guest;
  ruled_kernel kernel;
  kvm_log_source log;
  kvm_ring_source ring;
  bool has_ring;
};

inline const std::vector<logging> every_logging{logging::plain, logging::manual, logging::manual_initially_set,
                                                logging::ring};
inline const std::vector<logging> every_manual{logging::manual, logging::manual_initially_set};
inline const std::vector<logging> every_log{logging::plain, logging::manual, logging::manual_initially_set};

/// Looks around when it is told something.
struct watching final : page_sink {
  std::function<void()> when_told;
  void merge(block_index, std::uint64_t, std::uint64_t, std::span<const std::uint64_t>) override { when_told(); }
  void mark(page_run) override { when_told(); }
};

}  // namespace tidemark::tests
