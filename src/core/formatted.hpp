// SPDX-License-Identifier: Apache-2.0
//
// Short texts by printf's formats, for tables and pictures. Threading: any.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <string>

namespace tidemark::core {

/// At most 511 characters; the rest is cut off.
template <class... Values>
std::string formatted(const char* how, Values... values) {
  std::array<char, 512> text{};
  const int length = std::snprintf(text.data(), text.size(), how, values...);
  return {text.data(), static_cast<std::size_t>(std::clamp(length, 0, static_cast<int>(text.size()) - 1))};
}

}  // namespace tidemark::core
