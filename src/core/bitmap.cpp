// SPDX-License-Identifier: Apache-2.0

#include "core/bitmap.hpp"

#include <algorithm>
#include <bit>

namespace tidemark::core {

namespace {

std::uint64_t low_bits(std::uint64_t length) noexcept {
  return length >= bits_per_word ? ~std::uint64_t{0} : (std::uint64_t{1} << length) - 1;
}

std::uint64_t population(std::uint64_t word) noexcept { return static_cast<std::uint64_t>(std::popcount(word)); }

}  // namespace

template <class Change>
void bitmap::change(std::uint64_t first, std::uint64_t length, Change apply) noexcept {
  while (length != 0) {
    const std::uint64_t shift = first % bits_per_word;
    const std::uint64_t here = std::min(length, bits_per_word - shift);
    auto& word = words_[first / bits_per_word];
    count_ -= population(word);
    word = apply(word, low_bits(here) << shift);
    count_ += population(word);
    first += here;
    length -= here;
  }
}

void bitmap::set(std::uint64_t first, std::uint64_t length) noexcept {
  change(first, length, [](std::uint64_t word, std::uint64_t mask) { return word | mask; });
}

void bitmap::clear(std::uint64_t first, std::uint64_t length) noexcept {
  change(first, length, [](std::uint64_t word, std::uint64_t mask) { return word & ~mask; });
}

void bitmap::merge_word(std::uint64_t index, std::uint64_t bits) noexcept {
  auto& word = words_[index];
  count_ += population(bits & ~word);
  word |= bits;
}

void bitmap::merge(std::uint64_t first, std::uint64_t length, std::span<const std::uint64_t> source) noexcept {
  const std::uint64_t shift = first % bits_per_word;
  std::uint64_t index = first / bits_per_word;
  for (std::uint64_t at = 0; at * bits_per_word < length; ++at, ++index) {
    const std::uint64_t bits = source[at] & low_bits(length - at * bits_per_word);
    if (bits == 0) continue;
    merge_word(index, bits << shift);
    if (shift != 0 && (bits >> (bits_per_word - shift)) != 0) merge_word(index + 1, bits >> (bits_per_word - shift));
  }
}

bitmap::run bitmap::next_run(std::uint64_t from, std::uint64_t length_max) const noexcept {
  if (from >= size_ || length_max == 0) return {};
  std::uint64_t index = from / bits_per_word;
  std::uint64_t word = words_[index] & (~std::uint64_t{0} << (from % bits_per_word));
  while (word == 0) {
    if (++index == words_.size()) return {};
    word = words_[index];
  }
  const auto first = index * bits_per_word + static_cast<std::uint64_t>(std::countr_zero(word));
  std::uint64_t end = first;
  while (end < size_ && end - first < length_max) {
    const auto ones = static_cast<std::uint64_t>(std::countr_one(words_[end / bits_per_word] >> (end % bits_per_word)));
    end += ones;
    if (ones == 0 || end % bits_per_word != 0) break;
  }
  return {first, std::min(end - first, length_max)};
}

}  // namespace tidemark::core
