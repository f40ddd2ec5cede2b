// SPDX-License-Identifier: Apache-2.0
//
// One connection's TLS without its I/O: bytes that came go in, bytes to send come out. OpenSSL reads and writes two buffers
// of ours, and never waits.
//
// Threading: one thread.
//
// Invariants
//  1. OpenSSL's writes always fit: what it has to send is appended to `outgoing`. So sealing never has to be tried again,
//     and reading may append an answer while a write is under way.
//  2. OpenSSL asks for bytes only when it has taken all that came: room() is then the whole buffer.
//  3. What failed once fails in the same way ever after.

#pragma once

#include <openssl/ssl.h>
#include <sys/uio.h>
#include <tidemark/error.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ring/tls_material.hpp"

namespace tidemark::ring::detail {

class tls_engine {
 public:
  enum class side { client, server };
  enum class step { done, wants_bytes, failed };

  /// Sealed at a time, and taken from below at a time: as much as a frame may carry, so that each is sent at once. In pieces
  /// that stay in a core's own cache less is gained than waking the peer for each of them costs.
  static constexpr std::size_t batch_bytes = 1 << 20;

  static result<std::unique_ptr<tls_engine>> make(std::shared_ptr<const tls_material> ours, side as, std::string name);

  tls_engine(const tls_engine&) = delete;

  step handshake();

  /// Seals at most a batch from the front of `parts`, and answers what is left of them.
  result<std::span<iovec>> seal(std::span<iovec> parts);

  /// Opens at least a byte and at most a record into `into`, which is not empty. 0: more bytes have to come first.
  result<std::size_t> open(std::span<std::byte> into);

  /// Whether the peer has said that it gives up, in what came so far; its error then. Takes no bytes that open() would give.
  step look_for_refusal();

  std::span<std::byte> room() noexcept { return {incoming_.get(), batch_bytes}; }
  void came(std::size_t count) noexcept;
  /// What is to be sent: the caller takes it away.
  std::vector<char>& outgoing() noexcept { return outgoing_; }

  const error& failure() const noexcept { return *failure_; }

 private:
  tls_engine(std::shared_ptr<const tls_material> ours, std::string name);

  static int take(BIO* bio, char* into, std::size_t size, std::size_t* taken);
  static int append(BIO* bio, const char* from, std::size_t size, std::size_t* appended);
  static const BIO_METHOD* buffers();

  bool expect_name();
  result<void> write(const void* from, std::size_t size);
  std::span<iovec> gather(std::span<iovec> parts) noexcept;
  step after(int answer, operation what);
  step fail(error why);

  std::shared_ptr<const tls_material> ours_;
  std::string name_;  ///< a client's: what the server's certificate must be for
  std::unique_ptr<std::byte[]> incoming_;
  std::size_t taken_ = 0;  ///< of incoming_, by OpenSSL
  std::size_t filled_ = 0;
  std::vector<char> outgoing_;
  std::vector<char> record_;        ///< small parts are gathered here: a record for each would cost more
  std::uint64_t sealed_bytes_ = 0;  ///< under the present key
  std::optional<error> failure_;
  owned<SSL, SSL_free> ssl_;  ///< last: it uses the buffers
};

}  // namespace tidemark::ring::detail
