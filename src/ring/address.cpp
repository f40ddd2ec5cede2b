// SPDX-License-Identifier: Apache-2.0

#include "ring/address.hpp"

#include <netdb.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>

namespace tidemark::ring {

namespace {

constexpr std::string_view local_prefix = "unix:";
constexpr std::size_t path_max = sizeof(sockaddr_un::sun_path) - 1;

struct host_and_port {
  std::string host;
  std::string port;
};

bool is_port(std::string_view text) noexcept {
  std::uint16_t port = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), port);
  return failed == std::errc{} && end == text.data() + text.size();
}

std::optional<host_and_port> split(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || !is_port(text.substr(colon + 1))) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  // Without brackets nobody can tell where an IPv6 address ends and the port begins; within them stands nothing else.
  if (bracketed != (host.find(':') != std::string_view::npos)) return std::nullopt;
  return host_and_port{std::string(host), std::string(text.substr(colon + 1))};
}

error unresolved(std::string_view text, int answer) {
  if (answer == EAI_SYSTEM) return kernel_error(operation::connect_peer, errno, {}, "resolving '" + std::string(text) + "'");
  return kernel_error(operation::connect_peer, EHOSTUNREACH, {},
                      "the name in '" + std::string(text) + "' does not resolve (" + gai_strerror(answer) +
                          "); check its spelling and the name server, or give the number");
}

result<address> local(std::string_view text) {
  const auto path = text.substr(local_prefix.size());
  if (path.empty() || path.find('\0') != std::string_view::npos)
    return kernel_error(operation::connect_peer, EINVAL, {}, "'unix:' stands before the path of a socket: unix:PATH");
  if (path.size() > path_max) {
    return kernel_error(operation::connect_peer, ENAMETOOLONG, {},
                        "the path of '" + std::string(text) + "' has " + std::to_string(path.size()) +
                            " bytes; a socket's has at most " + std::to_string(path_max));
  }
  address answer{std::string(text), std::vector<address::place>(1)};
  auto& place = answer.places.front();
  auto& socket = reinterpret_cast<sockaddr_un&>(place.socket);
  socket.sun_family = AF_UNIX;
  std::memcpy(socket.sun_path, path.data(), path.size());
  place.size_bytes = sizeof socket;
  return answer;
}

}  // namespace

result<address> resolve(std::string_view text) {
  if (text.substr(0, local_prefix.size()) == local_prefix) return local(text);
  const auto parts = split(text);
  if (!parts) {
    return kernel_error(operation::connect_peer, EINVAL, {},
                        "'" + std::string(text) +
                            "' is no address; write HOST:PORT, or [IPV6]:PORT, with a port from 0 to 65535, or unix:PATH");
  }
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int answer = ::getaddrinfo(parts->host.c_str(), parts->port.c_str(), &wanted, &found))
    return unresolved(text, answer);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, ::freeaddrinfo);
  address answer{std::string(text), {}};
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    auto& place = answer.places.emplace_back();
    std::memcpy(&place.socket, at->ai_addr, at->ai_addrlen);
    place.size_bytes = at->ai_addrlen;
  }
  return answer;
}

}  // namespace tidemark::ring
