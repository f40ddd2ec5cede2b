// SPDX-License-Identifier: Apache-2.0
//
// This file is compiled once for each target: foreach_target.h includes it again and again.

#include "core/bitmap_words.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>

// The portable fallback and the newest of AVX-512 are compiled, too: the tests hold each target to the same answers. Targets
// whose vectors have no size at compile time are not: they could not be members.
#define HWY_COMPILE_ALL_ATTAINABLE
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#define HWY_WANT_AVX3_DL 1
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/bitmap_words.cpp"
#include <hwy/foreach_target.h>
// Only after foreach_target.h.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace tidemark::core::bitmap_words::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using words_tag = hn::ScalableTag<std::uint64_t>;
using words_vector = hn::Vec<words_tag>;

// Vectors that are looked at together: one branch on whether they are all zero.
constexpr std::size_t unrolled = 4;
// How far ahead of a merge its source is fetched, since the processor's own prefetcher stops at each page of memory, how far
// what it is merged into, and how far ahead of where runs are taken the bitmap is: about as much as callers merge before
// they take. Each costs nothing where nothing is.
constexpr std::size_t merge_ahead_words = 1024;
constexpr std::size_t merged_ahead_words = 512;
constexpr std::size_t take_ahead_words = 2048;

inline std::uint64_t population(std::uint64_t word) { return static_cast<std::uint64_t>(std::popcount(word)); }

inline std::uint64_t sum(words_vector lanes) {
  const words_tag d;
  return hn::GetLane(hn::SumOfLanes(d, lanes));
}

/// Vectors that are read once: the caches keep what is merged into instead.
HWY_INLINE void prefetch_source(const std::uint64_t* words, std::size_t lanes) {
  for (std::size_t i = 0; i < unrolled; ++i) __builtin_prefetch(words + i * lanes, 0, 0);
}

HWY_INLINE void prefetch_merged(const std::uint64_t* words, std::size_t lanes) {
  for (std::size_t i = 0; i < unrolled; ++i) __builtin_prefetch(words + i * lanes, 1, 3);
}

merged_counts merge(std::uint64_t* to, const std::uint64_t* from, std::size_t words) {
  const words_tag d;
  const std::size_t lanes = hn::Lanes(d);
  auto told = hn::Zero(d);
  auto added = hn::Zero(d);
  std::size_t at = 0;
  for (; at + unrolled * lanes <= words; at += unrolled * lanes) {
    prefetch_source(from + at + merge_ahead_words, lanes);
    const auto from0 = hn::LoadU(d, from + at);
    const auto from1 = hn::LoadU(d, from + at + lanes);
    const auto from2 = hn::LoadU(d, from + at + 2 * lanes);
    const auto from3 = hn::LoadU(d, from + at + 3 * lanes);
    const auto any = hn::Or(hn::Or(from0, from1), hn::Or(from2, from3));
    if (hn::AllTrue(d, hn::Eq(any, hn::Zero(d)))) continue;
    prefetch_merged(to + at + merged_ahead_words, lanes);
    const auto to0 = hn::LoadU(d, to + at);
    const auto to1 = hn::LoadU(d, to + at + lanes);
    const auto to2 = hn::LoadU(d, to + at + 2 * lanes);
    const auto to3 = hn::LoadU(d, to + at + 3 * lanes);
    hn::StoreU(hn::Or(to0, from0), d, to + at);
    hn::StoreU(hn::Or(to1, from1), d, to + at + lanes);
    hn::StoreU(hn::Or(to2, from2), d, to + at + 2 * lanes);
    hn::StoreU(hn::Or(to3, from3), d, to + at + 3 * lanes);
    told = told + ((hn::PopulationCount(from0) + hn::PopulationCount(from1)) +
                   (hn::PopulationCount(from2) + hn::PopulationCount(from3)));
    added = added + ((hn::PopulationCount(hn::AndNot(to0, from0)) + hn::PopulationCount(hn::AndNot(to1, from1))) +
                     (hn::PopulationCount(hn::AndNot(to2, from2)) + hn::PopulationCount(hn::AndNot(to3, from3))));
  }
  merged_counts counts{sum(told), sum(added)};
  for (; at < words; ++at) {
    if (from[at] == 0) continue;
    counts.told += population(from[at]);
    counts.added += population(from[at] & ~to[at]);
    to[at] |= from[at];
  }
  return counts;
}

std::uint64_t take(std::uint64_t* words, std::uint64_t* out, std::size_t count) {
  const words_tag d;
  auto bits = hn::Zero(d);
  std::size_t at = 0;
  for (; at + hn::Lanes(d) <= count; at += hn::Lanes(d)) {
    const auto here = hn::LoadU(d, words + at);
    hn::StoreU(here, d, out + at);
    hn::StoreU(hn::Zero(d), d, words + at);
    bits = bits + hn::PopulationCount(here);
  }
  std::uint64_t total = sum(bits);
  for (; at < count; ++at) {
    out[at] = words[at];
    words[at] = 0;
    total += population(out[at]);
  }
  return total;
}

template <class T>
std::size_t first_nonzero(const T* values, std::size_t count) {
  const hn::ScalableTag<T> d;
  std::size_t at = 0;
  for (; at + hn::Lanes(d) <= count; at += hn::Lanes(d)) {
    const auto found = hn::FindFirstTrue(d, hn::Ne(hn::LoadU(d, values + at), hn::Zero(d)));
    if (found >= 0) return at + static_cast<std::size_t>(found);
  }
  while (at < count && values[at] == 0) ++at;
  return at;
}

std::size_t first_nonzero_word(const std::uint64_t* values, std::size_t count) { return first_nonzero(values, count); }
std::size_t first_nonzero_count(const std::uint16_t* values, std::size_t count) { return first_nonzero(values, count); }

// Runs are found in two steps, neither of which branches on what the bits are. First every position at which a bit differs
// from the one before it is listed: the start of a run, its end, the start of the next, and so on. Then each pair of them
// becomes a run.

constexpr std::size_t step_words = 128;
constexpr std::size_t step_bits = step_words * 64;

// Words are stored by whole vectors, and the start of a run that is open may be there before them.
//
// The list begins half a page of memory away from the words it is of, counted modulo the page. A processor compares the low
// bits of addresses first, and takes a word for one that waits to be stored where they agree. List and words are walked
// about equally fast, so they would agree all along, wherever the stack happened to lie so.
class edge_list {
 public:
  HWY_INLINE std::uint16_t* for_words(const std::uint64_t* words) {
    const auto apart = reinterpret_cast<std::uintptr_t>(words) + page / 2 - reinterpret_cast<std::uintptr_t>(at_);
    return at_ + apart % page / sizeof(std::uint16_t);
  }

 private:
  static constexpr std::size_t page = 4096;

  alignas(64) std::uint16_t at_[step_bits + 1 + 64 + page / sizeof(std::uint16_t)];
};

// Lists the set bits of words, from bit position `first` on, one word after the other.
#if HWY_TARGET == HWY_AVX3_DL
// Eight bits of position for each bit of a word are one vector, and to pick those of the set bits is one instruction.
class bit_list {
 public:
  bit_list(std::uint16_t* out, std::size_t first) : out_(out), first_(hn::Set(d16, static_cast<std::uint16_t>(first))) {}
  HWY_INLINE void add(std::uint64_t word) {
    const auto picked = hn::Compress(hn::Iota(d8, 0), hn::LoadMaskBits(d8, reinterpret_cast<const std::uint8_t*>(&word)));
    const auto bits = population(word);
    const auto low = hn::LowerHalf(half, picked);
    hn::StoreU(hn::PromoteTo(d16, low) + first_, d16, out_);
    if (HWY_UNLIKELY(bits > 32)) hn::StoreU(hn::PromoteTo(d16, hn::UpperHalf(half, picked)) + first_, d16, out_ + 32);
    out_ += bits;
    first_ = first_ + hn::Set(d16, 64);
  }
  /// More may have been written behind it.
  std::uint16_t* end() const { return out_; }

 private:
  static constexpr hn::Full512<std::uint8_t> d8{};
  static constexpr hn::Full256<std::uint8_t> half{};
  static constexpr hn::Full512<std::uint16_t> d16{};

  std::uint16_t* out_;
  hn::Vec<hn::Full512<std::uint16_t>> first_;
};
#else
// Positions are stored by eights, whatever there are: what is too much is overwritten by the next word's, and a branch is
// wrong only for words that have more.
class bit_list {
 public:
  bit_list(std::uint16_t* out, std::size_t first) : out_(out), first_(first) {}
  HWY_INLINE void add(std::uint64_t word) {
    auto* out = out_;
    out_ += population(word);
    do {
      out = store_first(store_first(store_first(store_first(out, word), word), word), word);
      out = store_first(store_first(store_first(store_first(out, word), word), word), word);
    } while (HWY_UNLIKELY(out < out_));
    first_ += 64;
  }
  std::uint16_t* end() const { return out_; }

 private:
  HWY_INLINE std::uint16_t* store_first(std::uint16_t* out, std::uint64_t& word) const {
    const auto never_zero = word | std::uint64_t{1} << 63;  // or countr_zero branches
    *out = static_cast<std::uint16_t>(first_ + static_cast<std::size_t>(std::countr_zero(never_zero)));
    word &= word - 1;
    return out + 1;
  }

  std::uint16_t* out_;
  std::size_t first_;
};
#endif

/// The edges of eight words, and whether there are any. There is a word before the first.
HWY_INLINE bool edges_of_eight(const std::uint64_t* words, std::uint64_t* edges) {
  const hn::CappedTag<std::uint64_t, 8> d;
  auto any = hn::Zero(d);
  for (std::size_t i = 0; i < 8; i += hn::Lanes(d)) {
    const auto here = hn::LoadU(d, words + i);
    const auto before = hn::LoadU(d, words + i - 1);
    const auto edge = hn::Xor(here, hn::Or(hn::Add(here, here), hn::ShiftRight<63>(before)));
    hn::Store(edge, d, edges + i);
    any = hn::Or(any, edge);
  }
  return !hn::AllTrue(d, hn::Eq(any, hn::Zero(d)));
}

/// Lists the edges of words [at, end). There is a word before the first.
HWY_INLINE std::uint16_t* list_edges(std::uint16_t* out, const std::uint64_t* words, std::size_t at, std::size_t end) {
  HWY_ALIGN std::uint64_t edges[8];
  for (; at + 8 <= end; at += 8) {
    hwy::Prefetch(words + at + take_ahead_words);
    if (!edges_of_eight(words + at, edges)) continue;
    bit_list list(out, at * 64);
    list.add(edges[0]);
    list.add(edges[1]);
    list.add(edges[2]);
    list.add(edges[3]);
    list.add(edges[4]);
    list.add(edges[5]);
    list.add(edges[6]);
    list.add(edges[7]);
    out = list.end();
  }
  for (; at < end; ++at) {
    bit_list list(out, at * 64);
    list.add(words[at] ^ (words[at] << 1 | words[at - 1] >> 63));
    out = list.end();
  }
  return out;
}

static_assert(sizeof(page_run) == 24 && offsetof(page_run, first_page) == 8 && offsetof(page_run, pages) == 16);
static_assert(std::endian::native == std::endian::little);

// Makes runs of as many pairs as a vector has words.
#if HWY_TARGET <= HWY_AVX3
// A run is what all runs have in common (block, first_page, 0) plus its own (0, start, pages). Eight runs are three vectors
// of each, and the own ones are picked from one vector of eight pairs (start, pages): fewer steps than to interleave.
class run_maker {
 public:
  explicit run_maker(const run_window& in) : first_(in, 0), second_(in, 1), third_(in, 2) {}
  HWY_INLINE void make(const std::uint16_t* pairs, page_run* out) {
    const auto start_and_end = hn::PromoteTo(d32, hn::LoadU(d16, pairs));
    const auto start = hn::BitCast(d32, hn::ShiftLeft<32>(hn::BitCast(d64, start_and_end)));
    const auto start_and_pages = start_and_end - start;
    bits_ = bits_ + hn::BitCast(d64, start_and_pages);  // in its upper half, which the lower one is far from reaching
    auto* words = reinterpret_cast<std::uint64_t*>(out);
    hn::StoreU(first_.of(start_and_pages), d64, words);
    hn::StoreU(second_.of(start_and_pages), d64, words + 8);
    hn::StoreU(third_.of(start_and_pages), d64, words + 16);
  }
  std::uint64_t bits() const { return sum(hn::ShiftRight<32>(bits_)); }

 private:
  static constexpr hn::Full512<std::uint64_t> d64{};
  static constexpr hn::Full512<std::uint32_t> d32{};
  static constexpr hn::Full256<std::uint16_t> d16{};

  /// One of the three vectors.
  class part {
   public:
    part(const run_window& in, std::size_t which)
        : common_(hn::Or(hn::And(hn::LoadU(d64, every_third + 2 * which % 3), hn::Set(d64, in.block)),
                         hn::And(hn::LoadU(d64, every_third + (2 * which + 2) % 3), hn::Set(d64, in.first_page)))),
          own_(hn::And(hn::Set(d64, 0xffffffff), hn::Not(hn::LoadU(d64, every_third + 2 * which % 3)))),
          from_(hn::SetTableIndices(d32, halves + 16 * which)) {}
    HWY_INLINE words_vector of(hn::Vec<hn::Full512<std::uint32_t>> start_and_pages) const {
      return common_ + hn::And(own_, hn::BitCast(d64, hn::TableLookupLanes(start_and_pages, from_)));
    }

   private:
    static constexpr std::uint64_t all = ~std::uint64_t{0};
    static constexpr std::uint64_t every_third[] = {all, 0, 0, all, 0, 0, all, 0, 0, all};
    // For each half of the words of eight runs, which half of a pair goes there. Where none does, any.
    static constexpr std::int32_t halves[] = {0, 0, 0, 0, 1, 0, 0, 0, 2,  0, 3,  0, 0, 0, 4,  0, 5,  0, 0, 0, 6,  0, 7,  0,
                                              0, 0, 8, 0, 9, 0, 0, 0, 10, 0, 11, 0, 0, 0, 12, 0, 13, 0, 0, 0, 14, 0, 15, 0};

    words_vector common_;
    words_vector own_;
    decltype(hn::SetTableIndices(d32, static_cast<const std::int32_t*>(nullptr))) from_;
  };

  part first_;
  part second_;
  part third_;
  words_vector bits_ = hn::Zero(d64);
};
#else
class run_maker {
 public:
  explicit run_maker(const run_window& in) : block_(hn::Set(d, in.block)), first_page_(hn::Set(d, in.first_page)) {}
  HWY_INLINE void make(const std::uint16_t* pairs, page_run* out) {
    const auto start_and_end = hn::PromoteTo(d, hn::LoadU(d32, reinterpret_cast<const std::uint32_t*>(pairs)));
    const auto start = hn::And(start_and_end, hn::Set(d, 0xffff));
    const auto pages = hn::ShiftRight<16>(start_and_end) - start;
    bits_ = bits_ + pages;
    hn::StoreInterleaved3(block_, first_page_ + start, pages, d, reinterpret_cast<std::uint64_t*>(out));
  }
  std::uint64_t bits() const { return sum(bits_); }

 private:
  static constexpr words_tag d{};
  static constexpr hn::Rebind<std::uint32_t, words_tag> d32{};

  words_vector block_;
  words_vector first_page_;
  words_vector bits_ = hn::Zero(d);
};
#endif

/// Writes the first `count` pairs of edges as runs. Gives how many bits they have. Runs of no pages may be written behind
/// them, within `out`.
HWY_INLINE std::uint64_t write_pairs(const std::uint16_t* edges, std::size_t count, const run_window& in, run_maker& maker,
                                     std::span<page_run> out) {
  const words_tag d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t at = 0;
  for (; at < count && at + lanes <= out.size(); at += lanes) maker.make(edges + 2 * at, out.data() + at);
  std::uint64_t bits = 0;
  for (; at < count; ++at) {
    const std::uint64_t pages = edges[2 * at + 1] - edges[2 * at];
    out[at] = {in.block, in.first_page + edges[2 * at], pages};
    bits += pages;
  }
  return bits;
}

taken_runs take_runs(const run_window& in, std::uint64_t bits_enough, std::span<page_run> out) {
  edge_list lists;
  auto* edges = lists.for_words(in.words);
  run_maker maker(in);
  taken_runs taken;
  std::uint64_t bits_apart = 0;
  // The first word apart: its first bits stay.
  const auto skipped = ~(~std::uint64_t{0} << in.skipped);
  const auto word = in.words[0] & ~skipped;
  bit_list first(edges, 0);
  first.add(word ^ (word << 1));
  auto* listed = first.end();
  std::size_t cleared = 0;
  const auto clear = [&](std::size_t end) {
    const auto kept = cleared == 0 ? in.words[0] & skipped : 0;
    std::fill(in.words + cleared, in.words + end, 0);
    in.words[cleared] |= kept;
    cleared = end;
  };
  for (std::size_t at = 1;;) {
    const auto stop = std::min(at + step_words - 1, in.count);
    listed = list_edges(listed, in.words, at, stop);
    at = stop;
    const bool last = at == in.count;
    const auto open = static_cast<std::size_t>(listed - edges) % 2;
    if (last && open != 0) *listed++ = static_cast<std::uint16_t>(in.count * 64);
    // An open run has no pages yet, and nor has what is behind the list: vectors take it along.
    const hn::ScalableTag<std::uint16_t> d16;
    hn::StoreU(hn::Zero(d16), d16, listed);
    if (open != 0 && !last) *listed = listed[-1];
    // A run has a page at least: no more of them are written than pages are wanted.
    const auto there = static_cast<std::size_t>(listed - edges) / 2;
    const auto wanted = std::min<std::size_t>(out.size() - taken.runs, bits_enough - taken.bits);
    const auto pairs = std::min(there, wanted);
    bits_apart +=
        write_pairs(edges, pairs, in, maker, out.subspan(taken.runs, pairs < there ? pairs : out.size() - taken.runs));
    taken.bits = bits_apart + maker.bits();
    taken.runs += pairs;
    if (taken.runs == out.size() || taken.bits >= bits_enough) {
      taken.end = out[taken.runs - 1].first_page + out[taken.runs - 1].pages - in.first_page;
      taken.cleared = cleared * 64;
      return taken;
    }
    if (last) break;
    clear(at - 1);  // the edges of the next word need the one before it
    // What is left over is the start of a run that goes on.
    const auto start = open != 0 ? listed[-1] : std::uint16_t{0};
    edges = lists.for_words(in.words + at);
    edges[0] = start;
    listed = edges + open;
  }
  clear(in.count);
  taken.end = taken.cleared = in.count * 64;
  return taken;
}

}  // namespace tidemark::core::bitmap_words::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tidemark::core::bitmap_words {

namespace {

HWY_EXPORT(merge);
HWY_EXPORT(take);
HWY_EXPORT(first_nonzero_word);
HWY_EXPORT(first_nonzero_count);
HWY_EXPORT(take_runs);

}  // namespace

std::int64_t compiled_targets() noexcept { return HWY_TARGETS; }

merged_counts merge(std::uint64_t* to, const std::uint64_t* from, std::size_t words) noexcept {
  return HWY_DYNAMIC_DISPATCH(merge)(to, from, words);
}

std::uint64_t take(std::uint64_t* words, std::uint64_t* out, std::size_t count) noexcept {
  return HWY_DYNAMIC_DISPATCH(take)(words, out, count);
}

std::size_t first_nonzero(const std::uint64_t* values, std::size_t count) noexcept {
  return HWY_DYNAMIC_DISPATCH(first_nonzero_word)(values, count);
}

std::size_t first_nonzero(const std::uint16_t* values, std::size_t count) noexcept {
  return HWY_DYNAMIC_DISPATCH(first_nonzero_count)(values, count);
}

taken_runs take_runs(const run_window& in, std::uint64_t bits_enough, std::span<page_run> out) noexcept {
  return HWY_DYNAMIC_DISPATCH(take_runs)(in, bits_enough, out);
}

}  // namespace tidemark::core::bitmap_words

#endif
