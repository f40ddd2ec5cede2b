// SPDX-License-Identifier: Apache-2.0
//
// What went wrong in TLS, in words: from OpenSSL's queue of errors and the peer's certificate. Threading: that of the call
// which failed, right after it; the queue is the thread's.

#pragma once

#include <openssl/ssl.h>
#include <tidemark/error.hpp>

#include <string>

#include "ring/tls_material.hpp"

namespace tidemark::ring::detail {

/// Why this connection failed. `name` is what the peer's certificate had to be for; empty where nothing was asked for.
error tls_failure(operation what, SSL* connection, const tls_material& ours, const std::string& name);

}  // namespace tidemark::ring::detail
