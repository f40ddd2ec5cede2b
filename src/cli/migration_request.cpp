// SPDX-License-Identifier: Apache-2.0

#include "cli/migration_request.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "cli/keys.hpp"
#include "kernel/test_device.h"

namespace tidemark::cli {

namespace {

constexpr std::array<std::string_view, 4> address_kinds{"tcp:", "unix:", "file:", "fd:"};

bool is_tcp(const std::string& address) { return address.starts_with("tcp:"); }

result<void> check_address(const std::string& command, const std::string& address) {
  const auto kind =
      std::find_if(address_kinds.begin(), address_kinds.end(), [&](auto prefix) { return address.starts_with(prefix); });
  if (kind == address_kinds.end() || address.size() == kind->size())
    return refusal(command + ": " + in_quotes(address) +
                   " is no address; allowed: tcp:HOST:PORT, unix:PATH, file:PATH or fd:PATH");
  if (!is_tcp(address)) return {};
  const auto parsed = parse_endpoint(std::string_view(address).substr(kind->size()));
  if (!parsed)
    return refusal(command + ": " + parsed.error().text + "; allowed: tcp:HOST:PORT, or tcp:[HOST]:PORT for IPv6");
  if (command == "migrate" && parsed->port == 0)
    return refusal("migrate: where is the destination? give tcp:HOST:PORT, as 'tidemark receive' printed it");
  return {};
}

/// Over TCP each side says who it is, or that nobody is to.
result<void> check_identity(const migration_identity& identity, const migration_words& given) {
  const bool by_key = !identity.psk.empty();
  const auto files = std::array{&identity.certificate, &identity.key, &identity.authority};
  const auto named = std::count_if(files.begin(), files.end(), [](const auto* file) { return !file->empty(); });
  if (!is_tcp(given.address)) {
    if (given.plain) return refusal("--plain is for tcp: only; " + given.address + " stays on this host");
    return {};
  }
  if (given.plain && (by_key || named != 0))
    return refusal("--plain: without TLS nobody is asked who he is; leave it out, or the certificates and the key");
  if (given.plain) return {};
  if (by_key && named != 0) return refusal("--psk: either a key that both sides have, or certificates");
  if (!by_key && named != 3)
    return refusal(named == 0 ? "who are you? give --psk FILE, or --tls-certificate, --tls-key and --tls-authority; or "
                                "--plain, where everybody on the way may read and change the guest's memory"
                              : "--tls-certificate, --tls-key and --tls-authority belong together");
  return {};
}

result<void> check_device(const std::string& device) {
  if (device.empty() || device.starts_with(TIDEMARK_TEST_DEVICE_NAME ".")) return {};
  return refusal("--device: " + in_quotes(device) +
                 " is no test device; allowed: " TIDEMARK_TEST_DEVICE_NAME ".0 and so on");
}

result<migration_peer> peer_of(const std::string& command, const migration_words& given, const settings& chosen) {
  if (auto good = check_address(command, given.address); !good) return good.error();
  if (auto good = check_identity(chosen.identity, given); !good) return good.error();
  if (auto good = check_device(given.device); !good) return good.error();
  return migration_peer{given.address, static_cast<unsigned>(chosen.channels), given.plain, chosen.identity};
}

}  // namespace

result<migrate_request> migrate_of(const migration_words& given, bool json, settings chosen) {
  auto to = peer_of("migrate", given, chosen);
  if (!to) return to.error();
  if (given.address.starts_with("fd:") && !given.ram.empty())
    return refusal("--ram: over fd: memory files are handed over, which the guest that is made up has");
  return migrate_request{std::move(chosen), std::move(*to), given.ram, given.device, given.report, json};
}

result<receive_request> receive_of(const migration_words& given, bool json, settings chosen) {
  auto at = peer_of("receive", given, chosen);
  if (!at) return at.error();
  if (given.address.starts_with("fd:") && !given.ram.empty()) return refusal("--ram: over fd: the memory itself arrives");
  return receive_request{std::move(chosen), std::move(*at), given.ram, given.device, json};
}

}  // namespace tidemark::cli
