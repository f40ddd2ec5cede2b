// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "ring/descriptor.hpp"
#include "ring/tls.hpp"
#include "ring/tls_material.hpp"

namespace tidemark::ring {

namespace {

using detail::owned;
using detail::tls_material;

using certificate = owned<X509, X509_free>;
using private_key = owned<EVP_PKEY, EVP_PKEY_free>;
using memory_bio = owned<BIO, BIO_free>;
using psk_session = owned<SSL_SESSION, SSL_SESSION_free>;

constexpr std::size_t file_bytes_max = 1 << 20;
constexpr std::size_t key_bytes_min = 16;
constexpr std::size_t key_bytes_max = 256;
constexpr std::string_view identity = "tidemark";

error wrong(std::string why, int errno_value = EINVAL) {
  ERR_clear_error();
  return kernel_error(operation::set_up_tls, errno_value, {}, std::move(why));
}

// --- files ---

enum class file_kind { open_to_all, secret };

/// A file's bytes, which are wiped afterwards.
struct contents {
  explicit contents(std::size_t room) : bytes(room) {}
  contents(contents&&) noexcept = default;
  ~contents() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
  std::string_view text() const noexcept { return {bytes.data(), bytes.size()}; }

  std::vector<char> bytes;
};

result<contents> read_file(const std::string& path, const std::string& what, file_kind kind) {
  const descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat known {};
  if (!file || ::fstat(file.get(), &known) < 0) return wrong(what + " " + path, errno);
  if (!S_ISREG(known.st_mode)) return wrong(what + " " + path + " is no regular file");
  if (kind == file_kind::secret && (known.st_mode & (S_IROTH | S_IWOTH)) != 0)
    return wrong(what + " " + path + " is open to every user of this host; 'chmod 600' closes it", EPERM);
  if (static_cast<std::size_t>(known.st_size) > file_bytes_max) return wrong(what + " " + path + " is over 1 MiB", EFBIG);
  contents all(static_cast<std::size_t>(known.st_size));
  const auto got = ::read(file.get(), all.bytes.data(), all.bytes.size());
  if (got < 0) return wrong(what + " " + path, errno);
  all.bytes.resize(static_cast<std::size_t>(got));
  return all;
}

memory_bio bio_over(const contents& all) {
  return memory_bio(BIO_new_mem_buf(all.bytes.data(), static_cast<int>(all.bytes.size())));
}

result<std::vector<certificate>> read_certificates(const std::string& path, const std::string& what) {
  const auto all = read_file(path, what, file_kind::open_to_all);
  if (!all) return all.error();
  const auto bio = bio_over(*all);
  std::vector<certificate> found;
  while (certificate next{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) found.push_back(std::move(next));
  const bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (found.empty() || !ended) return wrong(what + " " + path + " has no certificate in PEM form, or a broken one");
  ERR_clear_error();
  return found;
}

result<private_key> read_private_key(const std::string& path) {
  const auto all = read_file(path, "the key file", file_kind::secret);
  if (!all) return all.error();
  const auto no_password = [](char*, int, int, void*) { return -1; };  // OpenSSL would ask on the terminal
  private_key key(PEM_read_bio_PrivateKey(bio_over(*all).get(), nullptr, no_password, nullptr));
  if (!key) return wrong("the key file " + path + " has no private key in PEM form, or one with a password");
  return key;
}

int digit(char of) noexcept {
  if (of >= '0' && of <= '9') return of - '0';
  if (of >= 'a' && of <= 'f') return of - 'a' + 10;
  if (of >= 'A' && of <= 'F') return of - 'A' + 10;
  return -1;
}

std::string_view trimmed(std::string_view text) noexcept {
  constexpr std::string_view blank = " \t\r\n";
  const auto first = text.find_first_not_of(blank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

result<void> read_shared_key(tls_material& into, const std::string& path) {
  const std::string what = "the pre-shared key in " + path;
  const auto all = read_file(path, "the file of the pre-shared key,", file_kind::secret);
  if (!all) return all.error();
  const auto text = trimmed(all->text());
  for (const char one : text)
    if (digit(one) < 0) return wrong(what + " is not written in hexadecimal digits; 'openssl rand -hex 32' makes one");
  if (text.size() % 2 != 0) return wrong(what + " has an odd number of digits; is one missing?");
  if (text.size() < 2 * key_bytes_min || text.size() > 2 * key_bytes_max) {
    return wrong(what + " has " + std::to_string(text.size() / 2) + " bytes; it takes " + std::to_string(key_bytes_min) +
                 " to " + std::to_string(key_bytes_max) + "; 'openssl rand -hex 32' makes one");
  }
  into.key.reserve(text.size() / 2);  // once: a buffer that is left behind is not wiped
  for (std::size_t at = 0; at < text.size(); at += 2)
    into.key.push_back(static_cast<unsigned char>(digit(text[at]) * 16 + digit(text[at + 1])));
  return {};
}

// --- the pre-shared key, told to OpenSSL ---

/// The key as OpenSSL wants it: a session to resume. Its cipher says that the hash is SHA-256, no more.
psk_session session_of(SSL* connection) {
  const auto& material = *static_cast<const tls_material*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(connection)));
  constexpr std::array<unsigned char, 2> aes_128_gcm_sha256{0x13, 0x01};
  psk_session session(SSL_SESSION_new());
  const bool good = session && SSL_SESSION_set1_master_key(session.get(), material.key.data(), material.key.size()) == 1 &&
                    SSL_SESSION_set_cipher(session.get(), SSL_CIPHER_find(connection, aes_128_gcm_sha256.data())) == 1 &&
                    SSL_SESSION_set_protocol_version(session.get(), TLS1_3_VERSION) == 1;
  return good ? std::move(session) : nullptr;
}

int offer_key(SSL* connection, const EVP_MD* hash, const unsigned char** id, std::size_t* id_bytes, SSL_SESSION** session) {
  *session = nullptr;
  if (hash && EVP_MD_get_type(hash) != NID_sha256) return 1;  // the server wants another hash: nothing to offer
  auto made = session_of(connection);
  if (!made) return 0;
  *id = reinterpret_cast<const unsigned char*>(identity.data());
  *id_bytes = identity.size();
  *session = made.release();
  return 1;
}

int find_key(SSL* connection, const unsigned char* id, std::size_t id_bytes, SSL_SESSION** session) {
  *session = nullptr;
  if (std::string_view(reinterpret_cast<const char*>(id), id_bytes) != identity) return 1;  // not one of ours
  *session = session_of(connection).release();
  return *session != nullptr;
}

// --- OpenSSL's context ---

bool has_aes_instructions() noexcept {
#if defined(__x86_64__)
  return __builtin_cpu_supports("aes") != 0 && __builtin_cpu_supports("pclmul") != 0;
#elif defined(__aarch64__)
  return (::getauxval(AT_HWCAP) & HWCAP_AES) != 0;
#else
  return false;
#endif
}

// A client that puts ChaCha20 first has no instructions for AES: SSL_OP_PRIORITIZE_CHACHA makes a server follow it.
const char* ciphers() noexcept {
  return has_aes_instructions() ? "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
                                : "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
}

bool set_rules(SSL_CTX* context) {
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 && SSL_CTX_set_num_tickets(context, 0) == 1 &&
         SSL_CTX_set_max_early_data(context, 0) == 1 && SSL_CTX_set_ciphersuites(context, ciphers()) == 1;
}

result<void> use_own_certificate(SSL_CTX* context, const tls_options& options) {
  const auto own = read_certificates(options.certificate_file, "the certificate file");
  if (!own) return own.error();
  const auto key = read_private_key(options.key_file);
  if (!key) return key.error();
  bool good = SSL_CTX_use_certificate(context, own->front().get()) == 1;
  for (std::size_t at = 1; at < own->size(); ++at) good = good && SSL_CTX_add1_chain_cert(context, (*own)[at].get()) == 1;
  if (!good) {
    const char* reason = ERR_reason_error_string(ERR_peek_last_error());
    return wrong("the certificate in " + options.certificate_file +
                 " cannot be used: " + (reason ? reason : "no reason given"));
  }
  if (SSL_CTX_use_PrivateKey(context, key->get()) != 1) {
    return wrong("the key in " + options.key_file + " does not belong to the certificate in " + options.certificate_file);
  }
  return {};
}

result<void> use_authority(SSL_CTX* context, const std::string& path) {
  const auto signers = read_certificates(path, "the file of the authority,");
  if (!signers) return signers.error();
  for (const auto& signer : *signers) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), signer.get()) != 1 ||
        SSL_CTX_add_client_CA(context, signer.get()) != 1)
      return wrong("a certificate of the authority in " + path + " cannot be used");
  }
  return {};
}

result<void> check(const tls_options& given) {
  const bool any = !given.certificate_file.empty() || !given.key_file.empty() || !given.authority_file.empty();
  const bool all = !given.certificate_file.empty() && !given.key_file.empty() && !given.authority_file.empty();
  if (given.psk_file.empty() ? all : !any) return {};
  return wrong(
      "TLS takes three files, a certificate's, its key's and the authority's, or one, a pre-shared key's; not some of them");
}

result<void> fill(tls_material& made, const tls_options& options) {
  SSL_CTX* const context = made.context.get();
  if (!context || !set_rules(context)) return wrong("OpenSSL refuses TLS 1.3; see its configuration (openssl.cnf)", EPROTO);
  if (options.psk_file.empty()) {
    if (auto used = use_own_certificate(context, options); !used) return used;
    return use_authority(context, options.authority_file);
  }
  SSL_CTX_set_app_data(context, &made);
  SSL_CTX_set_psk_use_session_callback(context, offer_key);
  SSL_CTX_set_psk_find_session_callback(context, find_key);
  return read_shared_key(made, options.psk_file);
}

}  // namespace

result<tls_context> tls_context::make(const tls_options& options) {
  if (auto good = check(options); !good) return good.error();
  const auto made = std::make_shared<tls_material>();
  made->context.reset(SSL_CTX_new(TLS_method()));
  made->authority_file = options.authority_file;
  made->rekey_after_bytes = options.rekey_after_bytes;
  if (auto filled = fill(*made, options); !filled) return filled.error();
  return tls_context(made);
}

}  // namespace tidemark::ring
