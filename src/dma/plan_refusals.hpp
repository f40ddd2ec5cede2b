// SPDX-License-Identifier: Apache-2.0
//
// What the planner says of a change that it refuses. Cold: kept out of the way of what is accepted. Pure.

#pragma once

#include <tidemark/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

#include "dma/planner.hpp"

namespace tidemark::dma {

[[gnu::cold]] error malformed(const change& what, std::uint64_t page_size);
[[gnu::cold]] error already_mapped(const change& what, const iova_range& there, bool by_batch);
[[gnu::cold]] error would_cut(const change& what, const iova_range& there);
[[gnu::cold]] error outside_window(const change& what, std::span<const iova_range> windows);
[[gnu::cold]] error no_mapping_left(const change& what, std::uint64_t wanted, std::size_t held, const plan_limits& limits);
[[gnu::cold]] error all_or_none(const change& what, const error& first);

}  // namespace tidemark::dma
