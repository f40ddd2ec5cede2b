// SPDX-License-Identifier: Apache-2.0
//
// A destination at the other end of one or more connections. Channel 0 says what is to be said; pages are shared out by
// where they lie, in stretches of 2 MiB, so that a page always takes the same channel and none overtakes itself. A device's
// state takes one channel, too.
//
// Threading: as target.hpp says; each channel on its own loop.

#pragma once

#include <tidemark/migration.hpp>
#include <tidemark/threads.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "migrate/network.hpp"
#include "migrate/outgoing.hpp"
#include "migrate/target.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"

namespace tidemark::migrate {

class network_target final : public target {
 public:
  struct parts {
    any_io_executor executor;
    network& net;
    const std::vector<ram_block>& blocks;
    std::vector<std::string> devices;  ///< names
    session of;
    compression pages = compression::automatic;
    std::chrono::milliseconds recovery_window{0};
    workers& threads = thread_workers();
    bool hand_over = false;  ///< the blocks' memory files, and no pages
  };
  explicit network_target(parts with);
  /// After leave(), or nothing was opened.
  ~network_target() override;

  bool takes_pages() const noexcept override { return !with_.hand_over; }
  bool takes_over() const noexcept override { return true; }
  ring::task<result<welcome>> open() override;
  ring::task<void> begin_round() override;
  ring::task<result<delivery>> send(std::span<const page_run> runs) override;
  ring::task<result<std::uint64_t>> send_device(unsigned device, const device_states& of) override;
  ring::task<result<void>> touch() override;
  ring::task<result<void>> finish() override;
  ring::task<result<void>> hand_over() override;
  ring::task<result<std::string>> compare(std::vector<std::string> sums) override;
  ring::task<void> leave(const error* why) override;
  void cut(const error* why) noexcept override;
  void set_bandwidth(std::uint64_t bytes_per_s) noexcept override;
  std::uint64_t wire_bytes() const noexcept override;
  unsigned channels() const noexcept override { return with_.net.channels(); }

 private:
  /// One connection, and whoever receives on it. On the channel's loop, but for what is said otherwise.
  struct link {
    std::unique_ptr<outgoing> at;  ///< on the executor too, once it is connected
    bool connected = false;        ///< on the executor
    bool ended = false;
    bool has_last_words = false;  ///< which are on their way
    ring::condition gone;
  };
  using shared_link = std::shared_ptr<link>;

  template <class T>
  auto on_channel(unsigned channel, ring::task<T> work) {
    return ring::run_on(with_.net.loop(channel).get_executor(), std::move(work), ring::resume_on{with_.executor});
  }
  /// Does it on every channel at once: the first failure, which cuts the others.
  ring::task<result<void>> on_all(std::function<ring::task<result<void>>(unsigned)> work);

  /// Why a channel failed: when it was cut because another had, then that one's failure.
  error cause(error failure);

  ring::task<result<void>> connect(unsigned channel);
  static ring::task<result<void>> connect_on(const parts& with, link& to, unsigned channel);
  static ring::task<> refuse(shared_link one, error why);
  static ring::task<void> end(link& one);
  ring::task<void> end_all();
  ring::task<result<void>> exchange(unsigned channel, frame_type said, std::string body, frame_type answer, frame* into);
  std::vector<std::vector<page_run>> share(std::span<const page_run> runs) const;
  outgoing& at(unsigned channel) const noexcept { return *links_[channel]->at; }

  parts with_;
  std::vector<shared_link> links_;
  bool cut_ = false;
  std::optional<error> broken_;  ///< the first failure of a channel since open()
  std::uint64_t attempts_ = 0;
  bool handed_over_ = false;
  std::uint64_t bandwidth_bytes_per_s_ = 0;
  std::uint64_t earlier_wire_bytes_ = 0;
};

}  // namespace tidemark::migrate
