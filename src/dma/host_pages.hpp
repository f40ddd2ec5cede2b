// SPDX-License-Identifier: Apache-2.0
//
// Pages of this process's own memory: whether they are there, and making them be there before the kernel pins them. A map
// faults in what is not there under the container's lock and on one processor; taken beforehand the faults hold nobody up
// and run on several.
//
// Threading: any. populate() blocks, and uses threads of its own for as long.

#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark::dma {

/// Whether every page is in memory now: mincore(2). What may be swapped out meanwhile is not promised to stay.
bool is_resident(const void* at, std::uint64_t bytes) noexcept;

/// MADV_POPULATE_WRITE or, of memory that is only read, MADV_POPULATE_READ (Linux 5.14), where something is missing. What it
/// cannot do is left to the map, which says why.
void populate(void* at, std::uint64_t bytes, bool writable);

}  // namespace tidemark::dma
