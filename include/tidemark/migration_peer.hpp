// SPDX-License-Identifier: Apache-2.0
//
// Where a migration goes to, or comes from, and how each side knows the other.
//
// Addresses:
//   tcp:HOST:PORT, tcp:[IPV6]:PORT   a destination that listens there; port 0 to listen: a free one
//   unix:PATH                        the same on this host; who may connect is decided by the file's mode
//   file:PATH                        a snapshot: no destination runs the guest, it goes on here
//   fd:PATH                          a destination that listens at the UNIX socket PATH on this host: the memory itself
//                                    is handed over to it, and nothing is copied
//
// Over TCP both sides prove who they are, by TLS 1.3, with certificates or a key that both know; without only when
// `plain` says so. UNIX sockets need none.
//
// Threading: values.

#pragma once

#include <string>

namespace tidemark {

/// Files that say who this side is, and whom it believes. Certificates (all of the first three), or a key.
struct migration_identity {
  std::string certificate;  ///< PEM: this side's
  std::string key;          ///< PEM: its key, readable by nobody else
  std::string authority;    ///< PEM: who must have signed the other side's
  std::string peer_name;    ///< the source: the name in the destination's certificate; empty: the address's host
  std::string psk;          ///< hexadecimal digits, 16 bytes or more, readable by nobody else
};

struct migration_peer {
  std::string address;
  unsigned channels = 1;  ///< the source's choice: connections at once, each with a thread; 1 to 64
  bool plain = false;     ///< over TCP without TLS: anybody on the way reads and changes the guest's memory
  migration_identity identity{};
  /// The source, over TCP: the kernel's congestion control (tcp(7), TCP_CONGESTION) by name, such as cubic or dctcp. One
  /// that paces by itself, as bbr does, sets a timer for each 64 KiB; in a virtual machine that costs more than to copy
  /// them. "auto": the host's own choice; to a loopback address reno, which does not pace: there is no path to spare.
  std::string congestion_control = "auto";
};

}  // namespace tidemark
