// SPDX-License-Identifier: Apache-2.0
//
// A bitmap of pages in two levels, made for terabytes of guest of which little is dirty. Below, little-endian words of 64
// bits, as the kernel's dirty bitmaps are; above, for each chunk of 512 words (4 KiB of bitmap, 128 MiB of guest) how many
// of its bits are set. Whoever looks for set bits passes over a clean chunk by its count, without a look at its words.
//
// Invariants
//  1. count() equals the number of set bits, and a chunk's count that of its set bits.
//  2. Bits at and beyond size() are never set.
//  3. Memory is taken lazily: what no bit was ever set in is not resident. Copying keeps that for clean chunks.
//
// Threading: a value; not synchronised.

#pragma once

#include <tidemark/page_run.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

namespace tidemark::core {

inline constexpr std::uint64_t bits_per_word = 64;
inline constexpr std::uint64_t words_per_chunk = 512;
inline constexpr std::uint64_t bits_per_chunk = words_per_chunk * bits_per_word;

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

  struct merged {
    std::uint64_t told = 0;   // bits set in the source
    std::uint64_t added = 0;  // of those, not set before

    friend bool operator==(const merged&, const merged&) = default;
  };

  struct taken {
    std::size_t runs = 0;
    std::uint64_t bits = 0;
    std::uint64_t next = 0;  // where to go on; size() at the end

    friend bool operator==(const taken&, const taken&) = default;
  };

  bitmap() noexcept = default;
  explicit bitmap(std::uint64_t bits);
  bitmap(const bitmap& other);
  bitmap(bitmap&& other) noexcept { swap(other); }
  bitmap& operator=(bitmap other) noexcept { return swap(other), *this; }
  ~bitmap() = default;

  std::uint64_t size() const noexcept { return size_; }
  std::uint64_t count() const noexcept { return count_; }
  /// Of both levels, resident or not.
  std::uint64_t memory_bytes() const noexcept;
  bool test(std::uint64_t bit) const noexcept { return (words_[bit / bits_per_word] >> (bit % bits_per_word)) & 1; }

  /// Set bits of one chunk.
  std::uint64_t chunk_count(std::uint64_t chunk) const noexcept { return counts_[chunk]; }

  /// Sets or clears [first, first + length), which lies inside the bitmap.
  void set(std::uint64_t first, std::uint64_t length) noexcept;
  void clear(std::uint64_t first, std::uint64_t length) noexcept;

  /// ORs `length` bits of `source`, from its bit 0 on, to where `first` is. Bits of `source` beyond `length` are ignored.
  /// Fast where `first` is a multiple of 64.
  merged merge(std::uint64_t first, std::uint64_t length, std::span<const std::uint64_t> source) noexcept;

  /// The first set bit at or after `from`; size() if there is none.
  std::uint64_t next_set(std::uint64_t from) const noexcept;

  /// The first run of set bits at or after `from`, cut at `length_max`. A length of 0: there is none.
  run next_run(std::uint64_t from, std::uint64_t length_max) const noexcept;

  /// Clears runs of set bits at or after `from` and writes them to `out`: at most out.size() runs of at most `bits_max` bits
  /// in all. A run is whole unless `bits_max` cuts it. What is behind them in `out` may be overwritten, too.
  taken take_runs(block_index block, std::uint64_t from, std::uint64_t bits_max, std::span<page_run> out) noexcept;

  /// Moves the words [first_word, first_word + out.size()) to `out` and leaves zeros. Gives how many of their bits were set.
  std::uint64_t take_words(std::uint64_t first_word, std::span<std::uint64_t> out) noexcept;

 private:
  struct freed {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };

  void swap(bitmap& other) noexcept;
  std::uint64_t chunks() const noexcept { return (size_ + bits_per_chunk - 1) / bits_per_chunk; }
  std::uint64_t population(std::uint64_t first, std::uint64_t length) const noexcept;
  std::uint64_t in_a_chunk_with_bits(std::uint64_t from) const noexcept;
  std::uint64_t ones(std::uint64_t from, std::uint64_t length_max) const noexcept;
  void fill(std::uint64_t first, std::uint64_t length, bool ones) noexcept;
  void added(std::uint64_t chunk, std::uint64_t bits) noexcept;
  void removed(std::uint64_t chunk, std::uint64_t bits) noexcept;
  merged merge_bits(std::uint64_t first, std::uint64_t length, std::uint64_t bits) noexcept;
  merged merge_chunk(std::uint64_t first, std::uint64_t length, const std::uint64_t* source, std::uint64_t from) noexcept;
  taken take_from_chunk(block_index block, std::uint64_t from, std::uint64_t bits_max, std::span<page_run> out) noexcept;

  std::unique_ptr<std::byte, freed> memory_;
  std::uint64_t* words_ = nullptr;   // in memory_
  std::uint16_t* counts_ = nullptr;  // of chunks; behind the words
  std::uint64_t size_ = 0;
  std::uint64_t count_ = 0;
};

}  // namespace tidemark::core
