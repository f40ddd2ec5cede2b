// SPDX-License-Identifier: Apache-2.0
//
// Certificates for tests, made when they are needed: nothing on disk that could expire. Threading: one thread.

#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace tidemark::tests {

/// A certificate and its key, as PEM files hold them.
struct credential {
  std::string certificate;
  std::string key;
};

/// Until when a certificate is good, in seconds from now; negative: it has expired.
struct validity {
  long from_s = -3600;
  long until_s = 3600;
};

class authority {
 public:
  explicit authority(const std::string& name) : name_(name), key_(new_key()) {
    certificate_ = make_certificate(key_.get(), name, "", validity{}, true);
  }

  std::string certificate() const { return pem_of(certificate_.get()); }

  /// `names` as OpenSSL writes them: "DNS:host-7,IP:127.0.0.1".
  credential issue(const std::string& names, validity good = {}) const {
    const auto key = new_key();
    const auto made = make_certificate(key.get(), "a host", names, good, false);
    return {pem_of(made.get()), pem_of(key.get())};
  }

 private:
  template <auto Free>
  struct freed_by {
    template <class T>
    void operator()(T* made) const noexcept {
      Free(made);
    }
  };
  using key_ptr = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;
  using certificate_ptr = std::unique_ptr<X509, freed_by<X509_free>>;

  static void require(bool good) {
    if (!good) throw std::runtime_error("OpenSSL cannot make a certificate");
  }
  static key_ptr new_key() {
    char curve[] = "P-256";  // EVP_EC_gen, without its casts
    return key_ptr(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", curve));
  }

  static std::string text_of(BIO* bio) {
    char* from = nullptr;
    const long size = BIO_get_mem_data(bio, &from);
    return {from, static_cast<std::size_t>(size)};
  }
  static std::string pem_of(X509* made) {
    const std::unique_ptr<BIO, freed_by<BIO_free>> bio(BIO_new(BIO_s_mem()));
    require(PEM_write_bio_X509(bio.get(), made) == 1);
    return text_of(bio.get());
  }
  static std::string pem_of(EVP_PKEY* made) {
    const std::unique_ptr<BIO, freed_by<BIO_free>> bio(BIO_new(BIO_s_mem()));
    require(PEM_write_bio_PrivateKey(bio.get(), made, nullptr, nullptr, 0, nullptr, nullptr) == 1);
    return text_of(bio.get());
  }

  static void set_name(X509_NAME* of, const std::string& name) {
    require(X509_NAME_add_entry_by_txt(of, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                                       0) == 1);
  }
  static void add_extension(X509* to, int which, const std::string& value) {
    const std::unique_ptr<X509_EXTENSION, freed_by<X509_EXTENSION_free>> made(
        X509V3_EXT_conf_nid(nullptr, nullptr, which, value.c_str()));
    require(made && X509_add_ext(to, made.get(), -1) == 1);
  }

  certificate_ptr make_certificate(EVP_PKEY* key, const std::string& name, const std::string& names, validity good,
                                   bool signs) const {
    certificate_ptr made(X509_new());
    X509_set_version(made.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), signs ? 1 : 2);
    X509_gmtime_adj(X509_getm_notBefore(made.get()), good.from_s);
    X509_gmtime_adj(X509_getm_notAfter(made.get()), good.until_s);
    X509_set_pubkey(made.get(), key);
    set_name(X509_get_subject_name(made.get()), name);
    const std::unique_ptr<X509_NAME, freed_by<X509_NAME_free>> issuer(X509_NAME_new());
    set_name(issuer.get(), name_);
    X509_set_issuer_name(made.get(), issuer.get());
    if (signs) add_extension(made.get(), NID_basic_constraints, "critical,CA:TRUE");
    if (!names.empty()) add_extension(made.get(), NID_subject_alt_name, names);
    require(X509_sign(made.get(), key_.get(), EVP_sha256()) != 0);
    return made;
  }

  std::string name_;
  key_ptr key_;
  certificate_ptr certificate_;
};

}  // namespace tidemark::tests
