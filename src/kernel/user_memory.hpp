// SPDX-License-Identifier: Apache-2.0
//
// How the model reads and writes the memory of the program that calls it: like a kernel, with an answer instead of a crash
// when the memory is not there.
//
// Arguments (small structures) are copied directly once their address is plausible: a program that passes a wild argument
// address has a bug that may as well show. Bulk memory (bitmaps, DMA) goes through the kernel, since tests take it away on
// purpose.
//
// Threading: stateless.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tidemark::kernel::user {

/// The size of a page of this process, in which memory is pinned.
inline constexpr std::uint64_t page_bytes = 4096;

/// As access_ok(): the range lies in the half of the address space that programs have.
bool plausible(std::uint64_t address, std::uint64_t bytes) noexcept;

/// Bulk copies; false when some of the memory is not there or may not be accessed that way.
bool read(std::uint64_t address, void* to, std::size_t bytes) noexcept;
bool write(std::uint64_t address, const void* from, std::size_t bytes) noexcept;

/// The first `bytes` of an argument structure; false for EFAULT.
bool copy_argument_in(std::uintptr_t argument, void* to, std::size_t bytes) noexcept;
bool copy_argument_out(std::uintptr_t argument, const void* from, std::size_t bytes) noexcept;

/// Brings every page of the range in, for writing or only for reading. 0, or the negative errno that pinning the range
/// gives.
int populate(std::uint64_t address, std::uint64_t bytes, bool writable) noexcept;

}  // namespace tidemark::kernel::user
