// SPDX-License-Identifier: Apache-2.0

#include <tidemark/kvm_ring_source.hpp>

#include <linux/kvm.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dirty/kvm_slots.hpp"

namespace tidemark {

class kvm_ring_source::state {
 public:
  state(kernel::files& kernel, int vm) : kernel_(kernel), vm_(vm), slots_(kernel, vm) {}

  result<void> add_vcpu(std::span<kvm_dirty_gfn> entries) {
    if (!std::has_single_bit(entries.size()))
      return kernel_error(operation::start_dirty_tracking, EINVAL, {},
                          "a dirty ring of " + std::to_string(entries.size()) + " entries, which is no power of two");
    const std::lock_guard lock(mutex_);
    rings_.push_back({entries, 0});
    return {};
  }

  result<void> add(const kvm_slot& slot) {
    const std::lock_guard lock(mutex_);
    const auto added = slots_.add(slot, tracking_);
    if (!added) return added.error();
    return {};
  }

  result<void> remove(std::uint32_t id) {
    const std::lock_guard lock(mutex_);
    const auto found = slots_.find_to_remove(id);
    if (!found) return found.error();
    auto collected = collect_all();
    slots_.remove(id, tracking_);
    return collected;
  }

  result<void> collect() {
    const std::lock_guard lock(mutex_);
    auto collected = collect_all();
    if (!tracking_) forget();
    if (!collected || !lost_) return collected;
    return *lost_;
  }

  result<void> start() {
    const std::lock_guard lock(mutex_);
    if (auto on = slots_.start_logging(); !on) return on;
    if (auto collected = collect_all(); !collected) {
      slots_.stop_logging();
      return collected;
    }
    forget();
    tracking_ = true;
    return {};
  }

  result<void> harvest(page_sink& to) {
    const std::lock_guard lock(mutex_);
    if (auto collected = collect_all(); !collected) return collected;
    slots_.tell(to);
    if (!lost_) return {};
    return *std::exchange(lost_, std::nullopt);
  }

  void stop() noexcept {
    const std::lock_guard lock(mutex_);
    if (!tracking_) return;
    slots_.stop_logging();
    forget();
    tracking_ = false;
  }

 private:
  struct ring {
    std::span<kvm_dirty_gfn> entries;
    std::size_t next;  // to be taken
  };

  /// Entries are taken, KVM is made to log their pages again, and then they may be told. When KVM cannot be, they wait: told
  /// now, a page could be sent and then written without an entry. The next reset that succeeds covers them.
  result<void> collect_all() {
    for (auto& from : rings_) take(from);
    const int answer = kernel_.ioctl(vm_, KVM_RESET_DIRTY_RINGS);
    if (answer >= 0) return {};
    auto detail = std::string("KVM_RESET_DIRTY_RINGS");
    if (answer == -EINVAL) detail += ": the VM was made without KVM_CAP_DIRTY_LOG_RING";
    return kernel_error(operation::query_cpu_dirty, -answer, {}, std::move(detail));
  }

  void take(ring& from) {
    for (;; from.next = (from.next + 1) % from.entries.size()) {
      auto& entry = from.entries[from.next];
      const std::atomic_ref flags(entry.flags);
      // Acquire and release as <linux/kvm.h> wants it: slot and offset are there when the flag is, and are read before KVM
      // may use the entry again.
      if ((flags.load(std::memory_order_acquire) & KVM_DIRTY_GFN_F_MASK) != KVM_DIRTY_GFN_F_DIRTY) return;
      const auto slot = entry.slot;
      const auto page = entry.offset;
      flags.store(KVM_DIRTY_GFN_F_RESET, std::memory_order_release);
      note(slot, page);
    }
  }

  void note(std::uint32_t id, std::uint64_t page) {
    auto* known = slots_.find(id);
    if (known != nullptr && page < known->slot().pages)
      known->mark(page);
    else if (!lost_)
      lost_ = kernel_error(operation::query_cpu_dirty, known == nullptr ? ENOENT : ERANGE, {},
                           "a dirty ring has page " + std::to_string(page) + " of " + dirty::slot_words(id) +
                               (known == nullptr ? ", which this source was not told of"
                                                 : ", which has " + std::to_string(known->slot().pages) + " pages"));
  }

  void forget() noexcept {
    slots_.forget();
    lost_.reset();
  }

  kernel::files& kernel_;
  const int vm_;
  std::mutex mutex_;
  dirty::kvm_slots slots_;
  bool tracking_ = false;
  std::vector<ring> rings_;
  std::optional<error> lost_;  // the next harvest's
};

kvm_ring_source::kvm_ring_source(kernel::files& kernel, int vm) : state_(std::make_unique<state>(kernel, vm)) {}
kvm_ring_source::~kvm_ring_source() { stop(); }

result<void> kvm_ring_source::add_vcpu(std::span<kvm_dirty_gfn> entries) { return state_->add_vcpu(entries); }
result<void> kvm_ring_source::add_slot(const kvm_slot& slot) { return state_->add(slot); }
result<void> kvm_ring_source::remove_slot(std::uint32_t id) { return state_->remove(id); }
result<void> kvm_ring_source::collect() { return state_->collect(); }
result<void> kvm_ring_source::start() { return state_->start(); }
result<void> kvm_ring_source::harvest(page_sink& to) { return state_->harvest(to); }
void kvm_ring_source::stop() noexcept { state_->stop(); }

}  // namespace tidemark
