// SPDX-License-Identifier: Apache-2.0
//
// A file that a guest's memory is written into while it runs on (docs/snapshot.md). It stands still for the last round only,
// and goes on here.
//
// Threading: as target.hpp says; the file on a loop of its own.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/threads.hpp>

#include <memory>
#include <string>
#include <vector>

#include "migrate/bandwidth_limit.hpp"
#include "migrate/snapshot_writer.hpp"
#include "migrate/target.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"
#include "ring/mutex.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::migrate {

class snapshot_target final : public target {
 public:
  struct parts {
    any_io_executor executor;
    ring::uring_loop& loop;
    std::string path;
    const std::vector<ram_block>& blocks;
    workers& threads;
  };
  explicit snapshot_target(parts with);
  /// After leave(), or nothing was opened.
  ~snapshot_target() override;

  bool takes_pages() const noexcept override { return true; }
  bool takes_over() const noexcept override { return false; }
  ring::task<result<welcome>> open() override;
  ring::task<void> begin_round() override;
  ring::task<result<delivery>> send(std::span<const page_run> runs) override;
  ring::task<result<std::uint64_t>> send_device(unsigned device, const device_states& of) override;
  ring::task<result<void>> touch() override;
  ring::task<result<void>> finish() override;
  ring::task<result<void>> hand_over() override;
  ring::task<result<std::string>> compare(std::vector<std::string> sums) override;
  ring::task<void> leave(const error* why) override;
  /// Nothing here stands still: what is under way ends by itself.
  void cut(const error*) noexcept override {}
  void set_bandwidth(std::uint64_t bytes_per_s) noexcept override { limit_.set(bytes_per_s); }
  std::uint64_t wire_bytes() const noexcept override { return written_bytes_; }
  unsigned channels() const noexcept override { return 1; }

 private:
  template <class T>
  auto on_loop(ring::task<T> work) {
    return ring::run_on(with_.loop.get_executor(), std::move(work), ring::resume_on{with_.executor});
  }

  ring::task<result<std::uint64_t>> write(std::vector<page_run> runs);

  parts with_;
  std::unique_ptr<snapshot_writer> writer_;
  ring::mutex turns_;  ///< on the loop, as the limit
  bandwidth_limit limit_;
  std::uint64_t written_bytes_ = 0;
};

}  // namespace tidemark::migrate
