// SPDX-License-Identifier: Apache-2.0
//
// A dirty bitmap in the memory of the program, written from its start towards its end through a buffer, so that a million
// small mappings do not cost a million checked copies. Words it is not asked to write it does not touch.
//
// Threading: one thread. Invariant: the buffer covers the words [first_, first_ + words_.size()), not yet written.

#pragma once

#include <linux/vfio.h>

#include <cstdint>
#include <vector>

#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {

class user_bitmap {
 public:
  explicit user_bitmap(const vfio_bitmap& where) noexcept : address_(reinterpret_cast<std::uintptr_t>(where.data)) {}

  /// The word as the program would read it now. False: the memory is not there.
  bool load(std::uint64_t index, std::uint64_t& value) noexcept {
    if (!words_.empty() && index >= first_ && index < first_ + words_.size()) {
      value = words_[index - first_];
      return true;
    }
    return user::read(address_ + index * sizeof(value), &value, sizeof(value));
  }

  /// Overwrites a word. Indices never go back by more than one.
  bool store(std::uint64_t index, std::uint64_t value) {
    if (!words_.empty() && index + 1 == first_ + words_.size()) {
      words_.back() = value;
      return true;
    }
    const bool next = !words_.empty() && index == first_ + words_.size() && words_.size() < words_max;
    if (!next) {
      if (!flush()) return false;
      first_ = index;
    }
    words_.push_back(value);
    return true;
  }

  bool flush() noexcept {
    const bool written = words_.empty() || user::write(address_ + first_ * sizeof(std::uint64_t), words_.data(),
                                                       words_.size() * sizeof(std::uint64_t));
    words_.clear();
    return written;
  }

 private:
  static constexpr std::size_t words_max = 8192;

  std::uint64_t address_;
  std::uint64_t first_ = 0;
  std::vector<std::uint64_t> words_;
};

}  // namespace tidemark::kernel::modelled
