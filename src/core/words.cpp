// SPDX-License-Identifier: Apache-2.0

#include "core/words.hpp"

#include <array>
#include <cinttypes>
#include <cstddef>
#include <cstdio>

namespace tidemark::core {

std::string words(std::uint64_t address) {
  std::array<char, 24> text{};
  const int length = std::snprintf(text.data(), text.size(), "0x%" PRIx64, address);
  return {text.data(), static_cast<std::size_t>(length)};
}

std::string words(const iova_range& range) { return "[" + words(range.iova) + ", +" + words(range.size) + ")"; }

}  // namespace tidemark::core
