// SPDX-License-Identifier: Apache-2.0
//
// What devices are asked to log: few ranges that hold all that they may write to (R27). Pure.

#pragma once

#include <tidemark/error.hpp>

#include <cstddef>
#include <vector>

namespace tidemark::dma {

/// At most `count_max` ranges, not 0, ascending and apart, that hold all of `ranges`, which do not wrap, may touch, and are
/// in any order: those with the smallest gaps between them become one, so that as little else as possible is logged.
std::vector<iova_range> logged_ranges(std::vector<iova_range> ranges, std::size_t count_max);

/// Whether a range lies in one of them, which are ascending and apart.
bool is_within(const std::vector<iova_range>& ranges, iova_range which) noexcept;

}  // namespace tidemark::dma
