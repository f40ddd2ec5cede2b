// SPDX-License-Identifier: Apache-2.0

#include "cli/migration_request.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "cli/demo_request.hpp"
#include "cli/keys.hpp"

namespace tidemark::cli {

namespace {

constexpr std::array<std::string_view, 4> address_kinds{"tcp:", "unix:", "file:", "fd:"};

bool is_tcp(const std::string& address) { return address.starts_with("tcp:"); }

result<void> check_address(const std::string& command, const std::string& address) {
  const auto kind =
      std::find_if(address_kinds.begin(), address_kinds.end(), [&](auto prefix) { return address.starts_with(prefix); });
  if (kind == address_kinds.end() || address.size() == kind->size())
    return refusal(command + ": " + in_quotes(address) +
                   " is no address; allowed: tcp:HOST:PORT, unix:PATH, fd:PATH or file:PATH");
  if (!is_tcp(address)) return {};
  const auto parsed = parse_endpoint(std::string_view(address).substr(kind->size()));
  if (!parsed)
    return refusal(command + ": " + parsed.error().text + "; allowed: tcp:HOST:PORT, or tcp:[HOST]:PORT for IPv6");
  if (command == "migrate" && parsed->port == 0)
    return refusal("migrate: where is the destination? give tcp:HOST:PORT, as 'tidemark receive' printed it");
  return {};
}

/// Given on the command line, so that it is meant for this very migration; a configuration file is for many.
bool is_option(const settings& chosen, const std::string& key_name) {
  const auto origin = chosen.origins.find(key_name);
  return origin != chosen.origins.end() && origin->second.starts_with("--");
}

result<void> check_for_no_tcp(const migration_words& given, const settings& chosen) {
  const auto needless = [&](const std::string& option) {
    return refusal(option + " is for tcp: only; " + given.address + " stays on this host");
  };
  if (given.plain) return needless("--plain");
  for (const auto& k : keys())
    if ((k.table == "identity" || k.name == "congestion_control") && is_option(chosen, k.full_name()))
      return needless(std::string(k.option));
  return {};
}

/// Over TCP each side says who it is, or that nobody is to.
result<void> check_identity(const migration_identity& identity, bool plain) {
  const bool by_key = !identity.psk.empty();
  const auto files = std::array{&identity.certificate, &identity.key, &identity.authority};
  const auto named = std::count_if(files.begin(), files.end(), [](const auto* file) { return !file->empty(); });
  if (plain && (by_key || named != 0))
    return refusal("--plain: nobody is asked who they are then; leave it out, or the certificates and the key");
  if (plain) return {};
  if (by_key && named != 0) return refusal("--psk: either a key that both sides have, or certificates");
  if (by_key || named == 3) return {};
  if (named != 0) return refusal("--tls-certificate, --tls-key and --tls-authority belong together");
  return refusal(
      "tcp: each side has to prove who it is: give --psk, or --tls-certificate, --tls-key and --tls-authority; or --plain, "
      "with which everybody on the way may read and change the guest's memory");
}

result<void> check_device(const std::optional<std::string>& device) {
  return device ? check_test_device(*device) : result<void>();
}

result<migration_peer> peer_of(const std::string& command, const migration_words& given, const settings& chosen) {
  if (auto good = check_address(command, given.address); !good) return good.error();
  auto proved = is_tcp(given.address) ? check_identity(chosen.identity, given.plain) : check_for_no_tcp(given, chosen);
  if (!proved) return proved.error();
  if (auto good = check_device(given.device); !good) return good.error();
  return migration_peer{given.address, static_cast<unsigned>(chosen.channels), given.plain, chosen.identity,
                        chosen.congestion_control};
}

/// What the guest that is made up would not heed.
result<void> check_guest(const migration_words& given, const settings& chosen) {
  if (given.address.starts_with("fd:") && !given.ram.empty())
    return refusal("--ram: over fd: memory files are handed over, which the guest that is made up has");
  if (!given.ram.empty() && is_option(chosen, "guest.memory"))
    return refusal("--memory: the RAM blocks are as large as the --ram files; leave one of them out");
  if (!given.device && is_option(chosen, "guest.device_rate"))
    return refusal("--device-rate: the guest has no device; add --device " TIDEMARK_TEST_DEVICE_NAME ".0");
  if (given.report && given.report->empty()) return refusal("--report: which file?");
  return {};
}

}  // namespace

result<migrate_request> migrate_of(const migration_words& given, bool json, settings chosen) {
  auto to = peer_of("migrate", given, chosen);
  if (!to) return to.error();
  if (auto good = check_guest(given, chosen); !good) return good.error();
  return migrate_request{
      std::move(chosen), std::move(*to), given.ram, given.device.value_or(""), given.report.value_or(""), json};
}

result<receive_request> receive_of(const migration_words& given, bool json, settings chosen) {
  auto at = peer_of("receive", given, chosen);
  if (!at) return at.error();
  if (given.address.starts_with("fd:") && !given.ram.empty()) return refusal("--ram: over fd: the memory itself arrives");
  return receive_request{std::move(chosen), std::move(*at), given.ram, given.device.value_or(""), json};
}

}  // namespace tidemark::cli
