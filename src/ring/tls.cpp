// SPDX-License-Identifier: Apache-2.0

#include "ring/tls.hpp"

#include <span>
#include <utility>
#include <vector>

#include "ring/tls_engine.hpp"

namespace tidemark::ring {

namespace {

using detail::tls_engine;
using detail::tls_material;
using engine_ptr = std::unique_ptr<tls_engine>;
using step = tls_engine::step;

/// A stream's, and its operations' under way: whoever leaves last takes it away.
struct session {
  session(std::shared_ptr<byte_stream> to, engine_ptr by) noexcept : below(std::move(to)), engine(std::move(by)) {}

  std::shared_ptr<byte_stream> below;
  engine_ptr engine;
  std::vector<char> sending;  ///< the stream's below while a write is under way
  bool reading = false;
  bool closed = false;
};
using shared_session = std::shared_ptr<session>;

error closed_here(operation what) { return make_error(what, errc::closed, {}, "this side closed the connection"); }

/// Marks a read as under way.
class reading {
 public:
  explicit reading(session& of) noexcept : of_(of) { of_.reading = true; }
  reading(const reading&) = delete;
  ~reading() { of_.reading = false; }

 private:
  session& of_;
};

// Waits for bytes from below, and gives them to the engine.
task<result<void>> take_in(session& of) {
  auto came = co_await of.below->read_some(of.engine->room());
  if (!came) co_return came.error();
  of.engine->came(*came);
  co_return result<void>{};
}

// Sends all that the engine has to send.
task<result<void>> send_out(session& of) {
  std::swap(of.sending, of.engine->outgoing());
  iovec part{of.sending.data(), of.sending.size()};
  auto sent = co_await of.below->write(std::span(&part, 1));
  of.sending.clear();
  co_return sent;
}

// A peer that refuses us says why and leaves, so whoever is sending sees a broken connection first. What it said, if
// anything; else `seen`.
task<error> why_left(session& of, error seen) {
  if (of.closed) co_return closed_here(operation::send);
  if (of.reading || seen.code != errc::peer_closed) co_return seen;
  const reading now(of);
  for (;;) {
    const auto look = of.engine->look_for_refusal();
    if (look == step::failed && !of.closed) co_return of.engine->failure();
    if (look != step::wants_bytes) co_return seen;
    const auto came = co_await take_in(of);
    if (!came) co_return of.closed ? closed_here(operation::send) : seen;
  }
}

task<result<void>> write_all(shared_session of, std::span<iovec> parts) {
  if (of->closed) co_return closed_here(operation::send);
  parts = consume(parts, 0);
  while (!parts.empty()) {
    const auto rest = of->engine->seal(parts);
    if (!rest) co_return rest.error();
    parts = *rest;
    auto sent = co_await send_out(*of);
    if (!sent) co_return co_await why_left(*of, sent.error());
  }
  co_return result<void>{};
}

task<result<void>> read_all(shared_session of, std::span<iovec> parts) {
  if (of->closed) co_return closed_here(operation::receive);
  const reading now(*of);
  parts = consume(parts, 0);
  while (!parts.empty()) {
    const auto got = of->engine->open({static_cast<std::byte*>(parts.front().iov_base), parts.front().iov_len});
    if (!got) co_return got.error();
    parts = consume(parts, *got);
    if (*got != 0) continue;
    const auto came = co_await take_in(*of);
    if (of->closed) co_return closed_here(operation::receive);
    if (!came) co_return came.error();
  }
  co_return result<void>{};
}

task<result<std::size_t>> read_some_of(shared_session of, std::span<std::byte> into) {
  if (of->closed) co_return closed_here(operation::receive);
  const reading now(*of);
  std::size_t filled = 0;
  while (filled != into.size()) {
    const auto got = of->engine->open(into.subspan(filled));
    if (!got && filled == 0) co_return got.error();
    if (got) filled += *got;
    if (got && *got != 0) continue;
    if (filled != 0) break;  // a failure is told next time
    const auto came = co_await take_in(*of);
    if (of->closed) co_return closed_here(operation::receive);
    if (!came) co_return came.error();
  }
  co_return filled;
}

class tls_stream final : public byte_stream {
 public:
  explicit tls_stream(shared_session of) noexcept : session_(std::move(of)) {}
  ~tls_stream() override { tls_stream::close(); }

  task<result<void>> write(std::span<iovec> parts) override { return write_all(session_, parts); }
  task<result<void>> read(std::span<iovec> parts) override { return read_all(session_, parts); }
  task<result<std::size_t>> read_some(std::span<std::byte> into) override { return read_some_of(session_, into); }

  void end_writing() noexcept override { session_->below->end_writing(); }
  void close() noexcept override {
    session_->closed = true;
    session_->below->close();
  }

 private:
  shared_session session_;
};

error broken_off(const error& seen) {
  if (seen.code != errc::peer_closed) return seen;
  return make_error(operation::set_up_tls, errc::peer_closed, {},
                    "the peer left during the handshake; does it speak TLS? its log says why");
}

task<result<std::unique_ptr<byte_stream>>> secure(std::shared_ptr<byte_stream> below,
                                                  std::shared_ptr<const tls_material> ours, tls_engine::side as,
                                                  std::string name) {
  auto engine = tls_engine::make(std::move(ours), as, std::move(name));
  if (!engine) co_return engine.error();
  const auto of = std::make_shared<session>(std::move(below), std::move(*engine));
  for (;;) {
    const auto now = of->engine->handshake();
    if (!of->engine->outgoing().empty()) {  // of a failure the peer is told, too
      auto sent = co_await send_out(*of);
      if (!sent && now != step::failed) co_return broken_off(co_await why_left(*of, sent.error()));
    }
    if (now == step::failed) co_return of->engine->failure();
    if (now == step::done) co_return std::make_unique<tls_stream>(of);
    const auto came = co_await take_in(*of);
    if (!came) co_return broken_off(came.error());
  }
}

}  // namespace

task<result<std::unique_ptr<byte_stream>>> tls_connect(std::shared_ptr<byte_stream> below, const tls_context& context,
                                                       std::string name) {
  return secure(std::move(below), context.material_, tls_engine::side::client, std::move(name));
}

task<result<std::unique_ptr<byte_stream>>> tls_accept(std::shared_ptr<byte_stream> below, const tls_context& context) {
  return secure(std::move(below), context.material_, tls_engine::side::server, {});
}

}  // namespace tidemark::ring
