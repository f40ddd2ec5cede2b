// SPDX-License-Identifier: Apache-2.0

#include "cli/size.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <stdexcept>

namespace tidemark::cli {
namespace {

struct unit {
  std::string_view name;
  unsigned shift;
};
constexpr std::array units{unit{"", 0},   unit{"KiB", 10}, unit{"MiB", 20}, unit{"GiB", 30}, unit{"TiB", 40},
                           unit{"K", 10}, unit{"M", 20},   unit{"G", 30},   unit{"T", 40}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::optional<std::uint64_t> number(std::string_view digits) {
  std::uint64_t value = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (failure != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace

void throw_exception_from_error(const problem& what, const boost::source_location&) {
  throw std::invalid_argument(what.text);
}

std::string in_quotes(std::string_view text) {
  std::string line(text);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }, '?');
  return '"' + line + '"';
}

checked<std::uint64_t> parse_number(std::string_view text) {
  if (text.empty() || !std::all_of(text.begin(), text.end(), is_digit))
    return problem{in_quotes(text) + " is not a whole number"};
  if (const auto value = number(text)) return *value;
  return problem{in_quotes(text) + " is too large a number"};
}

checked<std::uint64_t> parse_size(std::string_view text) {
  const auto unit_at = std::find_if_not(text.begin(), text.end(), is_digit);
  const std::string_view digits(text.begin(), unit_at);
  const std::string_view suffix(unit_at, text.end());
  if (digits.empty() || suffix.starts_with('.') || suffix.starts_with(',')) {
    return problem{in_quotes(text) + " is no size such as 4096 or 64MiB"};
  }

  const auto known = std::find_if(units.begin(), units.end(), [&](const unit& u) { return u.name == suffix; });
  if (known == units.end()) {
    return problem{in_quotes(text) + " has the unknown unit " + in_quotes(suffix) + " (there are KiB, MiB, GiB and TiB)"};
  }

  const auto value = number(digits);
  if (!value || *value > std::numeric_limits<std::uint64_t>::max() >> known->shift) {
    return problem{in_quotes(text) + " is too large a size"};
  }
  return *value << known->shift;
}

std::string size_text(std::uint64_t bytes) {
  for (auto u = units.begin() + 4; bytes != 0 && u != units.begin(); --u) {
    if (bytes % (std::uint64_t{1} << u->shift) == 0) return std::to_string(bytes >> u->shift) + std::string(u->name);
  }
  return std::to_string(bytes);
}

}  // namespace tidemark::cli
