// SPDX-License-Identifier: Apache-2.0
//
// A bitmap of pages that knows how many of its bits are set. Little-endian words of 64 bits, as the kernel's dirty bitmaps
// are.
//
// Invariants
//  1. count() equals the number of set bits.
//  2. Bits at and beyond size() are never set.
//
// Threading: a value; not synchronised.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tidemark::core {

inline constexpr std::uint64_t bits_per_word = 64;

/// Words that hold `bits` bits.
constexpr std::uint64_t words_for(std::uint64_t bits) noexcept { return (bits + bits_per_word - 1) / bits_per_word; }

class bitmap {
 public:
  /// A run of set bits: [first, first + length).
  struct run {
    std::uint64_t first = 0;
    std::uint64_t length = 0;

    friend bool operator==(const run&, const run&) = default;
  };

  bitmap() = default;
  explicit bitmap(std::uint64_t bits) : words_(words_for(bits)), size_(bits) {}

  std::uint64_t size() const noexcept { return size_; }
  std::uint64_t count() const noexcept { return count_; }
  bool test(std::uint64_t bit) const noexcept { return (words_[bit / bits_per_word] >> (bit % bits_per_word)) & 1; }

  /// Sets or clears [first, first + length), which lies inside the bitmap.
  void set(std::uint64_t first, std::uint64_t length) noexcept;
  void clear(std::uint64_t first, std::uint64_t length) noexcept;

  /// ORs `length` bits of `source`, from its bit 0 on, to where `first` is. Bits of `source` beyond `length` are ignored.
  void merge(std::uint64_t first, std::uint64_t length, std::span<const std::uint64_t> source) noexcept;

  /// The first run of set bits at or after `from`, cut at `length_max`. A length of 0: there is none.
  run next_run(std::uint64_t from, std::uint64_t length_max) const noexcept;

 private:
  template <class Change>
  void change(std::uint64_t first, std::uint64_t length, Change apply) noexcept;
  void merge_word(std::uint64_t index, std::uint64_t bits) noexcept;

  std::vector<std::uint64_t> words_;
  std::uint64_t size_ = 0;
  std::uint64_t count_ = 0;
};

}  // namespace tidemark::core
