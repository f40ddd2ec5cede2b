// SPDX-License-Identifier: Apache-2.0

#include "cli/keys.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace tidemark::cli {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::uint64_t tib = std::uint64_t{1} << 40;
constexpr std::uint64_t seed_max = std::numeric_limits<std::int64_t>::max();  // TOML has no larger integers

constexpr std::array<std::string_view, 2> kernel_words{"model", "linux"};
constexpr std::array<std::string_view, 3> page_words{"small", "thp", "huge"};
constexpr std::array<std::string_view, 4> compression_words{"auto", "none", "lz4", "zstd"};
constexpr std::array<std::string_view, 7> level_words{"trace", "debug", "info", "warning", "error", "critical", "off"};

const std::array table{
    key{"demo", "memory", "--memory", "SIZE", "RAM blocks together; a multiple of the blocks times 4KiB",
        size_rule{&settings::memory_bytes, page_bytes, 8 * tib, "of memory", page_bytes}},
    key{"demo", "blocks", "--blocks", "COUNT", "RAM blocks that the memory is in",
        number_rule{&settings::blocks, 1, 64, "blocks"}},
    key{"demo", "cpu_rate", "--cpu-rate", "SIZE", "pages that the CPU thread dirties",
        size_rule{&settings::cpu_rate_bytes, 0, tib, "a second"}},
    key{"demo", "device_rate", "--device-rate", "SIZE", "pages that the device dirties",
        size_rule{&settings::device_rate_bytes, 0, tib, "a second"}},
    key{"demo", "region_changes_per_second", "--region-changes", "COUNT", "regions added or removed meanwhile",
        number_rule{&settings::region_changes_per_second, 0, 1000, "changes a second"}},
    key{"demo", "kernel", "--kernel", "WHICH", "whose VFIO answers: the one in this program, or this host's",
        choice_rule<kernel_choice>{&settings::kernel, kernel_words}},
    key{"demo", "seed", "--seed", "NUMBER", "what the order of writes and region changes comes from",
        number_rule{&settings::seed, 0, seed_max, ""}},
    key{"demo", "address", "--address", "HOST:PORT", "where the destination listens and the source connects",
        endpoint_rule{&settings::address}},
    key{"demo", "bandwidth", "--bandwidth", "SIZE", "what may be sent",
        limit_rule{&settings::demo_bandwidth_bytes, mib, tib, "a second"}},
    key{"guest", "memory", "--memory", "SIZE", "RAM of the guest that is made up, without --ram",
        size_rule{&settings::guest_memory_bytes, page_bytes, 8 * tib, "of memory", page_bytes}},
    key{"guest", "cpu_rate", "--cpu-rate", "SIZE", "pages that its CPU thread dirties",
        size_rule{&settings::guest_cpu_rate_bytes, 0, tib, "a second"}},
    key{"guest", "device_rate", "--device-rate", "SIZE", "pages that its device dirties, with --device",
        size_rule{&settings::guest_device_rate_bytes, 0, tib, "a second"}},
    key{"guest", "seed", "--seed", "NUMBER", "what its memory and the order of writes come from",
        number_rule{&settings::guest_seed, 0, seed_max, ""}},
    key{"migration", "downtime_ms", "--downtime-ms", "COUNT", "longest standstill of the guest at the switchover",
        number_rule{&settings::downtime_ms, 1, 60000, "milliseconds"}},
    key{"migration", "bandwidth", "--bandwidth", "SIZE", "what may be sent",
        limit_rule{&settings::bandwidth_bytes, mib, tib, "a second"}},
    key{"migration", "rounds_max", "--rounds-max", "COUNT", "rounds of pre-copy before the guest is stopped anyway",
        number_rule{&settings::rounds_max, 1, 1000, "rounds"}},
    key{"migration", "batch_pages", "--batch-pages", "COUNT", "pages of one batch of the stream",
        number_rule{&settings::batch_pages, 1, 4096, "pages"}},
    key{"migration", "channels", "--channels", "COUNT", "connections at once, each with a thread",
        number_rule{&settings::channels, 1, 64, "channels"}},
    key{"migration", "compression", "--compression", "HOW", "how pages are packed; auto: as it pays, measured on the way",
        choice_rule<compression>{&settings::pages, compression_words}},
    key{"migration", "congestion_control", "--congestion-control", "NAME",
        "the kernel's, for what is sent over TCP; auto: the host's own choice, but reno to a loopback address",
        name_rule{&settings::congestion_control, "one of net.ipv4.tcp_available_congestion_control", 15}},
    key{"migration", "recovery_ms", "--recovery-ms", "COUNT", "how long a broken connection is tried anew",
        number_rule{&settings::recovery_ms, 0, 3600000, "milliseconds"}},
    key{"identity", "certificate", "--tls-certificate", "FILE", "PEM: this side's certificate",
        text_rule{&migration_identity::certificate, "a file"}},
    key{"identity", "key", "--tls-key", "FILE", "PEM: its key, readable by nobody else",
        text_rule{&migration_identity::key, "a file"}},
    key{"identity", "authority", "--tls-authority", "FILE", "PEM: who must have signed the other side's certificate",
        text_rule{&migration_identity::authority, "a file"}},
    key{"identity", "peer_name", "--tls-peer-name", "NAME",
        "name in the destination's certificate, if it is not the host of its address",
        text_rule{&migration_identity::peer_name, "a host's name or address"}},
    key{"identity", "psk", "--psk", "FILE", "a key that both sides have instead: 32 hexadecimal digits or more",
        text_rule{&migration_identity::psk, "a file"}},
    key{"bench", "kernel", "--kernel", "WHICH", "whose VFIO answers: the one in this program, or this host's",
        choice_rule<kernel_choice>{&settings::bench_kernel, kernel_words}},
    key{"bench", "memory", "--memory", "SIZE", "memory that is mapped; a multiple of 2MiB",
        size_rule{&settings::bench_memory_bytes, 4 * mib, tib, "of memory", 2 * mib}},
    key{"bench", "pages", "--pages", "KIND", "pages that the memory is in",
        choice_rule<page_kind>{&settings::bench_pages, page_words}},
    key{"bench", "map_size", "--map-size", "SIZE", "one of the neighbours of a burst; a power of two",
        size_rule{&settings::bench_map_bytes, page_bytes, 2 * mib, "each", page_bytes}},
    key{"bench", "in_flight", "--in-flight", "COUNT", "requests given before the first is answered",
        number_rule{&settings::bench_in_flight, 1, 256, "requests"}},
    key{"bench", "operations", "--operations", "COUNT", "maps and unmaps of one run of a pattern",
        number_rule{&settings::bench_operations, 2, 10000000, "operations"}},
    key{"bench", "held", "--held", "COUNT", "mappings held where the price of many is measured",
        number_rule{&settings::bench_held, 1000, 100000000, "mappings"}},
    key{"log", "level", "--log-level", "LEVEL", "least severe message on standard error",
        choice_rule<log_level>{&settings::level, level_words}},
};

std::string with_unit(std::string range, std::string_view unit) {
  if (!unit.empty()) range.append(" ").append(unit);
  return range;
}

std::string range_of(const number_rule& rule) {
  return with_unit(std::to_string(rule.min) + " to " + std::to_string(rule.max), rule.unit);
}
std::string range_of(const size_rule& rule) {
  return with_unit(size_text(rule.min) + " to " + size_text(rule.max), rule.unit);
}
std::string range_of(const limit_rule& rule) {
  return with_unit(size_text(rule.min) + " to " + size_text(rule.max), rule.unit) + ", or \"unlimited\"";
}
template <class Choice>
std::string range_of(const choice_rule<Choice>& rule) {
  std::string list;
  for (std::size_t i = 0; i < rule.words.size(); ++i) {
    if (i != 0) list += i + 1 == rule.words.size() ? " or " : ", ";
    list += in_quotes(rule.words[i]);
  }
  return list;
}
std::string range_of(const text_rule& rule) { return std::string(rule.what); }
std::string range_of(const name_rule& rule) { return "\"auto\", or " + std::string(rule.what); }
std::string range_of(const endpoint_rule&) { return "HOST:PORT, or [HOST]:PORT for IPv6, port 0 to 65535"; }

std::string text_of(const number_rule& rule, const settings& from) { return std::to_string(from.*rule.field); }
std::string text_of(const size_rule& rule, const settings& from) { return size_text(from.*rule.field); }
std::string text_of(const limit_rule& rule, const settings& from) {
  const auto& limit = from.*rule.field;
  return limit ? size_text(*limit) : "unlimited";
}
template <class Choice>
std::string text_of(const choice_rule<Choice>& rule, const settings& from) {
  return std::string(rule.words[static_cast<std::size_t>(from.*rule.field)]);
}
std::string text_of(const text_rule& rule, const settings& from) {
  const auto& text = from.identity.*rule.field;
  return text.empty() ? "none" : text;
}
std::string text_of(const name_rule& rule, const settings& from) { return from.*rule.field; }
std::string text_of(const endpoint_rule& rule, const settings& from) { return from.*rule.field; }

std::string as_written(const written& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
  return in_quotes(std::get<std::string>(value));
}

checked<std::uint64_t> in_range(checked<std::uint64_t> number, std::uint64_t min, std::uint64_t max, const written& value) {
  if (number && (*number < min || *number > max)) return problem{as_written(value) + " is out of range"};
  return number;
}

checked<std::uint64_t> size_of(const written& value) {
  const auto* integer = std::get_if<std::int64_t>(&value);
  if (!integer) return parse_size(std::get<std::string>(value));
  if (*integer < 0) return problem{as_written(value) + " is out of range"};
  return static_cast<std::uint64_t>(*integer);
}

checked<void> put(const number_rule& rule, settings& target, const written& value) {
  const auto* integer = std::get_if<std::int64_t>(&value);
  if (!integer) return problem{as_written(value) + " is a string, not an integer"};
  const auto number = in_range(size_of(value), rule.min, rule.max, value);
  if (!number) return number.error();
  target.*rule.field = *number;
  return {};
}

checked<void> put(const size_rule& rule, settings& target, const written& value) {
  const auto size = in_range(size_of(value), rule.min, rule.max, value);
  if (!size) return size.error();
  if (*size % rule.multiple_bytes != 0) {
    const auto below = *size - *size % rule.multiple_bytes;
    return problem{as_written(value) + " is no multiple of " +
                   (rule.multiple_bytes == page_bytes ? "the page (4KiB)" : size_text(rule.multiple_bytes)) +
                   "; the nearest are " + size_text(below) + " and " + size_text(below + rule.multiple_bytes)};
  }
  target.*rule.field = *size;
  return {};
}

checked<void> put(const limit_rule& rule, settings& target, const written& value) {
  if (const auto* word = std::get_if<std::string>(&value); word && *word == "unlimited") {
    target.*rule.field = std::nullopt;
    return {};
  }
  const auto size = in_range(size_of(value), rule.min, rule.max, value);
  if (!size) return size.error();
  target.*rule.field = *size;
  return {};
}

template <class Choice>
checked<void> put(const choice_rule<Choice>& rule, settings& target, const written& value) {
  const auto* word = std::get_if<std::string>(&value);
  const auto found = word ? std::find(rule.words.begin(), rule.words.end(), *word) : rule.words.end();
  if (found == rule.words.end()) return problem{as_written(value) + " is not known"};
  target.*rule.field = static_cast<Choice>(found - rule.words.begin());
  return {};
}

checked<void> put(const text_rule& rule, settings& target, const written& value) {
  const auto* text = std::get_if<std::string>(&value);
  if (!text) return problem{as_written(value) + " is an integer, not a string"};
  target.identity.*rule.field = *text;
  return {};
}

checked<void> put(const name_rule& rule, settings& target, const written& value) {
  const auto* text = std::get_if<std::string>(&value);
  if (!text) return problem{as_written(value) + " is an integer, not a string"};
  if (text->empty() || text->size() > rule.letters_max) return problem{as_written(value) + " is no name of one"};
  target.*rule.field = *text;
  return {};
}

checked<void> put(const endpoint_rule& rule, settings& target, const written& value) {
  const auto* text = std::get_if<std::string>(&value);
  if (!text) return problem{as_written(value) + " is an integer, not a string"};
  const auto parsed = parse_endpoint(*text);
  if (!parsed) return parsed.error();
  target.*rule.field = *text;
  return {};
}

}  // namespace

std::span<const key> keys() { return table; }

const key* find_key(std::string_view table_name, std::string_view name) {
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const key& k) { return k.table == table_name && k.name == name; });
  return found == table.end() ? nullptr : &*found;
}

std::string allowed(const key& which) {
  return std::visit([](const auto& rule) { return range_of(rule); }, which.rule);
}

std::string value_text(const key& which, const settings& from) {
  return std::visit([&](const auto& rule) { return text_of(rule, from); }, which.rule);
}

checked<void> assign(const key& which, settings& target, const written& value) {
  auto done = std::visit([&](const auto& rule) { return put(rule, target, value); }, which.rule);
  if (done) return done;
  return problem{done.error().text + "; allowed: " + allowed(which)};
}

checked<void> assign_text(const key& which, settings& target, const std::string& text) {
  if (!std::holds_alternative<number_rule>(which.rule)) return assign(which, target, text);
  const auto number = parse_number(text);
  if (!number) return problem{number.error().text + "; allowed: " + allowed(which)};
  if (*number > seed_max) return problem{in_quotes(text) + " is out of range; allowed: " + allowed(which)};
  return assign(which, target, static_cast<std::int64_t>(*number));
}

checked<endpoint> parse_endpoint(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return problem{in_quotes(text) + " has no port"};
  auto host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (!bracketed && host.find(':') != std::string_view::npos)
    return problem{in_quotes(text) + " has an IPv6 address without [ ]"};
  const auto is_bad = [](char c) { return c <= ' ' || c == 0x7f || c == '[' || c == ']' || c == '/'; };
  if (host.empty() || std::any_of(host.begin(), host.end(), is_bad)) return problem{in_quotes(text) + " has no usable host"};
  const auto port = parse_number(text.substr(colon + 1));
  if (!port || *port > 65535) return problem{in_quotes(text) + " has no usable port"};
  return endpoint{std::string(host), static_cast<std::uint16_t>(*port)};
}

}  // namespace tidemark::cli
