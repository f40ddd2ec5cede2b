// SPDX-License-Identifier: Apache-2.0
//
// TLS 1.3 over a byte_stream, both sides authenticated: by certificates that one authority signed, or by a pre-shared key.
//
//   const auto context = tls_context::make({.psk_file = "/etc/tidemark/psk"});      // once: reads the files
//   auto safe = co_await tls_connect(std::move(stream), *context, "host-7");        // one side
//   auto safe = co_await tls_accept(std::move(stream), *context);                   // the other
//
// Threading: a context may be used by any thread, and by many at once; streams are their loop's.
//
// Invariants
//  1. Nothing older than TLS 1.3, no renegotiation, no tickets, no early data. Of ciphers AES-128-GCM comes first where
//     both processors have instructions for it, else ChaCha20-Poly1305.
//  2. A stream comes out of a handshake only if the peer proved who it is. A server that refuses a client may tell it after
//     tls_connect has completed (TLS 1.3 is like that): the first read or write then fails with errc::untrusted.
//  3. Keys are renewed long before they have sealed more than AES-GCM may (2^24.5 records).
//  4. close() is as the stream's below: at once, and without a farewell (close_notify). A peer that is cut off and one that
//     closed are both errc::peer_closed, so what was said must say by itself where it ends, as frames do.
//
// A handshake has no time limit of its own: who wants one closes the stream below, which completes it, or destroys the
// task. Whoever keeps the stream below may talk to a peer that speaks no TLS when the handshake has failed.

#pragma once

#include <tidemark/error.hpp>

#include <cstdint>
#include <memory>
#include <string>

#include "ring/byte_stream.hpp"
#include "ring/task.hpp"

namespace tidemark::ring {

/// The first three files, or the last one.
struct tls_options {
  std::string certificate_file;  ///< PEM: our own, then any between it and the authority's
  std::string key_file;          ///< PEM, without a password: our certificate's; for no other user's eyes
  std::string authority_file;    ///< PEM: who must have signed the peer's certificate
  std::string psk_file;          ///< hexadecimal digits, 16 to 256 bytes of them; for no other user's eyes

  std::uint64_t rekey_after_bytes = std::uint64_t{64} << 30;
};

namespace detail {
struct tls_material;
}

/// What a side shows and believes.
class tls_context {
 public:
  /// Reads the files. Its error says which is wrong, and how to mend it.
  static result<tls_context> make(const tls_options& options);

 private:
  friend task<result<std::unique_ptr<byte_stream>>> tls_connect(std::shared_ptr<byte_stream>, const tls_context&,
                                                                std::string);
  friend task<result<std::unique_ptr<byte_stream>>> tls_accept(std::shared_ptr<byte_stream>, const tls_context&);

  explicit tls_context(std::shared_ptr<const detail::tls_material> material) noexcept : material_(std::move(material)) {}

  std::shared_ptr<const detail::tls_material> material_;
};

/// The client's side. `name` is a host name or an IP address that the server's certificate must be for; a pre-shared key
/// needs none.
task<result<std::unique_ptr<byte_stream>>> tls_connect(std::shared_ptr<byte_stream> below, const tls_context& context,
                                                       std::string name);

/// The server's side.
task<result<std::unique_ptr<byte_stream>>> tls_accept(std::shared_ptr<byte_stream> below, const tls_context& context);

}  // namespace tidemark::ring
