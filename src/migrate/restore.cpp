// SPDX-License-Identifier: Apache-2.0

#include "migrate/restore.hpp"

#include <algorithm>
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
task<result<void>> read_device(snapshot_reader& from, std::size_t index, state_file to) {
  std::vector<std::byte> buffer(1 << 20);
  for (std::uint64_t at = 0; at != from.devices()[index].bytes;) {
    const auto piece = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), from.devices()[index].bytes - at));
    if (auto read = co_await from.read_device(index, at, piece); !read) co_return read;
    if (auto written = co_await to.write(piece); !written) co_return written;
    at += piece.size();
  }
  co_return result<void>{};
}

/// On the loop.
task<result<void>> end(std::unique_ptr<snapshot_reader> reader) {
  reader.reset();
  co_return result<void>{};
}

/// Memory and devices, until the guest could run.
task<result<std::uint64_t>> take_out(const restore_parts& with, snapshot_reader& reader) {
  const any_io_executor file = with.loop.get_executor();
  const ring::resume_on here{with.executor};
  const auto devices = with.devices ? with.devices->size() : 0;
  if (reader.devices().size() != devices)
    co_return make_error(operation::migrate, errc::not_migratable, {},
                         "the guest in the snapshot has " + std::to_string(reader.devices().size()) +
                             " devices, the one here has " + std::to_string(devices));
  auto room = with.make_room(reader.blocks());
  if (!room) co_return room.error();
  auto done = co_await ring::run_on(file, read(reader, *room), here);
  if (!done || devices == 0) co_return done;
  if (auto started = co_await with.devices->start_resuming(); !started) co_return started.error();
  for (std::size_t i = 0; i != devices; ++i) {
    auto to = with.devices->file(i, {file, with.threads, &with.loop});
    auto put = co_await ring::run_on(file, read_device(reader, i, std::move(to)), here);
    if (!put) co_return put.error();
  }
  if (auto run = co_await with.devices->finish(); !run) co_return run.error();
  co_return done;
}

}  // namespace

task<result<std::uint64_t>> restore(restore_parts with, std::string path) {
  const any_io_executor file = with.loop.get_executor();
  const ring::resume_on here{with.executor};
  auto reader = co_await ring::run_on(file, snapshot_reader::open(with.loop, std::move(path)), here);
  if (!reader) co_return reader.error();
  auto done = co_await take_out(with, **reader);
  (void)co_await ring::run_on(file, end(std::move(*reader)), here);
  if (!done) {
    if (with.devices) (void)co_await with.devices->give_up();
    co_return done;
  }
  if (auto resumed = co_await resume_guest(with.vm, here); !resumed) co_return resumed.error();
  co_return done;
}

}  // namespace tidemark::migrate
