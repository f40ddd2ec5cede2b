// SPDX-License-Identifier: Apache-2.0

#include "cli/demo_request.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "cli/keys.hpp"

namespace tidemark::cli {
namespace {

constexpr std::array<std::string_view, 3> role_words{"both", "source", "destination"};

result<demo_role> role_of(const std::string& text) {
  const auto found = std::find(role_words.begin(), role_words.end(), text);
  if (found != role_words.end()) return static_cast<demo_role>(found - role_words.begin());
  return refusal("--role: " + in_quotes(text) + " is not known; allowed: both, source or destination");
}

/// The demo's connection is plain, and its two halves trust whoever is there.
result<void> check_address(const std::string& address) {
  const auto host = parse_endpoint(address)->host;
  if (host == "localhost" || host == "::1" || host.starts_with("127.")) return {};
  return refusal(
      "--address: the demo stays on this host (127.0.0.1, ::1 or localhost); between hosts use tidemark receive and "
      "tidemark migrate");
}

result<void> check_role(const demo_request& request) {
  if (auto good = check_address(request.address); !good) return good;
  if (request.role == demo_role::source && parse_endpoint(request.address)->port == 0) {
    return refusal("--role source: where is the destination? add --address HOST:PORT, as the destination printed it");
  }
  if (request.role == demo_role::source && request.flip_byte) {
    return refusal("--inject: flip-byte happens at the destination; give it there");
  }
  return {};
}

}  // namespace

result<void> check_test_device(const std::string& name) {
  if (name.starts_with(TIDEMARK_TEST_DEVICE_NAME ".")) return {};
  return refusal("--device: " + in_quotes(name) + " is no test device; allowed: " TIDEMARK_TEST_DEVICE_NAME ".0 and so on");
}

result<demo_request> demo_of(const demo_words& given, bool json, settings chosen) {
  const auto role = role_of(given.role);
  if (!role) return role.error();
  if (given.inject && *given.inject != "flip-byte")
    return refusal("--inject: " + in_quotes(*given.inject) + " is not known; allowed: flip-byte");
  if (auto good = check_test_device(given.device); !good) return good.error();
  demo_request request;
  request.role = *role;
  request.json = json;
  request.flip_byte = given.inject.has_value();
  request.address = chosen.address;
  request.device = given.device;
  request.config = std::move(chosen);
  if (auto done = check_role(request); !done) return done.error();
  return request;
}

}  // namespace tidemark::cli
