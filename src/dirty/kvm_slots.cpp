// SPDX-License-Identifier: Apache-2.0

#include "dirty/kvm_slots.hpp"

#include <linux/kvm.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/bitmap.hpp"

namespace tidemark::dirty {

void slot_pages::touch(std::uint64_t first, std::uint64_t end) {
  if (words_.empty()) words_.resize(core::words_for(slot_.pages));
  if (first_touched_ == end_touched_) {
    first_touched_ = first;
    end_touched_ = end;
  }
  first_touched_ = std::min(first_touched_, first);
  end_touched_ = std::max(end_touched_, end);
}

void slot_pages::mark(std::uint64_t page) {
  const auto word = page / core::bits_per_word;
  touch(word, word + 1);
  words_[word] |= std::uint64_t{1} << (page % core::bits_per_word);
}

void slot_pages::mark_all() {
  touch(0, core::words_for(slot_.pages));
  std::fill(words_.begin(), words_.end(), ~std::uint64_t{0});
}

void slot_pages::merge(std::span<const std::uint64_t> bits) {
  touch(0, core::words_for(slot_.pages));
  for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= bits[i];
}

void slot_pages::tell(page_sink& to) {
  if (first_touched_ == end_touched_) return;
  const auto first = first_touched_ * core::bits_per_word;
  const auto end = std::min(end_touched_ * core::bits_per_word, slot_.pages);
  to.merge(slot_.block, slot_.first_page + first, end - first,
           std::span(words_).subspan(first_touched_, end_touched_ - first_touched_));
  forget();
}

void slot_pages::forget() noexcept {
  std::fill(words_.begin() + static_cast<std::ptrdiff_t>(first_touched_),
            words_.begin() + static_cast<std::ptrdiff_t>(end_touched_), 0);
  first_touched_ = end_touched_ = 0;
}

result<slot_pages*> kvm_slots::add(const kvm_slot& slot, bool tracking) {
  if (slots_.contains(slot.id))
    return kernel_error(operation::start_dirty_tracking, EEXIST, {},
                        slot_words(slot.id) + " is known: remove it before it changes, and add it after");
  auto& added = slots_.emplace(slot.id, slot_pages(slot)).first->second;
  if (!tracking || !slot.memory) return &added;
  if (auto on = log(slot, true); !on) {
    slots_.erase(slot.id);
    return on.error();
  }
  added.mark_all();
  return &added;
}

void kvm_slots::take_back(std::uint32_t id) noexcept {
  (void)log(slots_.at(id).slot(), false);
  slots_.erase(id);
}

slot_pages* kvm_slots::find(std::uint32_t id) noexcept {
  const auto at = slots_.find(id);
  return at == slots_.end() ? nullptr : &at->second;
}

result<slot_pages*> kvm_slots::find_to_remove(std::uint32_t id) {
  if (auto* known = find(id)) return known;
  return kernel_error(operation::stop_dirty_tracking, ENOENT, {}, slot_words(id) + " is not known");
}

void kvm_slots::remove(std::uint32_t id, bool tracking) {
  const auto at = slots_.find(id);
  if (tracking) removed_.push_back(std::move(at->second));
  slots_.erase(at);
}

result<void> kvm_slots::log(const kvm_slot& slot, bool on) {
  if (!slot.memory) return {};
  kvm_userspace_memory_region request{};
  request.slot = slot.id;
  request.flags = slot.memory->flags | (on ? KVM_MEM_LOG_DIRTY_PAGES : 0U);
  request.guest_phys_addr = slot.memory->guest_address;
  request.memory_size = slot.pages * page_bytes;
  request.userspace_addr = reinterpret_cast<std::uintptr_t>(slot.memory->host);
  const int answer = kernel_.ioctl(vm_, KVM_SET_USER_MEMORY_REGION, &request);
  if (answer == 0) return {};
  return kernel_error(on ? operation::start_dirty_tracking : operation::stop_dirty_tracking, -answer, {},
                      "KVM_SET_USER_MEMORY_REGION of " + slot_words(slot.id) +
                          " with KVM_MEM_LOG_DIRTY_PAGES: its addresses, size and other flags are those it was made with?");
}

result<void> kvm_slots::start_logging() {
  for (auto at = slots_.begin(); at != slots_.end(); ++at) {
    auto on = log(at->second.slot(), true);
    if (on) continue;
    auto failure = on.error();
    for (auto undo = slots_.begin(); undo != at; ++undo) (void)log(undo->second.slot(), false);
    if (at != slots_.begin()) failure.undone = "the logs switched on before it are off again";
    return failure;
  }
  return {};
}

void kvm_slots::stop_logging() noexcept {
  // A log that stays on costs the guest time and nothing else, and there is nobody to tell.
  for (auto& [id, pages] : slots_) (void)log(pages.slot(), false);
}

void kvm_slots::tell(page_sink& to) {
  for (auto& pages : removed_) pages.tell(to);
  removed_.clear();
  for (auto& [id, pages] : slots_) pages.tell(to);
}

void kvm_slots::forget() noexcept {
  removed_.clear();
  for (auto& [id, pages] : slots_) pages.forget();
}

std::string slot_words(std::uint32_t id) {
  auto words = "slot " + std::to_string(id & 0xffff);
  if (const auto space = id >> 16; space != 0) words += " of address space " + std::to_string(space);
  return words;
}

}  // namespace tidemark::dirty
