// SPDX-License-Identifier: Apache-2.0

#include "dma/dirty_slices.hpp"

#include "core/bitmap.hpp"

namespace tidemark::dma {

iova_range first_slice(const mapping_book& held, iova_range range, std::uint64_t bytes_max) {
  auto at = held.first_in(range);
  const auto is_inside = [&] { return at != held.end() && at->first - range.iova < range.size; };
  if (range.size == 0 || !is_inside()) return {range.iova, 0};
  iova_range slice{at->first, at->second.size()};
  for (++at; is_inside(); ++at) {
    const auto reach = at->first - slice.iova + at->second.size();
    if (reach > bytes_max) break;
    slice.size = reach;
  }
  return slice;
}

iova_range behind(iova_range range, iova_range slice) noexcept {
  const auto done = slice.iova - range.iova + slice.size;
  return {range.iova + done, range.size - done};
}

void place_bits(std::span<std::uint64_t> into, std::uint64_t at, std::span<const std::uint64_t> bits, std::uint64_t count) {
  const auto shift = at % core::bits_per_word;
  auto word = at / core::bits_per_word;
  for (std::uint64_t done = 0; done < count; done += core::bits_per_word, ++word) {
    const auto left = count - done;
    const auto some =
        bits[done / core::bits_per_word] & (left < core::bits_per_word ? (std::uint64_t{1} << left) - 1 : ~std::uint64_t{0});
    into[word] |= some << shift;
    if (const auto over = shift == 0 ? 0 : some >> (core::bits_per_word - shift); over != 0) into[word + 1] |= over;
  }
}

}  // namespace tidemark::dma
