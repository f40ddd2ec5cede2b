// SPDX-License-Identifier: Apache-2.0

#include "migrate/snapshot_target.hpp"

#include <utility>

namespace tidemark::migrate {

using ring::task;

namespace {

/// On the loop.
task<result<std::unique_ptr<snapshot_writer>>> make(ring::uring_loop& loop, std::string path,
                                                    std::vector<block_description> blocks) {
  co_return snapshot_writer::make(loop, std::move(path), std::move(blocks), false);
}

/// On the loop. A device's state is gathered, for each piece has an entry in the file's index.
task<result<std::uint64_t>> write_device(snapshot_writer& to, std::string name, state_file from) {
  std::vector<std::byte> buffer(1 << 20);
  std::uint64_t bytes = 0;
  for (std::size_t held = 0;;) {
    auto got = co_await from.read(std::span(buffer).subspan(held));
    if (!got) co_return got.error();
    held += got->bytes;
    bytes += got->bytes;
    if (got->bytes != 0 && held != buffer.size()) continue;
    if (held != 0)
      if (auto written = co_await to.write_device(name, std::span(buffer).first(held)); !written) co_return written.error();
    held = 0;
    if (got->bytes == 0) co_return bytes;
  }
}

/// On the loop.
task<result<void>> end(std::unique_ptr<snapshot_writer> writer) {
  writer.reset();
  co_return result<void>{};
}

}  // namespace

snapshot_target::snapshot_target(parts with) : with_(std::move(with)), limit_(with_.loop) {}
snapshot_target::~snapshot_target() = default;

task<result<welcome>> snapshot_target::open() {
  std::vector<block_description> blocks;
  for (const auto& block : with_.blocks) blocks.push_back({block.name, block.size, -1});
  auto made = co_await on_loop(make(with_.loop, with_.path, std::move(blocks)));
  if (!made) co_return made.error();
  writer_ = std::move(*made);
  co_return welcome{};
}

task<void> snapshot_target::begin_round() { co_return; }

/// On the loop.
task<result<std::uint64_t>> snapshot_target::write(std::vector<page_run> runs) {
  std::uint64_t pages = 0;
  for (const auto& run : runs) pages += run.pages;
  {
    const auto turn = co_await turns_.lock();
    co_await limit_.await_turn(pages * page_bytes);
  }
  auto written = co_await writer_->write(std::move(runs), with_.blocks);
  if (!written) co_return written.error();
  co_return writer_->written_bytes();
}

task<result<delivery>> snapshot_target::send(std::span<const page_run> runs) {
  auto written = co_await on_loop(write({runs.begin(), runs.end()}));
  if (!written) co_return written.error();
  written_bytes_ = *written;
  co_return delivery{};
}

task<result<std::uint64_t>> snapshot_target::send_device(unsigned device, const device_states& of) {
  const state_place place{with_.loop.get_executor(), with_.threads, &with_.loop};
  co_return co_await on_loop(write_device(*writer_, of.name(device), of.file(device, place)));
}

task<result<void>> snapshot_target::touch() { co_return result<void>{}; }

task<result<void>> snapshot_target::finish() { co_return co_await on_loop(writer_->finish()); }

task<result<void>> snapshot_target::hand_over() { co_return result<void>{}; }

task<result<std::string>> snapshot_target::compare(std::vector<std::string>) { co_return std::string(); }

task<void> snapshot_target::leave(const error*) {
  if (writer_) (void)co_await on_loop(end(std::move(writer_)));
}

}  // namespace tidemark::migrate
