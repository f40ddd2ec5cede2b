// SPDX-License-Identifier: Apache-2.0
//
// What a tls_context holds: OpenSSL's context with the files' contents, and the pre-shared key.
//
// Threading: constant once it is made. OpenSSL locks its own part.

#pragma once

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tidemark::ring::detail {

/// Frees what OpenSSL made.
template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* made) const noexcept {
    Free(made);
  }
};
template <class T, auto Free>
using owned = std::unique_ptr<T, freed_by<Free>>;

struct tls_material {
  tls_material() = default;
  tls_material(const tls_material&) = delete;
  ~tls_material() { OPENSSL_cleanse(key.data(), key.size()); }

  bool by_key() const noexcept { return !key.empty(); }

  owned<SSL_CTX, SSL_CTX_free> context;
  std::vector<unsigned char> key;  ///< pre-shared; empty: certificates
  std::string authority_file;      ///< for messages
  std::uint64_t rekey_after_bytes = 0;
};

}  // namespace tidemark::ring::detail
