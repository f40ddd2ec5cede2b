// SPDX-License-Identifier: Apache-2.0
//
// The part of KVM that logs what a vCPU writes, by the book of Linux 6.1: a page is logged by the fault that makes it
// writable, and not again until reading, clearing or resetting its log took that back.

#include <linux/kvm.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>

#include "dirty/kvm_machine.hpp"

namespace tidemark::tests {

namespace {

class modelled_machine final : public kvm_machine, public kernel::files {
 public:
  explicit modelled_machine(logging how) : kvm_machine(reinterpret_cast<std::byte*>(0x7000'0000'0000)), how_(how) {
    for (const auto& one : slots()) make(one);
  }

  kernel::files& kernel() override { return *this; }
  int vm() override { return vm_descriptor; }
  std::span<kvm_dirty_gfn> ring() override { return how_ == logging::ring ? std::span(ring_) : std::span<kvm_dirty_gfn>(); }

  void program(const std::vector<std::uint64_t>& pages_to_write) override {
    to_write_.assign(pages_to_write.rbegin(), pages_to_write.rend());
  }

  ended run() override {
    for (; !to_write_.empty(); to_write_.pop_back()) {
      const std::lock_guard lock(mutex_);
      // KVM looks before each entry into the guest; it keeps 64 entries in reserve.
      if (how_ == logging::ring && pushed_ - reset_ >= ring_entries - 64) return ended::ring_full;
      fault(to_write_.back());
    }
    return ended::halted;
  }

  using files::ioctl;
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    const std::lock_guard lock(mutex_);
    if (fd != vm_descriptor) return -EBADF;
    switch (request) {
      case KVM_SET_USER_MEMORY_REGION:
        return set_region(*reinterpret_cast<const kvm_userspace_memory_region*>(argument));
      case KVM_GET_DIRTY_LOG:
        return get(*reinterpret_cast<const kvm_dirty_log*>(argument));
      case KVM_CLEAR_DIRTY_LOG:
        return clear(*reinterpret_cast<const kvm_clear_dirty_log*>(argument));
      case KVM_RESET_DIRTY_RINGS:
        return how_ == logging::ring ? reset() : -EINVAL;
      default:
        return -ENOTTY;
    }
  }
  int open(const char*, int) noexcept override { return -ENOENT; }
  int close(int) noexcept override { return -EBADF; }
  ssize_t read(int, void*, std::size_t) noexcept override { return -EBADF; }
  ssize_t write(int, const void*, std::size_t) noexcept override { return -EBADF; }
  ssize_t pread(int, void*, std::size_t, std::uint64_t) noexcept override { return -EBADF; }
  ssize_t pwrite(int, const void*, std::size_t, std::uint64_t) noexcept override { return -EBADF; }
  ssize_t readlink(const char*, char*, std::size_t) noexcept override { return -ENOENT; }
  using kvm_machine::write;

 private:
  static constexpr int vm_descriptor = 3;

  struct slot_of_kvm {
    kvm_userspace_memory_region region;
    std::vector<bool> dirty;
    std::vector<bool> writable;

    std::uint64_t pages() const { return region.memory_size / page_bytes; }
    bool logged() const { return (region.flags & KVM_MEM_LOG_DIRTY_PAGES) != 0; }
  };

  void make(const kvm_slot& of) {
    kvm_userspace_memory_region region{of.id, of.memory->flags, of.memory->guest_address, of.pages * page_bytes,
                                       reinterpret_cast<std::uintptr_t>(of.memory->host)};
    set_region(region);
  }

  int set_region(const kvm_userspace_memory_region& asked) {
    const auto count = asked.memory_size / page_bytes;
    const auto known = slots_.find(asked.slot);
    if (count == 0) return slots_.erase(asked.slot) == 1 ? 0 : -EINVAL;
    if (known == slots_.end()) {
      auto& made = slots_[asked.slot] = {asked, std::vector<bool>(count), std::vector<bool>(count)};
      if (made.logged()) begin_log(made);
      return 0;
    }
    auto& slot = known->second;
    if (asked.memory_size != slot.region.memory_size || asked.userspace_addr != slot.region.userspace_addr ||
        ((asked.flags ^ slot.region.flags) & KVM_MEM_READONLY) != 0)
      return -EINVAL;
    const bool was = slot.logged();
    slot.region = asked;
    if (!was && slot.logged()) begin_log(slot);
    return 0;
  }

  void begin_log(slot_of_kvm& slot) const {
    const bool initially_set = how_ == logging::manual_initially_set;
    slot.dirty.assign(slot.pages(), initially_set);
    // Initially set, nothing is protected before it is cleared.
    if (!initially_set) slot.writable.assign(slot.pages(), false);
  }

  slot_of_kvm* logged(std::uint32_t id) {
    const auto at = slots_.find(id);
    return at == slots_.end() || !at->second.logged() ? nullptr : &at->second;
  }

  int get(const kvm_dirty_log& asked) {
    if (how_ == logging::ring) return -ENXIO;
    auto* slot = logged(asked.slot);
    if (slot == nullptr) return -ENOENT;
    auto* words = static_cast<std::uint64_t*>(asked.dirty_bitmap);
    std::fill_n(words, (slot->pages() + 63) / 64, 0);
    for (std::uint64_t page = 0; page < slot->pages(); ++page) {
      if (!slot->dirty[page]) continue;
      words[page / 64] |= std::uint64_t{1} << (page % 64);
      if (how_ == logging::plain) slot->dirty[page] = slot->writable[page] = false;
    }
    return 0;
  }

  int clear(const kvm_clear_dirty_log& asked) {
    auto* slot = logged(asked.slot);
    if (how_ == logging::ring) return -ENXIO;
    if (asked.first_page % 64 != 0) return -EINVAL;
    if (slot == nullptr) return -ENOENT;
    const auto count = slot->pages();
    if (asked.first_page > count || asked.num_pages > count - asked.first_page ||
        (asked.num_pages < count - asked.first_page && asked.num_pages % 64 != 0))
      return -EINVAL;
    const auto* words = static_cast<const std::uint64_t*>(asked.dirty_bitmap);
    for (std::uint64_t i = 0; i < asked.num_pages; ++i)
      if ((words[i / 64] >> (i % 64)) & 1 && slot->dirty[asked.first_page + i])
        slot->dirty[asked.first_page + i] = slot->writable[asked.first_page + i] = false;
    return 0;
  }

  int reset() {
    int count = 0;
    for (;; ++count, ++reset_) {
      auto& entry = ring_[reset_ % ring_entries];
      const std::atomic_ref flags(entry.flags);
      if ((flags.load(std::memory_order_acquire) & KVM_DIRTY_GFN_F_RESET) == 0) return count;
      if (auto* slot = logged(entry.slot); slot != nullptr && entry.offset < slot->pages())
        slot->writable[entry.offset] = false;
      flags.store(0, std::memory_order_release);
    }
  }

  void fault(std::uint64_t guest_page) {
    for (auto& [id, slot] : slots_) {
      const auto first = slot.region.guest_phys_addr / page_bytes;
      if (guest_page < first || guest_page >= first + slot.pages()) continue;
      const auto page = guest_page - first;
      if (slot.writable[page]) return;
      slot.writable[page] = true;
      if (!slot.logged()) return;
      if (how_ != logging::ring) slot.dirty[page] = true;
      if (how_ == logging::ring) push(id, page);
    }
  }

  void push(std::uint32_t id, std::uint64_t page) {
    auto& entry = ring_[pushed_++ % ring_entries];
    entry.slot = id;
    entry.offset = page;
    std::atomic_ref(entry.flags).store(KVM_DIRTY_GFN_F_DIRTY, std::memory_order_release);
  }

  const logging how_;
  std::mutex mutex_;
  std::map<std::uint32_t, slot_of_kvm> slots_;
  std::array<kvm_dirty_gfn, ring_entries> ring_{};
  std::uint64_t pushed_ = 0;
  std::uint64_t reset_ = 0;
  std::vector<std::uint64_t> to_write_;  // the next last
};

}  // namespace

std::unique_ptr<kvm_machine> make_modelled_machine(logging how) { return std::make_unique<modelled_machine>(how); }

}  // namespace tidemark::tests
