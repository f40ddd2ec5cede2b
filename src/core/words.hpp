// SPDX-License-Identifier: Apache-2.0
//
// Addresses and ranges as errors write them. Pure.

#pragma once

#include <tidemark/error.hpp>

#include <cstdint>
#include <string>

namespace tidemark::core {

/// As 0x1000.
std::string words(std::uint64_t address);
/// As [0x1000, +0x200).
std::string words(const iova_range& range);

}  // namespace tidemark::core
