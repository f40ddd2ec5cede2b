// SPDX-License-Identifier: Apache-2.0
//
// Loops over the words of a bitmap, in vector code picked at run time for the processor at hand: the best of all that the
// compiler can make from one source. Nothing here knows of a bitmap's size or counts.
//
// Threading: pure.

#pragma once

#include <tidemark/page_run.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tidemark::core::bitmap_words {

/// The kinds of vector code there are to pick from, as Highway numbers them.
std::int64_t compiled_targets() noexcept;

/// Bits that were set in what was merged, and how many of them were not set before.
struct merged_counts {
  std::uint64_t told = 0;
  std::uint64_t added = 0;
};

/// to[i] |= from[i]. Where `from` is zero, `to` is not touched.
merged_counts merge(std::uint64_t* to, const std::uint64_t* from, std::size_t words) noexcept;

/// Moves `words` to `out` and leaves zeros. Gives how many bits were set.
std::uint64_t take(std::uint64_t* words, std::uint64_t* out, std::size_t count) noexcept;

/// The index of the first that is not zero; `count` if there is none.
std::size_t first_nonzero(const std::uint64_t* values, std::size_t count) noexcept;
std::size_t first_nonzero(const std::uint16_t* values, std::size_t count) noexcept;

/// At most this many words at once: a position in them, their end included, fits 16 bits.
inline constexpr std::size_t runs_words_max = 512;

/// Where runs of set bits are taken from.
struct run_window {
  std::uint64_t* words = nullptr;
  std::size_t count = 0;         // of words, 1 to runs_words_max
  std::uint64_t skipped = 0;     // bits of the first word, less than 64, that stay as they are
  block_index block = 0;         // goes into each run
  std::uint64_t first_page = 0;  // of the first word's bit 0
};

struct taken_runs {
  std::size_t runs = 0;
  std::uint64_t bits = 0;     // of these runs
  std::uint64_t end = 0;      // bits from the window's start; each set one before it is in a run
  std::uint64_t cleared = 0;  // as end; from here to there the caller clears
};

/// Writes the runs of the window in order. A run that touches the window's end ends there. Stops early, after a whole run,
/// when `out` is full (it has room for one at least) or soon after `bits_enough`.
taken_runs take_runs(const run_window& in, std::uint64_t bits_enough, std::span<page_run> out) noexcept;

}  // namespace tidemark::core::bitmap_words
