// SPDX-License-Identifier: Apache-2.0
//
// The plan of a batch in which no change has to do with another, but for neighbours that become one: only maps, or only
// unmaps of just what was mapped. That is what an emulated IOMMU or a burst of regions asks for, most of the time, and it is
// planned for a fraction of the cost; a change alone for a tenth. Steps are in the order of the addresses; else the plan is
// the one that the planner would make.
//
// Threading: a pure function of its arguments; each thread keeps what memory it worked in.

#pragma once

#include <span>

#include "dma/mapping_book.hpp"
#include "dma/planner.hpp"

namespace tidemark::dma {

/// The one step, new, that a change alone comes to. False where it does not come to one, or something is wrong with it.
bool plan_alone(const mapping_book& now, const change& what, const plan_limits& limits, plan_step& into);

/// False, and nothing in `into`, where it is another batch, is more than the planner's usual limits allow, or something is
/// wrong with it.
bool make_plain_plan(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into);

}  // namespace tidemark::dma
