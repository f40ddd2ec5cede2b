// SPDX-License-Identifier: Apache-2.0
//
// The table of all configuration keys: what each is called, what it may be, where its value goes. Files, options, range
// checks, error messages and --help are all driven by it. Constant; any thread.

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include <tidemark/page_run.hpp>

#include "cli/config.hpp"
#include "cli/size.hpp"

namespace tidemark::cli {

/// A value as written in a TOML file.
using written = std::variant<std::int64_t, std::string>;

struct number_rule {
  std::uint64_t settings::*field;
  std::uint64_t min, max;
  std::string_view unit;
};
struct size_rule {
  std::uint64_t settings::*field;
  std::uint64_t min, max;
  std::string_view unit;
  std::uint64_t multiple_bytes = 1;
};
struct limit_rule {  ///< a size, or "unlimited"
  std::optional<std::uint64_t> settings::*field;
  std::uint64_t min, max;
  std::string_view unit;
};
template <class Choice>
struct choice_rule {  ///< one of these words; the value is the word's place
  Choice settings::*field;
  std::span<const std::string_view> words;
};
struct text_rule {  ///< any; empty: none
  std::string migration_identity::*field;
  std::string_view what;
};
struct name_rule {  ///< of something that the kernel has, or "auto"
  std::string settings::*field;
  std::string_view what;
  std::size_t letters_max;
};
struct endpoint_rule {
  std::string settings::*field;
};

struct key {
  std::string_view table;
  std::string_view name;
  std::string_view option;   ///< "--memory"
  std::string_view metavar;  ///< what --help calls the value
  std::string_view meaning;  ///< for --help
  std::variant<number_rule, size_rule, limit_rule, choice_rule<kernel_choice>, choice_rule<log_level>,
               choice_rule<page_kind>, choice_rule<compression>, text_rule, name_rule, endpoint_rule>
      rule;

  std::string full_name() const { return std::string(table) + "." + std::string(name); }
};

std::span<const key> keys();
const key* find_key(std::string_view table, std::string_view name);

/// What the key may be, with unit and range: "1 to 64 blocks".
std::string allowed(const key& which);

/// The value it has, as one would write it.
std::string value_text(const key& which, const settings& from);

checked<void> assign(const key& which, settings& target, const written& value);

/// The same from an option's text, in which a number is digits.
checked<void> assign_text(const key& which, settings& target, const std::string& text);

/// Host and port of HOST:PORT or [HOST]:PORT.
struct endpoint {
  std::string host;
  std::uint16_t port = 0;
};
checked<endpoint> parse_endpoint(std::string_view text);

}  // namespace tidemark::cli
