// SPDX-License-Identifier: Apache-2.0

#include <linux/kvm.h>
#include <tidemark/kvm_log_source.hpp>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/bitmap.hpp"
#include "dirty/kvm_slots.hpp"

namespace tidemark {

namespace {

std::uint32_t whole_words(std::uint32_t pages) {
  constexpr auto word = static_cast<std::uint32_t>(core::bits_per_word);
  return std::max(pages / word * word, word);
}

error get_failed(std::uint32_t id, int errno_value) {
  auto detail = "KVM_GET_DIRTY_LOG of " + dirty::slot_words(id);
  if (errno_value == ENOENT) detail += ": KVM has no such slot, or its log is off (KVM_MEM_LOG_DIRTY_PAGES)";
  if (errno_value == ENXIO) detail += ": the VM has dirty rings, which kvm_ring_source reads";
  return kernel_error(operation::query_cpu_dirty, errno_value, {}, std::move(detail));
}

}  // namespace

class kvm_log_source::state {
 public:
  state(kernel::files& kernel, int vm, kvm_log_options options)
      : kernel_(kernel),
        vm_(vm),
        manual_(options.manual_protect),
        piece_(whole_words(options.clear_pages)),
        slots_(kernel, vm) {}

  result<void> add(const kvm_slot& slot) {
    const std::lock_guard lock(mutex_);
    const auto added = slots_.add(slot, tracking_);
    if (!added) return added.error();
    if (!tracking_ || slot.memory) return {};
    // Shows now, and not when the harvest fails, that the log is off.
    auto kept = take(slot);
    if (!kept.outcome) slots_.take_back(slot.id);
    if (kept.outcome) (*added)->merge(kept.bits);
    return kept.outcome;
  }

  result<void> remove(std::uint32_t id) {
    const std::lock_guard lock(mutex_);
    const auto found = slots_.find_to_remove(id);
    if (!found) return found.error();
    auto outcome = tracking_ ? keep(**found) : result<void>{};
    slots_.remove(id, tracking_);
    return outcome;
  }

  result<void> start() {
    const std::lock_guard lock(mutex_);
    if (auto on = slots_.start_logging(); !on) return on;
    slots_.forget();
    for (auto& [id, pages] : slots_.all()) {
      // What was logged before is forgotten. Where KVM_DIRTY_LOG_INITIALLY_SET says that all is dirty, that is every page,
      // and clearing is what makes KVM log them.
      auto got = take(pages.slot());
      if (got.outcome) continue;
      slots_.stop_logging();
      return got.outcome;
    }
    tracking_ = true;
    return {};
  }

  result<void> harvest(page_sink& to) {
    const std::lock_guard lock(mutex_);
    slots_.tell(to);
    for (auto& [id, pages] : slots_.all()) {
      const auto& slot = pages.slot();
      auto got = take(slot);
      if (!got.bits.empty()) to.merge(slot.block, slot.first_page, slot.pages, got.bits);
      if (!got.outcome) return got.outcome;
    }
    return {};
  }

  void stop() noexcept {
    const std::lock_guard lock(mutex_);
    if (!tracking_) return;
    slots_.stop_logging();
    slots_.forget();
    tracking_ = false;
  }

 private:
  /// What the log had, in the buffer: also when it could not be cleared. Empty when it could not be read.
  struct taken {
    std::span<const std::uint64_t> bits;
    result<void> outcome;
  };

  /// Clearing comes before telling. A page written before it was cleared is one of those read, and its bytes are there when
  /// it is told; or it was not read, and its bit stays, since only what was read is cleared. A page written after is logged
  /// again. Told first, a page could be sent, then written, then cleared.
  taken take(const kvm_slot& slot) {
    if (auto got = get(slot); !got) return {{}, std::move(got)};
    return {bits_of(slot.pages), manual_ ? clear(slot) : result<void>{}};
  }

  result<void> keep(dirty::slot_pages& pages) {
    auto kept = take(pages.slot());
    if (kept.outcome) pages.merge(kept.bits);
    if (!kept.outcome) pages.mark_all();
    return kept.outcome;
  }

  result<void> get(const kvm_slot& slot) {
    buffer_.resize(std::max(buffer_.size(), core::words_for(slot.pages)));
    kvm_dirty_log request{};
    request.slot = slot.id;
    request.dirty_bitmap = buffer_.data();
    const int answer = kernel_.ioctl(vm_, KVM_GET_DIRTY_LOG, &request);
    if (answer < 0) return get_failed(slot.id, -answer);
    return {};
  }

  result<void> clear(const kvm_slot& slot) {
    for (std::uint64_t first = 0; first < slot.pages; first += piece_)
      if (auto cleared = clear(slot, first, std::min<std::uint64_t>(piece_, slot.pages - first)); !cleared) return cleared;
    return {};
  }

  result<void> clear(const kvm_slot& slot, std::uint64_t first, std::uint64_t pages) {
    const auto bits = bits_of(slot.pages).subspan(first / core::bits_per_word, core::words_for(pages));
    if (std::all_of(bits.begin(), bits.end(), [](auto word) { return word == 0; })) return {};
    kvm_clear_dirty_log request{};
    request.slot = slot.id;
    request.first_page = first;
    request.num_pages = static_cast<std::uint32_t>(pages);
    request.dirty_bitmap = bits.data();
    const int answer = kernel_.ioctl(vm_, KVM_CLEAR_DIRTY_LOG, &request);
    if (answer == 0) return {};
    return kernel_error(operation::query_cpu_dirty, -answer, {},
                        "KVM_CLEAR_DIRTY_LOG of " + dirty::slot_words(slot.id) + ", " + std::to_string(pages) +
                            " pages from page " + std::to_string(first));
  }

  std::span<std::uint64_t> bits_of(std::uint64_t pages) noexcept { return std::span(buffer_).first(core::words_for(pages)); }

  kernel::files& kernel_;
  const int vm_;
  const bool manual_;
  const std::uint32_t piece_;
  std::mutex mutex_;
  dirty::kvm_slots slots_;
  bool tracking_ = false;
  std::vector<std::uint64_t> buffer_;  // of the largest slot seen
};

kvm_log_source::kvm_log_source(kernel::files& kernel, int vm, kvm_log_options options)
    : state_(std::make_unique<state>(kernel, vm, options)) {}
kvm_log_source::~kvm_log_source() { stop(); }

result<void> kvm_log_source::add_slot(const kvm_slot& slot) { return state_->add(slot); }
result<void> kvm_log_source::remove_slot(std::uint32_t id) { return state_->remove(id); }
result<void> kvm_log_source::start() { return state_->start(); }
result<void> kvm_log_source::harvest(page_sink& to) { return state_->harvest(to); }
void kvm_log_source::stop() noexcept { state_->stop(); }

}  // namespace tidemark
