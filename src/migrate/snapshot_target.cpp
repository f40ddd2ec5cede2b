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

/// On the loop.
task<result<std::uint64_t>> write(snapshot_writer& to, std::vector<page_run> runs, const std::vector<ram_block>& blocks) {
  auto written = co_await to.write(std::move(runs), blocks);
  if (!written) co_return written.error();
  co_return to.written_bytes();
}

/// On the loop.
task<result<void>> end(std::unique_ptr<snapshot_writer> writer) {
  writer.reset();
  co_return result<void>{};
}

}  // namespace

snapshot_target::snapshot_target(parts with) : with_(std::move(with)) {}
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

task<result<delivery>> snapshot_target::send(std::span<const page_run> runs) {
  auto written = co_await on_loop(write(*writer_, {runs.begin(), runs.end()}, with_.blocks));
  if (!written) co_return written.error();
  written_bytes_ = *written;
  co_return delivery{};
}

task<result<void>> snapshot_target::send_device(unsigned device, std::span<const std::byte> bytes) {
  co_return co_await on_loop(writer_->write_device(with_.devices[device], bytes));
}

task<result<void>> snapshot_target::touch() { co_return result<void>{}; }

task<result<void>> snapshot_target::finish() { co_return co_await on_loop(writer_->finish()); }

task<result<void>> snapshot_target::hand_over() { co_return result<void>{}; }

task<result<std::string>> snapshot_target::compare(std::vector<std::string>) { co_return std::string(); }

task<void> snapshot_target::leave(const error*) {
  if (writer_) (void)co_await on_loop(end(std::move(writer_)));
}

}  // namespace tidemark::migrate
