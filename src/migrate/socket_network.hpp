// SPDX-License-Identifier: Apache-2.0
//
// Connections over sockets, each on a ring with a thread of its own.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration_peer.hpp>
#include <tidemark/operation.hpp>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "migrate/network.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"
#include "ring/loop_thread.hpp"
#include "ring/socket.hpp"
#include "ring/tls.hpp"

namespace tidemark::migrate {

/// The source's side. Threading: made and destroyed by the same thread, when nothing is under way.
class socket_network final : public network {
 public:
  /// BLOCKS on a name server when the address has a host's name.
  static result<std::unique_ptr<socket_network>> make(const migration_peer& to);

  unsigned channels() const noexcept override { return static_cast<unsigned>(threads_.size()); }
  ring::loop& loop(unsigned channel) noexcept override { return threads_[channel]->loop(); }
  ring::uring_loop* uring(unsigned channel) noexcept override { return &threads_[channel]->loop(); }
  ring::task<result<std::unique_ptr<ring::byte_stream>>> connect(unsigned channel) override;
  void cut(unsigned channel) noexcept override;

 private:
  socket_network() = default;

  ring::address peer_;
  std::string congestion_control_;
  std::optional<ring::tls_context> tls_;      ///< nothing: none is needed, or wanted
  std::string peer_name_;                     ///< in its certificate
  std::vector<ring::connector> connectors_;   ///< of each channel
  std::vector<ring::byte_stream*> greeting_;  ///< of each channel: the connection whose peers get to know each other
  std::vector<std::unique_ptr<ring::loop_thread>> threads_;  ///< last: they end first, and a cut() may be posted to them
};

/// The destination's side. Threading: the destination's executor; made before and destroyed after the destination.
class socket_arrivals final : public arrivals {
 public:
  static result<std::unique_ptr<socket_arrivals>> listen(any_io_executor executor, const migration_peer& at);
  ~socket_arrivals() override;

  /// As the address was given, with the port that was taken.
  const std::string& address() const noexcept { return address_; }
  ring::loop& clock() noexcept { return thread_->loop(); }

  ring::task<result<arrival>> next() override;
  void close() noexcept override;

 private:
  /// Threads that wait for a connection: those that had one and lost it first.
  struct pool {
    std::mutex mutex;
    std::vector<std::unique_ptr<ring::loop_thread>> idle;
  };

  socket_arrivals() = default;
  result<std::shared_ptr<ring::loop_thread>> take_thread();

  any_io_executor executor_;
  std::string address_;
  std::optional<ring::tls_context> tls_;
  std::shared_ptr<pool> pool_ = std::make_shared<pool>();
  std::unique_ptr<ring::loop_thread> thread_;
  std::unique_ptr<ring::listener> listener_;
};

}  // namespace tidemark::migrate
