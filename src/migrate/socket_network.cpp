// SPDX-License-Identifier: Apache-2.0

#include "migrate/socket_network.hpp"

#include <boost/asio/post.hpp>
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

}  // namespace

// --- the source's side ---

result<std::unique_ptr<socket_network>> socket_network::make(const migration_peer& to) {
  std::unique_ptr<socket_network> made(new socket_network);
  auto peer = ring::resolve(place_of(to.address));
  if (!peer) return peer.error();
  made->peer_ = std::move(*peer);
  for (unsigned channel = 0; channel != to.channels; ++channel) {
    auto thread = ring::loop_thread::make("tidemark-out-" + std::to_string(channel));
    if (!thread) return thread.error();
    made->threads_.push_back(std::move(*thread));
  }
  return made;
}

task<result<std::unique_ptr<ring::byte_stream>>> socket_network::connect(unsigned channel) {
  co_return co_await ring::connect(threads_[channel]->loop(), peer_);
}

// --- the destination's side ---

result<std::unique_ptr<socket_arrivals>> socket_arrivals::listen(any_io_executor executor, const migration_peer& at) {
  std::unique_ptr<socket_arrivals> made(new socket_arrivals);
  made->executor_ = std::move(executor);
  const auto place = ring::resolve(place_of(at.address));
  if (!place) return place.error();
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
  co_return arrival{std::move(*thread), &loop, std::move(*stream)};
}

void socket_arrivals::close() noexcept {
  boost::asio::post(thread_->loop().get_executor(), [this] { listener_->close(); });
}

}  // namespace tidemark::migrate
