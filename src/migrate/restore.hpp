// SPDX-License-Identifier: Apache-2.0
//
// Takes a guest out of a snapshot. Threading: everything that is the guest's on `executor`; the file on a loop of its own,
// which writes RAM blocks.

#pragma once

#include <tidemark/migration.hpp>

#include <cstdint>
#include <string>

#include "migrate/destination.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::migrate {

struct restore_parts {
  any_io_executor executor;
  ring::uring_loop& loop;
  guest& vm;
  destination::make_room_call make_room;
  workers& threads;
  device_states* devices = nullptr;  ///< none: the guest has none
};

/// Completes when the guest runs here: with the bytes of its memory that the file had.
ring::task<result<std::uint64_t>> restore(restore_parts with, std::string path);

}  // namespace tidemark::migrate
