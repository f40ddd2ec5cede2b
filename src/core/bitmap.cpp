// SPDX-License-Identifier: Apache-2.0

#include "core/bitmap.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <new>
#include <utility>

#include "core/bitmap_words.hpp"

namespace tidemark::core {

namespace {

static_assert(bits_per_chunk < 1 << 16, "a chunk's count fits its 16 bits");
static_assert(words_per_chunk <= bitmap_words::runs_words_max);

// A chunk fills a page of memory, so that one which is clean has no part in a page that is not.
constexpr std::size_t chunk_bytes = words_per_chunk * sizeof(std::uint64_t);

std::uint64_t low_bits(std::uint64_t length) noexcept {
  return length >= bits_per_word ? ~std::uint64_t{0} : (std::uint64_t{1} << length) - 1;
}

/// Bits of a word from `first` on, `length` of them or to its end.
std::uint64_t bits_of_word(std::uint64_t first, std::uint64_t length) noexcept {
  return low_bits(length) << (first % bits_per_word);
}

std::uint64_t population(std::uint64_t word) noexcept { return static_cast<std::uint64_t>(std::popcount(word)); }

/// Up to 64 bits of `words`, from bit `from` on.
std::uint64_t bits_at(const std::uint64_t* words, std::uint64_t from, std::uint64_t length) noexcept {
  const std::uint64_t shift = from % bits_per_word;
  const auto* word = words + from / bits_per_word;
  std::uint64_t bits = word[0] >> shift;
  if (shift + length > bits_per_word) bits |= word[1] << (bits_per_word - shift);
  return bits & low_bits(length);
}

/// The part of [first, first + length) that lies in first's own stretch of `unit` bits.
std::uint64_t within(std::uint64_t unit, std::uint64_t first, std::uint64_t length) noexcept {
  return std::min(length, unit - first % unit);
}

/// Calls work(first, length) for the part of the range in each stretch of `unit` bits.
template <class Work>
void by(std::uint64_t unit, std::uint64_t first, std::uint64_t length, Work work) noexcept {
  while (length != 0) {
    const auto here = within(unit, first, length);
    work(first, here);
    first += here;
    length -= here;
  }
}

}  // namespace

bitmap::bitmap(std::uint64_t bits) : size_(bits) {
  if (bits == 0) return;
  const auto words_bytes = words_for(bits) * sizeof(std::uint64_t);
  // A small one, of which there may be a million, is not aligned at that price.
  const std::size_t alignment = words_bytes < chunk_bytes ? 1 : chunk_bytes;
  memory_.reset(static_cast<std::byte*>(std::calloc(memory_bytes() + alignment - 1, 1)));
  if (memory_ == nullptr) throw std::bad_alloc();
  void* aligned = memory_.get();
  std::size_t space = memory_bytes() + alignment - 1;
  words_ = static_cast<std::uint64_t*>(std::align(alignment, memory_bytes(), aligned, space));
  counts_ = reinterpret_cast<std::uint16_t*>(words_ + words_for(bits));
}

bitmap::bitmap(const bitmap& other) : bitmap(other.size_) {
  count_ = other.count_;
  std::copy_n(other.counts_, chunks(), counts_);
  for (auto at = other.next_set(0); at < size_; at = other.next_set(at + within(bits_per_chunk, at, size_ - at))) {
    const auto word = at / bits_per_chunk * words_per_chunk;
    std::copy_n(other.words_ + word, std::min(words_per_chunk, words_for(size_) - word), words_ + word);
  }
}

void bitmap::swap(bitmap& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(words_, other.words_);
  std::swap(counts_, other.counts_);
  std::swap(size_, other.size_);
  std::swap(count_, other.count_);
}

std::uint64_t bitmap::memory_bytes() const noexcept {
  return words_for(size_) * sizeof(std::uint64_t) + chunks() * sizeof(std::uint16_t);
}

void bitmap::added(std::uint64_t chunk, std::uint64_t bits) noexcept {
  if (bits == 0) return;  // so that what is clean is not here to
  counts_[chunk] = static_cast<std::uint16_t>(counts_[chunk] + bits);
  count_ += bits;
}

void bitmap::removed(std::uint64_t chunk, std::uint64_t bits) noexcept {
  if (bits == 0) return;
  counts_[chunk] = static_cast<std::uint16_t>(counts_[chunk] - bits);
  count_ -= bits;
}

/// Of a range within a chunk.
std::uint64_t bitmap::population(std::uint64_t first, std::uint64_t length) const noexcept {
  const std::uint64_t all = counts_[first / bits_per_chunk];
  if (all == 0 || length == bits_per_chunk) return all;
  std::uint64_t sum = 0;
  by(bits_per_word, first, length, [&](std::uint64_t at, std::uint64_t here) {
    sum += core::population(words_[at / bits_per_word] & bits_of_word(at, here));
  });
  return sum;
}

/// Writes words only; what is counted is the caller's business.
void bitmap::fill(std::uint64_t first, std::uint64_t length, bool ones) noexcept {
  const auto part = [&](std::uint64_t at, std::uint64_t here) {
    auto& word = words_[at / bits_per_word];
    const auto bits = bits_of_word(at, here);
    word = ones ? word | bits : word & ~bits;
  };
  const auto head = first % bits_per_word == 0 ? 0 : within(bits_per_word, first, length);
  if (head != 0) part(first, head);
  first += head;
  length -= head;
  std::fill_n(words_ + first / bits_per_word, length / bits_per_word, ones ? ~std::uint64_t{0} : 0);
  const auto tail = length % bits_per_word;
  if (tail != 0) part(first + length - tail, tail);
}

void bitmap::set(std::uint64_t first, std::uint64_t length) noexcept {
  by(bits_per_chunk, first, length, [this](std::uint64_t at, std::uint64_t here) {
    const auto unset = here - population(at, here);
    if (unset != 0) fill(at, here, true);
    added(at / bits_per_chunk, unset);
  });
}

void bitmap::clear(std::uint64_t first, std::uint64_t length) noexcept {
  by(bits_per_chunk, first, length, [this](std::uint64_t at, std::uint64_t here) {
    const auto gone = population(at, here);
    if (gone != 0) fill(at, here, false);
    removed(at / bits_per_chunk, gone);
  });
}

/// Within a word.
bitmap::merged bitmap::merge_bits(std::uint64_t first, std::uint64_t length, std::uint64_t bits) noexcept {
  bits = (bits & low_bits(length)) << (first % bits_per_word);
  if (bits == 0) return {};
  auto& word = words_[first / bits_per_word];
  const merged counts{core::population(bits), core::population(bits & ~word)};
  word |= bits;
  return counts;
}

/// Within a chunk, from bit `from` of the source.
bitmap::merged bitmap::merge_chunk(std::uint64_t first, std::uint64_t length, const std::uint64_t* source,
                                   std::uint64_t from) noexcept {
  const auto head = first % bits_per_word == 0 ? 0 : within(bits_per_word, first, length);
  auto counts = head == 0 ? merged{} : merge_bits(first, head, bits_at(source, from, head));
  const auto words = (length - head) / bits_per_word;
  const auto at = first + head;
  from += head;
  std::array<std::uint64_t, words_per_chunk> shifted;
  const auto* whole = source + from / bits_per_word;
  if (from % bits_per_word != 0) {
    for (std::uint64_t i = 0; i < words; ++i) shifted[i] = bits_at(source, from + i * bits_per_word, bits_per_word);
    whole = shifted.data();
  }
  const auto middle = bitmap_words::merge(words_ + at / bits_per_word, whole, words);
  const auto tail = length - head - words * bits_per_word;
  const auto last = tail == 0
                        ? merged{}
                        : merge_bits(at + words * bits_per_word, tail, bits_at(source, from + words * bits_per_word, tail));
  return {counts.told + middle.told + last.told, counts.added + middle.added + last.added};
}

bitmap::merged bitmap::merge(std::uint64_t first, std::uint64_t length, std::span<const std::uint64_t> source) noexcept {
  assert(source.size() >= words_for(length));
  merged all;
  by(bits_per_chunk, first, length, [&](std::uint64_t at, std::uint64_t here) {
    const auto counts = merge_chunk(at, here, source.data(), at - first);
    added(at / bits_per_chunk, counts.added);
    all.told += counts.told;
    all.added += counts.added;
  });
  return all;
}

/// `from`, or the start of the first chunk after it that has a set bit if its own has none. size() if there is none.
std::uint64_t bitmap::in_a_chunk_with_bits(std::uint64_t from) const noexcept {
  if (from >= size_) return size_;
  const auto chunk = from / bits_per_chunk;
  if (counts_[chunk] != 0) return from;
  const auto next = chunk + bitmap_words::first_nonzero(counts_ + chunk, chunks() - chunk);
  return std::min(next * bits_per_chunk, size_);
}

std::uint64_t bitmap::next_set(std::uint64_t from) const noexcept {
  while ((from = in_a_chunk_with_bits(from)) < size_) {
    const auto word = from / bits_per_word;
    const auto here = words_[word] & (~std::uint64_t{0} << (from % bits_per_word));
    if (here != 0) return word * bits_per_word + static_cast<std::uint64_t>(std::countr_zero(here));
    const auto end = std::min((from / bits_per_chunk + 1) * words_per_chunk, words_for(size_));
    const auto found = word + 1 + bitmap_words::first_nonzero(words_ + word + 1, end - word - 1);
    if (found != end) return found * bits_per_word + static_cast<std::uint64_t>(std::countr_zero(words_[found]));
    from = end * bits_per_word;
  }
  return size_;
}

/// How many set bits there are from `from` on without a gap, counted no further than `length_max`.
std::uint64_t bitmap::ones(std::uint64_t from, std::uint64_t length_max) const noexcept {
  const auto end = std::min(size_, from + std::min(length_max, size_ - from));
  auto at = from;
  while (at < end) {
    if (at % bits_per_chunk == 0 && counts_[at / bits_per_chunk] == bits_per_chunk) {
      at += bits_per_chunk;
      continue;
    }
    const auto here = static_cast<std::uint64_t>(std::countr_one(words_[at / bits_per_word] >> (at % bits_per_word)));
    at += here;
    if (here == 0 || at % bits_per_word != 0) break;
  }
  return std::min(at, end) - from;
}

bitmap::run bitmap::next_run(std::uint64_t from, std::uint64_t length_max) const noexcept {
  const auto first = next_set(from);
  if (first == size_ || length_max == 0) return {};
  return {first, ones(first, length_max)};
}

/// At least one bit and one run are wanted. What does not fit is left in the bitmap.
bitmap::taken bitmap::take_from_chunk(block_index block, std::uint64_t from, std::uint64_t bits_max,
                                      std::span<page_run> out) noexcept {
  const auto word = from / bits_per_word;
  const auto end = std::min((from / bits_per_chunk + 1) * words_per_chunk, words_for(size_));
  const bitmap_words::run_window window{words_ + word, end - word, from % bits_per_word, block, word * bits_per_word};
  const auto here = bitmap_words::take_runs(window, bits_max, out.first(std::min<std::uint64_t>(out.size(), bits_max)));
  taken got{here.runs, here.bits, window.first_page + here.end};
  while (got.bits > bits_max) {
    auto& last = out[got.runs - 1];
    const auto excess = std::min(last.pages, got.bits - bits_max);
    last.pages -= excess;
    got.bits -= excess;
    got.next = last.first_page + last.pages;
    if (last.pages == 0) --got.runs;
  }
  got.next = std::min(got.next, size_);
  const auto cleared = std::clamp(window.first_page + here.cleared, from, size_);
  if (cleared < got.next) fill(cleared, got.next - cleared, false);
  if (got.next < cleared) fill(got.next, cleared - got.next, true);  // the rest of a long run that was cut
  removed(from / bits_per_chunk, got.bits);
  return got;
}

bitmap::taken bitmap::take_runs(block_index block, std::uint64_t from, std::uint64_t bits_max,
                                std::span<page_run> out) noexcept {
  taken all{0, 0, from};
  while (all.bits < bits_max && (all.next = in_a_chunk_with_bits(all.next)) < size_) {
    if (all.runs != 0) {
      // The last run may go on in this chunk, and in more.
      auto& last = out[all.runs - 1];
      const bool touches = last.first_page + last.pages == all.next;
      if (const auto more = touches ? ones(all.next, bits_max - all.bits) : 0; more != 0) {
        clear(all.next, more);
        last.pages += more;
        all.bits += more;
        all.next += more;
        continue;
      }
    }
    if (all.runs == out.size()) break;
    const auto got = take_from_chunk(block, all.next, bits_max - all.bits, out.subspan(all.runs));
    all.runs += got.runs;
    all.bits += got.bits;
    all.next = got.next;
  }
  return all;
}

std::uint64_t bitmap::take_words(std::uint64_t first_word, std::span<std::uint64_t> out) noexcept {
  const auto before = count_;
  by(words_per_chunk, first_word, out.size(), [&](std::uint64_t at, std::uint64_t here) {
    const auto chunk = at / words_per_chunk;
    auto* to = out.data() + (at - first_word);
    if (counts_[chunk] == 0) {
      std::fill_n(to, here, 0);
    } else {
      removed(chunk, bitmap_words::take(words_ + at, to, here));
    }
  });
  return before - count_;
}

}  // namespace tidemark::core
