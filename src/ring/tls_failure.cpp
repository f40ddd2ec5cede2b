// SPDX-License-Identifier: Apache-2.0

#include "ring/tls_failure.hpp"

#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <openssl/x509v3.h>

namespace tidemark::ring::detail {

namespace {

constexpr const char* other_kind = "; set both sides up alike, with certificates or with the same pre-shared key";

struct known {
  int reason;
  errc code;
  const char* words;
};

constexpr known reasons[] = {
    // what we saw
    {SSL_R_WRONG_VERSION_NUMBER, errc::not_tls, "what the peer sends is not TLS; was it set up for plain text?"},
    {SSL_R_HTTP_REQUEST, errc::not_tls, "what the peer sends is not TLS but HTTP"},
    {SSL_R_HTTPS_PROXY_REQUEST, errc::not_tls, "what the peer sends is not TLS but HTTP"},
    {SSL_R_PACKET_LENGTH_TOO_LONG, errc::not_tls, "what the peer sends is not TLS; was it set up for plain text?"},
    {SSL_R_UNSUPPORTED_PROTOCOL, errc::protocol, "the peer speaks no TLS 1.3"},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, errc::protocol, "what came was altered on its way"},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, errc::untrusted, "the peer has no certificate to show"},
    {SSL_R_BINDER_DOES_NOT_VERIFY, errc::untrusted, "the peer has another pre-shared key"},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, errc::untrusted, "the peer offers no pre-shared key"},
    {SSL_R_NO_SHARED_CIPHER, errc::untrusted, "the peer offers no pre-shared key"},
    // what the peer says it saw
    {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, errc::untrusted, "the peer has no use for what we can show"},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, errc::untrusted, "the peer wants a certificate, and we have none to show"},
    {SSL_R_TLSV1_ALERT_DECRYPT_ERROR, errc::untrusted, "the peer says that its key is another"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, errc::untrusted, "the peer does not trust the authority that signed our certificate"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, errc::untrusted,
     "our certificate has expired, says the peer; renew it, or set the clocks right"},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, errc::untrusted, "the peer refuses our certificate; its log says why"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, errc::untrusted, "the peer refuses our certificate; its log says why"},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, errc::untrusted, "the peer refuses our certificate; its log says why"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, errc::protocol, "the peer speaks no TLS 1.3"},
};

std::string time_of(const ASN1_TIME* when) {
  const owned<BIO, BIO_free> text(BIO_new(BIO_s_mem()));
  char* at = nullptr;
  ASN1_TIME_print(text.get(), when);
  const long size = BIO_get_mem_data(text.get(), &at);
  return {at, static_cast<std::size_t>(size)};
}

std::string names_of(X509* shown) {
  std::string all;
  const owned<GENERAL_NAMES, GENERAL_NAMES_free> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(shown, NID_subject_alt_name, nullptr, nullptr)));
  for (int at = 0; at < sk_GENERAL_NAME_num(names.get()); ++at) {
    const owned<BIO, BIO_free> text(BIO_new(BIO_s_mem()));
    GENERAL_NAME_print(text.get(), sk_GENERAL_NAME_value(names.get(), at));
    char* from = nullptr;
    const long size = BIO_get_mem_data(text.get(), &from);
    all += (all.empty() ? "" : ", ") + std::string(from, static_cast<std::size_t>(size));
  }
  return all.empty() ? "nobody by name" : all;
}

std::string unverified(SSL* connection, const tls_material& ours, const std::string& name) {
  if (ours.by_key()) return std::string("the peer shows a certificate where a pre-shared key is due") + other_kind;
  const auto* chain = SSL_get0_verified_chain(connection);  // whatever the verdict, unlike the peer's certificate
  X509* const shown = sk_X509_num(chain) > 0 ? sk_X509_value(chain, 0) : nullptr;
  const auto verdict = SSL_get_verify_result(connection);
  switch (verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "the peer's certificate, or one above it, has expired" +
             (shown ? " (its own is good until " + time_of(X509_get0_notAfter(shown)) + ")" : std::string()) +
             "; renew it, or set the clocks right";
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return "the peer's certificate is not valid yet; are the clocks right?";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return "the peer's certificate was not signed by the authority in " + ours.authority_file;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return "the peer's certificate is not for " + name + " but for " + (shown ? names_of(shown) : std::string("another"));
    default:
      return std::string("the peer's certificate is not good: ") + X509_verify_cert_error_string(verdict);
  }
}

bool is_about_the_kind(int reason) noexcept {
  return reason == SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM || reason == SSL_R_NO_SHARED_CIPHER ||
         reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE || reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE ||
         reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED;
}

}  // namespace

error tls_failure(operation what, SSL* connection, const tls_material& ours, const std::string& name) {
  const auto first = ERR_get_error();
  ERR_clear_error();
  int reason = ERR_GET_REASON(first);
  // So OpenSSL answers a proof made with another key.
  if (ours.by_key() && reason == SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER) reason = SSL_R_TLSV1_ALERT_DECRYPT_ERROR;
  if (ERR_GET_LIB(first) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
    return make_error(what, errc::untrusted, {}, unverified(connection, ours, name));
  for (const auto& one : reasons) {
    if (ERR_GET_LIB(first) != ERR_LIB_SSL || one.reason != reason) continue;
    return make_error(what, one.code, {}, std::string(one.words) + (is_about_the_kind(reason) ? other_kind : ""));
  }
  const char* words = ERR_reason_error_string(first);
  return make_error(what, errc::protocol, {}, std::string("TLS: ") + (words ? words : "no reason given"));
}

}  // namespace tidemark::ring::detail
