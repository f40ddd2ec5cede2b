// SPDX-License-Identifier: Apache-2.0
//
// The memory slots that a source of a KVM VM knows, and the pages of each that are to be told at the next harvest whatever
// KVM says then.
//
// Threading: none of its own; the source's mutex.

#pragma once

#include <tidemark/dirty_source.hpp>
#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>
#include <tidemark/kvm_slot.hpp>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace tidemark::dirty {

/// Pages of a slot that wait to be told: a bit each, made when the first one comes.
class slot_pages {
 public:
  explicit slot_pages(const kvm_slot& of) : slot_(of) {}

  const kvm_slot& slot() const noexcept { return slot_; }
  void mark(std::uint64_t page);
  void mark_all();
  /// A bit for each page of the slot.
  void merge(std::span<const std::uint64_t> bits);
  void tell(page_sink& to);
  void forget() noexcept;

 private:
  /// Words [first, end) are about to be changed.
  void touch(std::uint64_t first, std::uint64_t end);

  kvm_slot slot_;
  std::vector<std::uint64_t> words_;
  std::uint64_t first_touched_ = 0;  // words that may be other than 0, so that telling costs by what was dirtied
  std::uint64_t end_touched_ = 0;
};

class kvm_slots {
 public:
  kvm_slots(kernel::files& kernel, int vm) noexcept : kernel_(kernel), vm_(vm) {}

  /// While `tracking`, a slot that carries its memory has its log switched on and all its pages waiting.
  result<slot_pages*> add(const kvm_slot& slot, bool tracking);
  /// As if it had not been added: its log is off again, if that is ours to say.
  void take_back(std::uint32_t id) noexcept;
  slot_pages* find(std::uint32_t id) noexcept;
  result<slot_pages*> find_to_remove(std::uint32_t id);
  /// While tracking its pages still wait.
  void remove(std::uint32_t id, bool tracking);

  std::map<std::uint32_t, slot_pages>& all() noexcept { return slots_; }

  /// Of the slots that carry their memory. All of the logs are on, or an error and none of them.
  result<void> start_logging();
  void stop_logging() noexcept;

  void tell(page_sink& to);
  void forget() noexcept;

 private:
  result<void> log(const kvm_slot& slot, bool on);

  kernel::files& kernel_;
  const int vm_;
  std::map<std::uint32_t, slot_pages> slots_;
  std::vector<slot_pages> removed_;
};

/// As "slot 3", or "slot 3 of address space 1".
std::string slot_words(std::uint32_t id);

}  // namespace tidemark::dirty
