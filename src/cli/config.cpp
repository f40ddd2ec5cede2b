// SPDX-License-Identifier: Apache-2.0

#include "cli/config.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include <toml++/toml.h>

#include "cli/default_config.hpp"
#include "cli/keys.hpp"

namespace tidemark::cli {
namespace {

constexpr std::size_t file_bytes_max = 1 << 20;  // whoever names /dev/zero gets an answer

std::string where(const std::string& file, const toml::source_region& region) {
  return file + ":" + std::to_string(region.begin.line) + ":" + std::to_string(region.begin.column);
}

/// What a TOML value is called in a message about its type.
std::string_view type_name(const toml::node& value) {
  switch (value.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

std::string known_tables() {
  std::string list;
  std::string_view last;
  for (const auto& k : keys()) {
    if (k.table == last) continue;
    list.append(list.empty() ? "[" : ", [").append(k.table).append("]");
    last = k.table;
  }
  return list;
}

std::string known_keys(std::string_view table) {
  std::string list;
  for (const auto& k : keys()) {
    if (k.table != table) continue;
    list.append(list.empty() ? "" : ", ").append(k.name);
  }
  return list;
}

result<void> take_key(settings& target, const key& which, const toml::node& value, const std::string& file) {
  const auto place = where(file, value.source());
  const auto refused = [&](const std::string& why) { return refusal(place + ": " + std::string(which.name) + ": " + why); };
  written as_written;
  if (const auto integer = value.value_exact<std::int64_t>()) {
    as_written = *integer;
  } else if (auto text = value.value_exact<std::string>()) {
    as_written = std::move(*text);
  } else {
    return refused(std::string(type_name(value)) + " cannot be used here; allowed: " + allowed(which));
  }
  if (const auto done = assign(which, target, as_written); !done) return refused(done.error().text);
  target.origins[which.full_name()] = place;
  return {};
}

result<void> take_table(settings& target, std::string_view name, const toml::table& table, const std::string& file) {
  for (const auto& [key_name, value] : table) {
    const auto* known = find_key(name, key_name.str());
    if (!known) {
      return refusal(where(file, key_name.source()) + ": unknown key " + in_quotes(key_name.str()) + " in [" +
                     std::string(name) + "]; allowed: " + known_keys(name));
    }
    if (auto done = take_key(target, *known, value, file); !done) return done;
  }
  return {};
}

result<void> take_file(settings& target, const toml::table& root, const std::string& file) {
  for (const auto& [name, value] : root) {
    const auto place = where(file, name.source());
    const bool known = !known_keys(name.str()).empty();
    if (!known && !value.is_table()) {
      return refusal(place + ": key " + in_quotes(name.str()) + " is in no table; allowed: " + known_tables());
    }
    if (!known) return refusal(place + ": unknown table " + in_quotes(name.str()) + "; allowed: " + known_tables());
    if (!value.is_table()) {
      return refusal(place + ": " + in_quotes(name.str()) + " is " + std::string(type_name(value)) +
                     ", not a table; write [" + std::string(name.str()) + "] on a line of its own");
    }
    if (auto done = take_table(target, name.str(), *value.as_table(), file); !done) return done;
  }
  return {};
}

result<std::string> read_file(const std::string& path) {
  const auto failed = [&](int cause) {
    return kernel_error(operation::read_configuration, cause, {}, "cannot read " + path + ": " + std::strerror(cause));
  };
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return failed(errno);
  std::string text(file_bytes_max + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return failed(errno != 0 ? errno : EIO);
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > file_bytes_max) return refusal(path + " is over 1 MiB: that is no configuration file");
  return text;
}

}  // namespace

error refusal(std::string line) { return kernel_error(operation::read_configuration, EINVAL, {}, std::move(line)); }

result<void> override_from_text(settings& target, std::string_view text, const std::string& name) {
  try {
    settings changed = target;
    if (auto done = take_file(changed, toml::parse(text, name), name); !done) return done;
    target = std::move(changed);
    return {};
  } catch (const toml::parse_error& failure) {
    return refusal(where(name, failure.source()) + ": " + std::string(failure.description()) +
                   "; allowed: TOML, such as config/tidemark.toml");
  }
}

result<void> override_from(settings& target, const std::string& path) {
  const auto text = read_file(path);
  if (!text) return text.error();
  return override_from_text(target, *text, path);
}

result<settings> defaults() {
  settings chosen;
  const std::string name = "config/tidemark.toml";
  if (auto done = override_from_text(chosen, default_config(), name); !done) return done.error();
  for (const auto& k : keys()) {
    if (!chosen.origins.contains(k.full_name())) return refusal(name + ": " + k.full_name() + " is missing");
  }
  chosen.origins.clear();
  return chosen;
}

result<void> override_from_option(settings& target, const key& which, const std::string& text) {
  const std::string option(which.option);
  if (const auto done = assign_text(which, target, text); !done) return refusal(option + ": " + done.error().text);
  target.origins[which.full_name()] = option;
  return {};
}

result<void> check(const settings& chosen) {
  const auto step = page_bytes * chosen.blocks;
  if (chosen.memory_bytes % step == 0) return {};
  const auto below = chosen.memory_bytes - chosen.memory_bytes % step;
  const auto memory = chosen.origins.find("demo.memory");
  const auto origin = memory != chosen.origins.end() ? memory : chosen.origins.find("demo.blocks");
  return refusal((origin != chosen.origins.end() ? origin->second + ": " : std::string()) + size_text(chosen.memory_bytes) +
                 " of memory in " + std::to_string(chosen.blocks) + " blocks is not whole pages (4KiB) in each; nearest: " +
                 (below != 0 ? size_text(below) + " or " : std::string()) + size_text(below + step));
}

}  // namespace tidemark::cli
