// SPDX-License-Identifier: Apache-2.0

#include "cli/markup.hpp"

#include <cstddef>
#include <cstdint>

namespace tidemark::cli {
namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd";

/// How many bytes the character at the beginning has; 0 when it is no UTF-8, or none that XML can hold.
std::size_t character_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : first == '\n' || first == '\t' ? 1 : 0;
  const std::size_t length = first >= 0xf5 ? 0 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (length == 0 || text.size() < length) return 0;
  std::uint32_t code = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fU);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool unheld = (code >= 0xd800 && code < 0xe000) || code == 0xfffe || code == 0xffff || code > 0x10ffff;
  return overlong || unheld ? 0 : length;
}

std::string_view written(char c) {
  switch (c) {
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '&':
      return "&amp;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    default:
      return {};
  }
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string safe;
  while (!text.empty()) {
    const auto length = character_length(text);
    const auto instead = length == 0 ? replacement : written(text.front());
    safe += instead.empty() ? text.substr(0, length) : instead;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return safe;
}

}  // namespace tidemark::cli
