// SPDX-License-Identifier: Apache-2.0

#include "migrate/restore.hpp"

#include <memory>
#include <utility>
#include <vector>

#include "migrate/guest_calls.hpp"
#include "migrate/snapshot_reader.hpp"

namespace tidemark::migrate {

using ring::task;

namespace {

/// On the loop.
task<result<std::uint64_t>> read(snapshot_reader& from, const std::vector<ram_block>& blocks) {
  auto done = co_await from.restore(blocks, snapshot_reader::memory::used);
  if (!done) co_return done.error();
  co_return from.stored_pages() * page_bytes;
}

/// On the loop.
task<result<void>> end(std::unique_ptr<snapshot_reader> reader) {
  reader.reset();
  co_return result<void>{};
}

}  // namespace

task<result<std::uint64_t>> restore(restore_parts with, std::string path) {
  const any_io_executor file = with.loop.get_executor();
  const ring::resume_on here{with.executor};
  auto reader = co_await ring::run_on(file, snapshot_reader::open(with.loop, std::move(path)), here);
  if (!reader) co_return reader.error();
  auto room = with.make_room((*reader)->blocks());
  result<std::uint64_t> done = room ? result<std::uint64_t>(0) : result<std::uint64_t>(room.error());
  if (room) done = co_await ring::run_on(file, read(**reader, *room), here);
  (void)co_await ring::run_on(file, end(std::move(*reader)), here);
  if (!done) co_return done;
  if (auto resumed = co_await resume_guest(with.vm, here); !resumed) co_return resumed.error();
  co_return done;
}

}  // namespace tidemark::migrate
