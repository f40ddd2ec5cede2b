// SPDX-License-Identifier: Apache-2.0
//
// Where a peer listens, or we do: "HOST:PORT", "[IPV6]:PORT" or "unix:PATH".
//
// Threading: values. resolve() may block for seconds on a name server: it is called before the loop runs, or on another
// thread.

#pragma once

#include <sys/socket.h>
#include <tidemark/error.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace tidemark::ring {

/// A name can stand for several places; they are tried in order.
struct address {
  struct place {
    sockaddr_storage socket{};
    socklen_t size_bytes = 0;
  };

  std::string text;           ///< as it was given, for messages
  std::vector<place> places;  ///< at least one

  /// A UNIX socket's.
  bool is_local() const noexcept { return places.front().socket.ss_family == AF_UNIX; }
};

/// BLOCKS on the name server when HOST is a name; a number and a path never block.
result<address> resolve(std::string_view text);

}  // namespace tidemark::ring
