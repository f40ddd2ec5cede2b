// SPDX-License-Identifier: Apache-2.0
//
// TLS over sockets and over memory: what is good arrives, and each thing that can be wrong is told in one line.

#include "ring/tls.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <functional>
#include <optional>

#include "ring/certificates.hpp"
#include "ring/connection.hpp"
#include "ring/memory_stream.hpp"
#include "support/manual_loop.hpp"

using namespace tidemark;
using namespace tidemark::ring;
using namespace tidemark::tests;

namespace {

// --- what a connection runs on ---

/// Two ends, and how to run a coroutine that uses them.
class wire {
 public:
  virtual ~wire() = default;
  virtual void run(task<> work) = 0;
  virtual ring::loop& loop() = 0;
  virtual std::size_t megabytes() const = 0;  ///< what it moves in good time
  stream left, right;
};

class socket_wire final : public wire {
 public:
  socket_wire() : owner_(make_loop()) {
    connection pair(*owner_);
    left = std::move(pair.left);
    right = std::move(pair.right);
  }
  ~socket_wire() override {
    left.reset();
    right.reset();
  }
  void run(task<> work) override { run_on(*owner_, std::move(work)); }
  ring::loop& loop() override { return *owner_; }
  std::size_t megabytes() const override { return 16; }

 private:
  std::unique_ptr<uring_loop> owner_;
};

class memory_wire final : public wire {
 public:
  explicit memory_wire(unsigned seed) {
    auto forth = std::make_shared<memory_pipe>(loop_, seed);
    auto back = std::make_shared<memory_pipe>(loop_, seed + 1);
    left = std::make_unique<memory_stream>(forth, back);
    right = std::make_unique<memory_stream>(back, forth);
  }
  ~memory_wire() override {
    left.reset();
    right.reset();
  }
  void run(task<> work) override {
    bool done = false;
    start([](task<> inner, bool& ended) -> task<> {
      co_await std::move(inner);
      ended = true;
    }(std::move(work), done));
    loop_.run();
    BOOST_TEST_REQUIRE(done);  // else it waits for what nobody will do
  }
  ring::loop& loop() override { return loop_; }
  std::size_t megabytes() const override { return 2; }

 private:
  manual_loop loop_;
};

void over_both(const std::function<void(wire&)>& test) {
  BOOST_TEST_CONTEXT("over sockets") {
    socket_wire on;
    test(on);
  }
  BOOST_TEST_CONTEXT("over memory") {
    memory_wire on(1);
    test(on);
  }
}

// --- files ---

/// Files of certificates and keys in a directory that goes with it.
class files {
 public:
  std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    const auto path = in_.path(name);
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }
  std::string path(const std::string& name) const { return in_.path(name); }

  tls_options certified(const std::string& name, const credential& own, const authority& believes) const {
    tls_options made;
    made.certificate_file = write(name + ".crt", own.certificate, 0644);
    made.key_file = write(name + ".key", own.key);
    made.authority_file = write(name + "-authority.crt", believes.certificate(), 0644);
    return made;
  }
  tls_options with_key(const std::string& name, const std::string& digits) const {
    tls_options made;
    made.psk_file = write(name + ".psk", digits);
    return made;
  }

 private:
  scratch in_;
};

constexpr const char* one_key = "000102030405060708090a0b0c0d0e0f\n";
constexpr const char* other_key = "ff0102030405060708090A0B0C0D0E0F";

std::string refusal_of(const tls_options& options) {
  const auto made = tls_context::make(options);
  BOOST_TEST_REQUIRE(made.has_error());
  BOOST_TEST((made.error().what == operation::set_up_tls));
  return made.error().message();
}

// --- handshakes ---

using secured = result<stream>;

struct both {
  std::optional<secured> client, server;
};

task<> into(task<secured> work, std::optional<secured>& ended, latch& gate) {
  ended.emplace(co_await std::move(work));
  gate.count_down();
}

task<> meet(wire& on, const tls_context& client, const tls_context& server, std::string name, both& ended) {
  latch done(2);
  start(into(tls_accept(std::move(on.right), server), ended.server, done));
  start(into(tls_connect(std::move(on.left), client, std::move(name)), ended.client, done));
  co_await done;
}

/// A handshake that has to be good: the streams of `on` are then TLS's.
void secure(wire& on, const tls_options& client, const tls_options& server, const std::string& name) {
  both ended;
  on.run(meet(on, tls_context::make(client).value(), tls_context::make(server).value(), name, ended));
  on.left = std::move(ended.client->value());
  on.right = std::move(ended.server->value());
}

void secure_by_key(wire& on, std::uint64_t rekey_after_bytes = std::uint64_t{1} << 40) {
  const files in;
  auto options = in.with_key("one", one_key);
  options.rekey_after_bytes = rekey_after_bytes;
  secure(on, options, options, "");
}

/// How a connection between these two fails: at each side in the handshake, or when it first waits for the other.
struct failures {
  error client, server;
};

task<error> failure_of(secured& side) {
  if (!side) co_return side.error();
  char byte = 0;
  const auto read = co_await read_one(**side, byte);
  co_return read ? error{} : read.error();
}

failures fail(wire& on, const tls_options& client, const tls_options& server, const std::string& name = "host-7") {
  failures seen;
  both ended;
  const auto client_context = tls_context::make(client).value();
  const auto server_context = tls_context::make(server).value();
  const auto work = [&]() -> task<> {
    co_await meet(on, client_context, server_context, name, ended);
    if (!*ended.server) seen.client = co_await failure_of(*ended.client);
    if (!*ended.client) seen.client = ended.client->error();
    if (!*ended.client) ended.client.reset();
    seen.server = co_await failure_of(*ended.server);
  };
  on.run(work());
  return seen;
}

void check(const error& seen, errc code, const std::string& words) {
  BOOST_TEST_CONTEXT(seen.message()) {
    BOOST_TEST((seen.code == code));
    BOOST_TEST(says(seen.detail, words));
  }
}

// --- what may happen on the way ---

/// What passed through a stream, and what is to happen to it.
struct wiretap {
  std::string written;
  std::size_t flip_at = SIZE_MAX;  ///< which byte that is written is changed
  std::size_t cut_at = SIZE_MAX;   ///< after which the connection is cut
  bool cut = false;
};

class tapped final : public byte_stream {
 public:
  tapped(stream below, wiretap& on) : below_(std::move(below)), on_(on) {}

  task<result<void>> write(std::span<iovec> parts) override {
    std::string all;
    for (const auto& part : parts) all.append(static_cast<const char*>(part.iov_base), part.iov_len);
    if (on_.flip_at - on_.written.size() < all.size()) all[on_.flip_at - on_.written.size()] ^= 4;
    on_.cut = on_.cut_at - on_.written.size() < all.size();
    if (on_.cut) all.resize(on_.cut_at - on_.written.size());
    on_.written += all;
    iovec part{all.data(), all.size()};
    auto sent = co_await below_->write({&part, 1});
    if (on_.cut) below_->close();
    co_return sent;
  }
  task<result<void>> read(std::span<iovec> parts) override { return below_->read(parts); }
  task<result<std::size_t>> read_some(std::span<std::byte> into) override { return below_->read_some(into); }
  void end_writing() noexcept override { below_->end_writing(); }
  void close() noexcept override { below_->close(); }

 private:
  stream below_;
  wiretap& on_;
};

/// What an end of plain text does to one of TLS.
task<> talk_plainly(byte_stream& to, std::string text) {
  iovec part{text.data(), text.size()};
  (void)co_await to.write({&part, 1});
}

error answer_to(wire& on, const std::string& text, bool server) {
  const files in;
  const auto context = tls_context::make(in.with_key("one", one_key)).value();
  error seen;
  const auto work = [&]() -> task<> {
    co_await talk_plainly(*on.left, text);
    auto attempt = server ? tls_accept(std::move(on.right), context) : tls_connect(std::move(on.right), context, "");
    const auto ended = co_await std::move(attempt);
    if (!ended) seen = ended.error();
  };
  on.run(work());
  return seen;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tls_suite)

// --- what is good ---

BOOST_AUTO_TEST_CASE(certificates_of_one_authority_meet_by_name_and_by_address) {
  const files in;
  const authority house("house");
  const auto client = in.certified("client", house.issue("DNS:host-1"), house);
  const auto server = in.certified("server", house.issue("DNS:host-7,IP:127.0.0.1,IP:::1"), house);
  for (const char* name : {"host-7", "127.0.0.1", "::1"}) {
    over_both([&](wire& on) {
      secure(on, client, server, name);
      both_ways traffic(on.megabytes());
      on.run(traffic.run(*on.left, *on.right));
      BOOST_TEST(traffic.arrived());
    });
  }
}

BOOST_AUTO_TEST_CASE(random_gathers_arrive_whole_under_a_shared_key_while_keys_are_renewed) {
  for (const std::uint64_t rekey_after_bytes : {std::uint64_t{1} << 40, std::uint64_t{1'000'000}, std::uint64_t{1}}) {
    over_both([&](wire& on) {
      secure_by_key(on, rekey_after_bytes);
      both_ways traffic(on.megabytes());
      on.run(traffic.run(*on.left, *on.right));
      BOOST_TEST(traffic.arrived());
    });
  }
}

BOOST_AUTO_TEST_CASE(what_was_said_cannot_be_read_on_the_wire) {
  const std::string secret = "this page of the guest is nobody's business";
  for (const bool secured : {false, true}) {
    memory_wire on(1);
    wiretap tap;
    on.left = std::make_unique<tapped>(std::move(on.left), tap);
    if (secured) secure_by_key(on);
    on.run(talk_plainly(*on.left, secret));
    BOOST_TEST(says(tap.written, secret) == !secured);
  }
}

BOOST_AUTO_TEST_CASE(no_bytes_are_moved_without_waiting) {
  over_both([](wire& on) {
    secure_by_key(on);
    const auto work = [&on]() -> task<> {
      BOOST_TEST((co_await on.left->read(std::span<iovec>())).has_value());
      BOOST_TEST((co_await on.left->read_some(std::span<std::byte>())).value() == 0u);
      iovec empty{nullptr, 0};
      BOOST_TEST((co_await on.left->write(std::span(&empty, 1))).has_value());
    };
    on.run(work());
  });
}

// --- files that are wrong ---

BOOST_AUTO_TEST_CASE(each_file_that_is_wrong_is_named) {
  const files in;
  const authority house("house");
  const auto good = in.certified("good", house.issue("DNS:host-7"), house);
  const auto other = in.certified("other", house.issue("DNS:host-8"), house);
  const auto with = [&good](std::string tls_options::*which, const std::string& path) {
    auto options = good;
    options.*which = path;
    return refusal_of(options);
  };
  BOOST_TEST_REQUIRE(tls_context::make(good).has_value());
  BOOST_TEST(says(with(&tls_options::certificate_file, in.path("gone")),
                  "No such file or directory: the certificate file " + in.path("gone")));
  BOOST_TEST(
      says(with(&tls_options::key_file, in.path("gone")), "No such file or directory: the key file " + in.path("gone")));
  BOOST_TEST(
      says(with(&tls_options::authority_file, in.path("gone")), "No such file or directory: the file of the authority, "));
  BOOST_TEST(says(with(&tls_options::key_file, other.key_file),
                  "the key in " + other.key_file + " does not belong to the certificate in " + good.certificate_file));
  BOOST_TEST(says(with(&tls_options::key_file, in.write("none.key", "nothing")), "has no private key in PEM form"));
  BOOST_TEST(says(with(&tls_options::certificate_file, good.key_file), "has no certificate in PEM form"));
  BOOST_TEST(says(with(&tls_options::certificate_file, in.path("")), "is no regular file"));
  ::chmod(good.key_file.c_str(), 0644);
  BOOST_TEST(says(refusal_of(good), "is open to every user of this host; 'chmod 600' closes it"));
}

BOOST_AUTO_TEST_CASE(a_key_with_a_password_is_refused_without_asking_for_it) {
  const files in;
  const authority house("house");
  auto options = in.certified("good", house.issue("DNS:host-7"), house);
  options.key_file = in.write("locked.key",
                              "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n"
                              "-----END ENCRYPTED PRIVATE KEY-----\n");
  BOOST_TEST(says(refusal_of(options), "or one with a password"));
}

BOOST_AUTO_TEST_CASE(some_of_the_files_are_not_enough_and_both_kinds_too_many) {
  const files in;
  const authority house("house");
  auto options = in.certified("good", house.issue("DNS:host-7"), house);
  options.authority_file.clear();
  BOOST_TEST(says(refusal_of(options), "TLS takes three files"));
  options = in.certified("good", house.issue("DNS:host-7"), house);
  options.psk_file = in.write("one.psk", one_key);
  BOOST_TEST(says(refusal_of(options), "TLS takes three files"));
  BOOST_TEST(says(refusal_of({}), "TLS takes three files"));
}

BOOST_AUTO_TEST_CASE(a_shared_key_that_is_no_key_is_refused) {
  const files in;
  BOOST_TEST(says(refusal_of(in.with_key("bad", "00112233445566778899aabbccddeefg")), "not written in hexadecimal digits"));
  BOOST_TEST(says(refusal_of(in.with_key("bad", "0001 0203")), "not written in hexadecimal digits"));
  BOOST_TEST(says(refusal_of(in.with_key("odd", "000102030405060708090a0b0c0d0e0")), "odd number of digits"));
  BOOST_TEST(says(refusal_of(in.with_key("short", "000102030405060708090a0b0c0d0e")), "has 15 bytes; it takes 16 to 256"));
  BOOST_TEST(says(refusal_of(in.with_key("empty", "\n")), "has 0 bytes"));
  auto seen = in.with_key("seen", one_key);
  ::chmod(seen.psk_file.c_str(), 0604);
  BOOST_TEST(says(refusal_of(seen), "is open to every user of this host"));
}

// --- peers that are not who they should be ---

BOOST_AUTO_TEST_CASE(a_certificate_of_another_authority_is_refused_by_either_side) {
  const files in;
  const authority house("house"), stranger("stranger");
  const auto good = in.certified("good", house.issue("DNS:host-7"), house);
  const auto strange = in.certified("strange", stranger.issue("DNS:host-7"), house);
  over_both([&](wire& on) {
    const auto seen = fail(on, good, strange);
    check(seen.client, errc::untrusted, "was not signed by the authority in " + good.authority_file);
    check(seen.server, errc::untrusted, "the peer does not trust the authority that signed our certificate");
  });
  over_both([&](wire& on) {
    const auto seen = fail(on, strange, good);
    check(seen.server, errc::untrusted, "was not signed by the authority in " + good.authority_file);
    check(seen.client, errc::untrusted, "the peer does not trust the authority that signed our certificate");
  });
}

BOOST_AUTO_TEST_CASE(a_certificate_that_has_expired_or_is_not_valid_yet_is_refused_by_either_side) {
  const files in;
  const authority house("house");
  const auto good = in.certified("good", house.issue("DNS:host-7"), house);
  const auto old = in.certified("old", house.issue("DNS:host-7", {-7200, -60}), house);
  const auto early = in.certified("early", house.issue("DNS:host-7", {3600, 7200}), house);
  over_both([&](wire& on) {
    const auto seen = fail(on, good, old);
    check(seen.client, errc::untrusted, "has expired");
    check(seen.server, errc::untrusted, "our certificate has expired, says the peer");
  });
  over_both([&](wire& on) {
    const auto seen = fail(on, old, good);
    check(seen.server, errc::untrusted, "has expired");
    check(seen.client, errc::untrusted, "our certificate has expired, says the peer");
  });
  over_both([&](wire& on) { check(fail(on, good, early).client, errc::untrusted, "is not valid yet"); });
}

BOOST_AUTO_TEST_CASE(a_server_that_is_another_host_is_refused) {
  const files in;
  const authority house("house");
  const auto good = in.certified("good", house.issue("DNS:host-7,IP:127.0.0.1"), house);
  over_both([&](wire& on) {
    check(fail(on, good, good, "host-8").client, errc::untrusted,
          "is not for host-8 but for DNS:host-7, IP Address:127.0.0.1");
  });
  over_both([&](wire& on) { check(fail(on, good, good, "127.0.0.2").client, errc::untrusted, "is not for 127.0.0.2"); });
  over_both([&](wire& on) {
    const auto context = tls_context::make(good).value();
    const auto work = [&]() -> task<> {
      const auto nameless = co_await tls_connect(std::move(on.left), context, "");
      BOOST_TEST(says(nameless.error().message(), "give its host name or IP address"));
    };
    on.run(work());
  });
}

BOOST_AUTO_TEST_CASE(another_shared_key_is_refused) {
  const files in;
  over_both([&](wire& on) {
    const auto seen = fail(on, in.with_key("one", one_key), in.with_key("other", other_key));
    check(seen.server, errc::untrusted, "the peer has another pre-shared key");
    check(seen.client, errc::untrusted, "the peer says that its key is another");
  });
}

BOOST_AUTO_TEST_CASE(a_peer_of_the_other_kind_or_without_a_certificate_is_refused) {
  const files in;
  const authority house("house");
  const auto certified = in.certified("good", house.issue("DNS:host-7"), house);
  const auto keyed = in.with_key("one", one_key);
  over_both([&](wire& on) {
    const auto seen = fail(on, certified, keyed);
    check(seen.server, errc::untrusted, "offers no pre-shared key; set both sides up alike");
    check(seen.client, errc::untrusted, "has no use for what we can show; set both sides up alike");
  });
  over_both([&](wire& on) {
    const auto seen = fail(on, keyed, certified);
    check(seen.client, errc::untrusted, "shows a certificate where a pre-shared key is due; set both sides up alike");
  });
}

// --- peers that break the protocol ---

BOOST_AUTO_TEST_CASE(plain_text_and_garbage_are_told_from_tls) {
  over_both(
      [](wire& on) { check(answer_to(on, "TIDEMARK\1\0\0\0 a head of plain text", true), errc::not_tls, "is not TLS"); });
  over_both([](wire& on) { check(answer_to(on, "GET / HTTP/1.1\r\n\r\n", true), errc::not_tls, "not TLS but HTTP"); });
  over_both([](wire& on) { check(answer_to(on, "SSH-2.0-OpenSSH_9.2\r\n", false), errc::not_tls, "is not TLS"); });
}

BOOST_AUTO_TEST_CASE(no_garbage_from_a_seed_gets_through_a_handshake) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    memory_wire on(seed);
    auto bytes = random_bytes(16 * (1 + seed % 40), seed);
    if (seed % 2 == 0) std::copy_n("\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03", 11, bytes.begin() + (seed % 3 == 0));
    const files in;
    const auto context = tls_context::make(in.with_key("one", one_key)).value();
    std::optional<secured> ended;
    const auto work = [&]() -> task<> {
      latch done(1);
      start(into(tls_accept(std::move(on.right), context), ended, done));
      co_await talk_plainly(*on.left, std::string(bytes.begin(), bytes.end()));
      on.left->close();
      co_await done;
    };
    on.run(work());
    BOOST_TEST(ended->has_error());
  }
}

// --- connections that end ---

BOOST_AUTO_TEST_CASE(a_handshake_cut_after_any_byte_ends_on_both_sides) {
  const files in;
  const authority house("house");
  const auto options = in.certified("good", house.issue("DNS:host-7"), house);
  const auto context = tls_context::make(options).value();
  for (const bool client : {true, false}) {
    std::size_t cut_at = 0;
    for (bool whole = false; !whole; cut_at += 7) {
      memory_wire on(static_cast<unsigned>(cut_at));
      wiretap tap;
      tap.cut_at = cut_at;
      stream& end = client ? on.left : on.right;
      end = std::make_unique<tapped>(std::move(end), tap);
      both ended;
      on.run(meet(on, context, context, "host-7", ended));
      whole = !tap.cut;
      // A client is done when it has sent its last flight, though it may not come through.
      BOOST_TEST((ended.server->has_value() == whole));
      if (whole) continue;
      const auto& why = ended.server->error();
      BOOST_TEST((why.code == (client ? errc::peer_closed : errc::closed)), why.message());
    }
    BOOST_TEST(cut_at > 300u);
  }
}

BOOST_AUTO_TEST_CASE(a_handshake_with_a_peer_that_leaves_says_so) {
  over_both([](wire& on) {
    const files in;
    const auto context = tls_context::make(in.with_key("one", one_key)).value();
    const auto work = [&]() -> task<> {
      on.left.reset();
      const auto seen = co_await tls_accept(std::move(on.right), context);
      BOOST_TEST_REQUIRE(seen.has_error());
      check(seen.error(), errc::peer_closed, "the peer left during the handshake");
    };
    on.run(work());
  });
}

BOOST_AUTO_TEST_CASE(closing_the_stream_below_gives_up_a_handshake) {
  over_both([](wire& on) {
    const files in;
    const auto context = tls_context::make(in.with_key("one", one_key)).value();
    std::optional<secured> ended;
    const auto work = [&]() -> task<> {
      latch done(1);
      byte_stream& below = *on.right;
      start(into(tls_accept(std::move(on.right), context), ended, done));
      below.close();
      co_await done;
    };
    on.run(work());
    BOOST_TEST((ended->error().code == errc::closed));
  });
}

BOOST_AUTO_TEST_CASE(a_byte_that_is_changed_on_the_way_ends_the_connection) {
  memory_wire on(1);
  wiretap tap;
  on.left = std::make_unique<tapped>(std::move(on.left), tap);
  secure_by_key(on);
  error first, second;
  const auto work = [&]() -> task<> {
    char byte = 0;
    co_await talk_plainly(*on.left, "x");
    BOOST_TEST((co_await read_one(*on.right, byte)).has_value());
    tap.flip_at = tap.written.size() + 10;
    co_await talk_plainly(*on.left, "y");
    first = (co_await read_one(*on.right, byte)).error();
    co_await talk_plainly(*on.left, "z");
    std::byte more{};
    second = (co_await on.right->read_some({&more, 1})).error();
  };
  on.run(work());
  check(first, errc::protocol, "what came was altered on its way");
  check(second, errc::protocol, "what came was altered on its way");
}

BOOST_AUTO_TEST_CASE(a_peer_that_closes_in_the_middle_is_named_so) {
  over_both([](wire& on) {
    secure_by_key(on);
    const auto work = [&on]() -> task<> {
      BOOST_TEST((co_await write_one(*on.left, 'x')).has_value());
      on.left.reset();
      std::array<char, 2> two{};
      iovec part{two.data(), two.size()};
      const auto answer = co_await on.right->read({&part, 1});
      BOOST_TEST_REQUIRE(answer.has_error());
      BOOST_TEST((answer.error().code == errc::peer_closed));
      BOOST_TEST((answer.error().what == operation::receive));
      BOOST_TEST(two[0] == 'x');
      BOOST_TEST(part.iov_len == 1u);
    };
    on.run(work());
  });
}

BOOST_AUTO_TEST_CASE(whoever_only_writes_learns_why_the_peer_refused_him) {
  const files in;
  const authority house("house"), stranger("stranger");
  const auto client = tls_context::make(in.certified("strange", stranger.issue("DNS:host-1"), house)).value();
  const auto server = tls_context::make(in.certified("good", house.issue("DNS:host-7"), house)).value();
  over_both([&](wire& on) {
    both ended;
    error seen;
    const auto work = [&]() -> task<> {
      co_await meet(on, client, server, "host-7", ended);
      result<void> sent{};
      for (int i = 0; i < 100 && sent; ++i) sent = co_await write_one(**ended.client->operator->(), 'x');
      if (!sent) seen = sent.error();
    };
    on.run(work());
    check(seen, errc::untrusted, "does not trust the authority that signed our certificate");
  });
}

BOOST_AUTO_TEST_CASE(close_and_destruction_end_a_read_and_a_write_that_wait) {
  for (const bool destroy : {false, true}) {
    over_both([destroy](wire& on) {
      secure_by_key(on);
      std::vector<char> large(std::size_t{64} << 20);
      int ended = 0;
      latch done(2);
      const auto expect_closed = [&](task<result<void>> work) -> task<> {
        const auto answer = co_await std::move(work);
        ended += answer.has_error() && answer.error().code == errc::closed;
        done.count_down();
      };
      const auto work = [&]() -> task<> {
        char byte = 0;
        iovec one{&byte, 1};
        iovec part{large.data(), large.size()};
        start(expect_closed(on.left->read({&one, 1})));
        start(expect_closed(on.left->write({&part, 1})));
        timer bell(on.loop());
        co_await bell.until(on.loop().now() + std::chrono::milliseconds(5));  // both wait, the buffers are full
        on.left->close();
        if (destroy) on.left.reset();
        co_await done;
        if (!destroy) BOOST_TEST(((co_await read_one(*on.left, byte)).error().code == errc::closed));
        if (!destroy) BOOST_TEST(((co_await write_one(*on.left, byte)).error().code == errc::closed));
      };
      on.run(work());
      BOOST_TEST(ended == 2);
    });
  }
}

BOOST_AUTO_TEST_CASE(no_descriptor_outlives_a_loop_destroyed_in_the_middle_of_a_handshake) {
  const files in;
  const auto context = tls_context::make(in.with_key("one", one_key)).value();
  const auto before = open_descriptors();
  {
    auto owner = make_loop();
    connection pair(*owner);
    const auto accept = [&]() -> task<> { (void)co_await tls_accept(std::move(pair.right), context); };
    const auto waiting = hold(accept());
    run_on(*owner, one_turn(*owner));
    BOOST_TEST(!waiting.done());
    owner.reset();
  }
  BOOST_TEST(open_descriptors() == before);
}

BOOST_AUTO_TEST_SUITE_END()
