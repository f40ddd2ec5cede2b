// SPDX-License-Identifier: Apache-2.0

#include "migrate/socket_network.hpp"

#include <boost/asio/post.hpp>
#include <span>
#include <string_view>
#include <utility>

namespace tidemark::migrate {

using ring::task;

namespace {

constexpr std::string_view tcp_prefix = "tcp:";
constexpr std::string_view memory_prefix = "fd:";

/// What ring::resolve() reads.
std::string place_of(std::string_view address) {
  if (address.starts_with(tcp_prefix)) return std::string(address.substr(tcp_prefix.size()));
  if (address.starts_with(memory_prefix)) return "unix:" + std::string(address.substr(memory_prefix.size()));
  return std::string(address);
}

/// Nothing where the address needs no TLS, or does without.
result<std::optional<ring::tls_context>> tls_for(const migration_peer& peer) {
  if (!peer.address.starts_with(tcp_prefix) || peer.plain) return std::optional<ring::tls_context>();
  const auto& who = peer.identity;
  auto made = ring::tls_context::make({who.certificate, who.key, who.authority, who.psk});
  if (!made) return made.error();
  return std::optional(std::move(*made));
}

std::string host_of(std::string_view address) {
  auto host = address.substr(tcp_prefix.size());
  host = host.substr(0, host.rfind(':'));
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return std::string(host);
}

/// A connection whose peer has to prove who it is before the first byte is read: then whoever accepts need not wait for it.
/// A peer that speaks no TLS can be written to as it speaks itself, to be told so.
class proving_stream final : public ring::byte_stream {
 public:
  proving_stream(std::shared_ptr<ring::byte_stream> below, const ring::tls_context& tls)
      : below_(std::move(below)), tls_(tls) {}

  task<result<void>> write(std::span<iovec> parts) override {
    if (state_ != state::proved && state_ != state::plain) co_return make_error(operation::send, errc::closed);
    co_return co_await used().write(parts);
  }
  task<result<void>> read(std::span<iovec> parts) override {
    if (auto proved = co_await prove(); !proved) co_return proved;
    co_return co_await above_->read(parts);
  }
  task<result<std::size_t>> read_some(std::span<std::byte> into) override {
    if (auto proved = co_await prove(); !proved) co_return proved.error();
    co_return co_await above_->read_some(into);
  }
  void end_writing() noexcept override { used().end_writing(); }
  void close() noexcept override { used().close(); }

 private:
  enum class state : std::uint8_t { fresh, unproved, proved, plain };

  ring::byte_stream& used() noexcept { return above_ ? *above_ : *below_; }

  task<result<void>> prove() {
    if (state_ == state::proved) co_return result<void>{};
    if (state_ != state::fresh) co_return make_error(operation::set_up_tls, errc::closed);
    state_ = state::unproved;
    auto safe = co_await ring::tls_accept(below_, tls_);
    if (safe) {
      state_ = state::proved;
      above_ = std::move(*safe);
      co_return result<void>{};
    }
    if (safe.error().code == make_error_code(errc::not_tls)) state_ = state::plain;
    co_return safe.error();
  }

  std::shared_ptr<ring::byte_stream> below_;
  const ring::tls_context& tls_;
  std::unique_ptr<ring::byte_stream> above_;
  state state_ = state::fresh;
};

}  // namespace

// --- the source's side ---

result<std::unique_ptr<socket_network>> socket_network::make(const migration_peer& to) {
  std::unique_ptr<socket_network> made(new socket_network);
  auto peer = ring::resolve(place_of(to.address));
  if (!peer) return peer.error();
  made->peer_ = std::move(*peer);
  made->congestion_control_ = to.congestion_control;
  auto tls = tls_for(to);
  if (!tls) return tls.error();
  made->tls_ = std::move(*tls);
  if (made->tls_) made->peer_name_ = to.identity.peer_name.empty() ? host_of(to.address) : to.identity.peer_name;
  made->greeting_.resize(to.channels);
  for (unsigned channel = 0; channel != to.channels; ++channel) {
    auto thread = ring::loop_thread::make("tidemark-out-" + std::to_string(channel));
    if (!thread) return thread.error();
    made->connectors_.emplace_back((*thread)->loop());
    made->threads_.push_back(std::move(*thread));
  }
  return made;
}

task<result<std::unique_ptr<ring::byte_stream>>> socket_network::connect(unsigned channel) {
  auto plain = co_await connectors_[channel].connect(peer_, congestion_control_);
  if (!plain || !tls_) co_return plain;
  greeting_[channel] = plain->get();
  auto safe = co_await ring::tls_connect(std::move(*plain), *tls_, peer_name_);
  greeting_[channel] = nullptr;
  co_return safe;
}

void socket_network::cut(unsigned channel) noexcept {
  connectors_[channel].close();
  if (greeting_[channel]) greeting_[channel]->close();
}

// --- the destination's side ---

result<std::unique_ptr<socket_arrivals>> socket_arrivals::listen(any_io_executor executor, const migration_peer& at) {
  std::unique_ptr<socket_arrivals> made(new socket_arrivals);
  made->executor_ = std::move(executor);
  const auto place = ring::resolve(place_of(at.address));
  if (!place) return place.error();
  auto tls = tls_for(at);
  if (!tls) return tls.error();
  made->tls_ = std::move(*tls);
  auto thread = ring::loop_thread::make("tidemark-accept");
  if (!thread) return thread.error();
  made->thread_ = std::move(*thread);
  auto listener = ring::listener::open(made->thread_->loop(), *place);
  if (!listener) return listener.error();
  made->listener_ = std::move(*listener);
  made->address_ = at.address;
  if (at.address.starts_with(tcp_prefix))
    made->address_ = at.address.substr(0, at.address.rfind(':') + 1) + std::to_string(made->listener_->port());
  return made;
}

socket_arrivals::~socket_arrivals() {
  if (thread_) thread_->stop();
}

result<std::shared_ptr<ring::loop_thread>> socket_arrivals::take_thread() {
  std::unique_ptr<ring::loop_thread> thread;
  {
    const std::lock_guard lock(pool_->mutex);
    if (!pool_->idle.empty()) {
      thread = std::move(pool_->idle.back());
      pool_->idle.pop_back();
    }
  }
  if (!thread) {
    auto made = ring::loop_thread::make("tidemark-in");
    if (!made) return made.error();
    thread = std::move(*made);
  }
  // Back to the pool, which is emptied by whoever destroys this: a thread cannot wait for its own end.
  return std::shared_ptr<ring::loop_thread>(thread.release(), [pool = pool_](ring::loop_thread* done) {
    const std::lock_guard lock(pool->mutex);
    pool->idle.emplace_back(done);
  });
}

task<result<arrival>> socket_arrivals::next() {
  auto thread = take_thread();
  if (!thread) co_return thread.error();
  auto stream = co_await ring::run_on(thread_->loop().get_executor(), listener_->accept_for((*thread)->loop()),
                                      ring::resume_on{executor_});
  if (!stream) co_return stream.error();
  auto& loop = (*thread)->loop();
  if (tls_) *stream = std::make_unique<proving_stream>(std::move(*stream), *tls_);
  co_return arrival{std::move(*thread), &loop, &loop, std::move(*stream)};
}

void socket_arrivals::close() noexcept {
  boost::asio::post(thread_->loop().get_executor(), [this] { listener_->close(); });
}

}  // namespace tidemark::migrate
