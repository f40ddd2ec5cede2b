// SPDX-License-Identifier: Apache-2.0
//
// Takes a guest in.
//
//   auto arriving = migration_destination::listen({executor, vmm, make_room}, {"tcp:0.0.0.0:7000", 1, false, identity});
//   auto done = co_await (*arriving)->async_run(use_awaitable);   // the guest runs here; or why it does not
//
// Invariants
//  1. Nothing is written outside the RAM blocks that `make_room` gave.
//  2. The guest is resumed here only when everything is in place and the source has promised never to run it again; once.
//  3. A connection that breaks is waited for, as long as the source said that it tries. Who connects and cannot prove who he
//     is, makes no sense, or belongs to another migration is refused with a reason, and disturbs nothing.
//
// Threading: everything on `executor`; RAM blocks are written by a thread for each connection.

#pragma once

#include <tidemark/device.hpp>
#include <tidemark/migration.hpp>
#include <tidemark/migration_peer.hpp>
#include <tidemark/operation.hpp>
#include <tidemark/threads.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace tidemark {

struct migration_arrival {
  std::uint64_t received_bytes = 0;  ///< of pages
};

class migration_destination {
 public:
  /// Memory for what the source has, in the same order and of the same sizes, or why not. It is owned by the embedder and
  /// outlives the operation. Pages that are zero are not written where they are zero already.
  using make_room_call = std::function<result<std::vector<ram_block>>(const std::vector<block_description>&)>;

  /// They outlive the operation.
  struct parts {
    any_io_executor executor;
    guest& vm;
    make_room_call make_room;
    std::function<void(const error&)> refused = [](const error&) {};  ///< a stranger, and why
    workers& threads = thread_workers();
    /// Attached devices that take the state of the source's, in the same order.
    std::vector<device> devices{};
  };

  /// Listens. BLOCKS on a name server when the address has a host's name.
  static result<std::unique_ptr<migration_destination>> listen(parts with, migration_peer at);
  migration_destination(const migration_destination&) = delete;
  /// Not while async_run is under way.
  ~migration_destination();

  /// Where it listens, with the port that was taken.
  const std::string& address() const noexcept;

  /// Takes one migration in. Once. Completes when the guest runs here and the source has gone its way; or with why there is
  /// no guest here, or with errc::not_identical.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<migration_arrival>)) Token>
  auto async_run(Token&& token) {
    return detail::initiate<Token>(this, token, &migration_destination::start_run);
  }

  /// Gives up, unless the guest runs here.
  void cancel();

 private:
  class state;
  class listening;
  class reading;
  explicit migration_destination(std::shared_ptr<state> made);

  void start_run(completion<migration_arrival> done);

  std::shared_ptr<state> state_;
};

}  // namespace tidemark
