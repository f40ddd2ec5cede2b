// SPDX-License-Identifier: Apache-2.0
//
// How large maps are cut into pieces. Pure.

#pragma once

#include <tidemark/error.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "dma/planner.hpp"
#include "dma/soundness.hpp"

namespace tidemark::dma {

/// How a map is cut: at multiples of the piece where huge pages can be whole, else counted from where it begins.
class cutting {
 public:
  cutting(const iova_range& at, const std::byte* host, std::uint64_t piece)
      : at_(at), piece_(piece), aligned_(((at.iova ^ std::bit_cast<std::uintptr_t>(host)) & ((2ULL << 20) - 1)) == 0) {}

  bool is_whole() const { return at_.size <= piece_; }
  std::uint64_t count() const {
    if (is_whole()) return 1;
    const auto shift = std::countr_zero(piece_);
    if (aligned_) return (last_of(at_) >> shift) - (at_.iova >> shift) + 1;
    return ((at_.size - 1) >> shift) + 1;
  }
  /// Of the piece that begins `offset` bytes into the map.
  std::uint64_t size_at(std::uint64_t offset) const {
    if (is_whole()) return at_.size;
    const auto left = at_.size - offset;
    return std::min(left, aligned_ ? piece_ - ((at_.iova + offset) & (piece_ - 1)) : piece_);
  }

 private:
  iova_range at_;
  std::uint64_t piece_;  // a power of two, or all ones: not cut
  bool aligned_;
};

inline std::uint64_t usual_piece(const plan_limits& limits) {
  return std::bit_floor(std::max(limits.piece_bytes, limits.page_size));
}

/// The smallest piece, doubled from the usual one, with which no more than `room` mappings are needed, which is not 0.
inline std::uint64_t fitting_piece(const iova_range& at, const std::byte* host, const plan_limits& limits,
                                   std::uint64_t room) {
  auto piece = usual_piece(limits);
  while (cutting(at, host, piece).count() > room) piece = piece >= 1ULL << 63 ? ~std::uint64_t{0} : piece * 2;
  return piece;
}

}  // namespace tidemark::dma
