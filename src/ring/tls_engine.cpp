// SPDX-License-Identifier: Apache-2.0

#include "ring/tls_engine.hpp"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "ring/byte_stream.hpp"
#include "ring/tls_failure.hpp"

namespace tidemark::ring::detail {

namespace {

constexpr std::size_t record_bytes = SSL3_RT_MAX_PLAIN_LENGTH;
constexpr std::size_t record_overhead_bytes = 32;

error no_memory() { return kernel_error(operation::set_up_tls, ENOMEM); }

bool is_ip_address(const std::string& name) noexcept {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return ::inet_pton(AF_INET, name.c_str(), bytes.data()) == 1 || ::inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1;
}

}  // namespace

// --- OpenSSL's I/O: the two buffers ---

int tls_engine::take(BIO* bio, char* into, std::size_t size, std::size_t* taken) {
  auto& self = *static_cast<tls_engine*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  *taken = std::min(size, self.filled_ - self.taken_);
  if (*taken == 0) {
    BIO_set_retry_read(bio);
    return 0;
  }
  std::memcpy(into, self.incoming_.get() + self.taken_, *taken);
  self.taken_ += *taken;
  return 1;
}

int tls_engine::append(BIO* bio, const char* from, std::size_t size, std::size_t* appended) {
  auto& out = static_cast<tls_engine*>(BIO_get_data(bio))->outgoing_;
  out.insert(out.end(), from, from + size);
  *appended = size;
  return 1;
}

const BIO_METHOD* tls_engine::buffers() {
  static const owned<BIO_METHOD, BIO_meth_free> method = [] {
    owned<BIO_METHOD, BIO_meth_free> made(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tidemark buffers"));
    if (!made) return made;
    BIO_meth_set_read_ex(made.get(), take);
    BIO_meth_set_write_ex(made.get(), append);
    BIO_meth_set_ctrl(made.get(), [](BIO*, int command, long, void*) -> long { return command == BIO_CTRL_FLUSH ? 1 : 0; });
    return made;
  }();
  return method.get();
}

// --- making ---

tls_engine::tls_engine(std::shared_ptr<const tls_material> ours, std::string name)
    : ours_(std::move(ours)),
      name_(std::move(name)),
      incoming_(new std::byte[batch_bytes]),  // not zeroed
      ssl_(SSL_new(ours_->context.get())) {
  outgoing_.reserve(batch_bytes + (batch_bytes / record_bytes + 1) * record_overhead_bytes);
  record_.resize(record_bytes);
}

bool tls_engine::expect_name() {
  if (ours_->by_key()) return true;
  auto* const rules = SSL_get0_param(ssl_.get());
  X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (is_ip_address(name_)) return X509_VERIFY_PARAM_set1_ip_asc(rules, name_.c_str()) == 1;
  // As SSL_set_tlsext_host_name, which casts as C does.
  const bool told =
      SSL_ctrl(ssl_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, const_cast<char*>(name_.c_str())) == 1;
  return told && SSL_set1_host(ssl_.get(), name_.c_str()) == 1;
}

result<std::unique_ptr<tls_engine>> tls_engine::make(std::shared_ptr<const tls_material> ours, side as, std::string name) {
  if (as == side::client && !ours->by_key() && name.empty()) {
    return kernel_error(operation::set_up_tls, EINVAL, {},
                        "whom the server's certificate must be for is not said; give its host name or IP address");
  }
  std::unique_ptr<tls_engine> made(new tls_engine(std::move(ours), std::move(name)));
  SSL* const ssl = made->ssl_.get();
  BIO* const bio = buffers() ? BIO_new(buffers()) : nullptr;
  if (!ssl || !bio) {
    BIO_free(bio);
    return no_memory();
  }
  BIO_set_data(bio, made.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);  // it owns the BIO
  if (as == side::server) {
    // A pre-shared key is all that such a server believes: it has no certificate to go on with.
    if (made->ours_->by_key()) SSL_set_verify(ssl, SSL_VERIFY_NONE, nullptr);
    SSL_set_accept_state(ssl);
    return made;
  }
  SSL_set_connect_state(ssl);
  if (made->expect_name()) return made;
  return kernel_error(operation::set_up_tls, EINVAL, {}, "'" + made->name_ + "' is no name that a certificate can be for");
}

// --- steps ---

tls_engine::step tls_engine::fail(error why) {
  failure_ = std::move(why);
  return step::failed;
}

tls_engine::step tls_engine::after(int answer, operation what) {
  if (answer == 1) return step::done;
  switch (SSL_get_error(ssl_.get(), answer)) {
    case SSL_ERROR_WANT_READ:
      return step::wants_bytes;
    case SSL_ERROR_ZERO_RETURN:
      return fail(make_error(what, errc::peer_closed, {}, "the peer closed the connection; its log says why"));
    default:
      return fail(tls_failure(what, ssl_.get(), *ours_, name_));
  }
}

tls_engine::step tls_engine::handshake() {
  ERR_clear_error();
  const auto now = after(SSL_do_handshake(ssl_.get()), operation::set_up_tls);
  if (now == step::done && ours_->by_key() && SSL_session_reused(ssl_.get()) != 1) {
    return fail(
        make_error(operation::set_up_tls, errc::untrusted, {}, "the peer did not prove that it has the pre-shared key"));
  }
  return now;
}

void tls_engine::came(std::size_t count) noexcept {
  taken_ = 0;
  filled_ = count;
}

result<void> tls_engine::write(const void* from, std::size_t size) {
  std::size_t written = 0;
  ERR_clear_error();
  if (after(SSL_write_ex(ssl_.get(), from, size, &written), operation::send) != step::done) {
    if (!failure_) fail(make_error(operation::send, errc::protocol, {}, "TLS: cannot write now"));
    return *failure_;
  }
  sealed_bytes_ += size;
  if (sealed_bytes_ >= ours_->rekey_after_bytes && SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
    sealed_bytes_ = 0;
  return {};
}

/// Takes up to a record from the front of `parts` into record_.
std::span<iovec> tls_engine::gather(std::span<iovec> parts) noexcept {
  record_.clear();
  while (!parts.empty() && record_.size() < record_bytes) {
    const auto* from = static_cast<const char*>(parts.front().iov_base);
    const auto size = std::min(parts.front().iov_len, record_bytes - record_.size());
    record_.insert(record_.end(), from, from + size);
    parts = consume(parts, size);
  }
  return parts;
}

result<std::span<iovec>> tls_engine::seal(std::span<iovec> parts) {
  if (failure_) return *failure_;
  std::size_t left = batch_bytes;
  while (!parts.empty() && left >= record_bytes) {
    const auto whole = std::min(left, parts.front().iov_len) / record_bytes * record_bytes;
    if (whole != 0) {
      if (auto written = write(parts.front().iov_base, whole); !written) return written.error();
      parts = consume(parts, whole);
      left -= whole;
    } else {
      parts = gather(parts);
      if (auto written = write(record_.data(), record_.size()); !written) return written.error();
      left -= record_.size();
    }
  }
  return parts;
}

result<std::size_t> tls_engine::open(std::span<std::byte> into) {
  if (failure_) return *failure_;
  std::size_t got = 0;
  ERR_clear_error();
  if (after(SSL_read_ex(ssl_.get(), into.data(), into.size(), &got), operation::receive) == step::failed) return *failure_;
  return got;
}

tls_engine::step tls_engine::look_for_refusal() {
  if (failure_) return step::failed;
  char byte = 0;
  std::size_t got = 0;
  ERR_clear_error();
  return after(SSL_peek_ex(ssl_.get(), &byte, 1, &got), operation::send);
}

}  // namespace tidemark::ring::detail
