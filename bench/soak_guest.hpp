// SPDX-License-Identifier: Apache-2.0
//
// The guest of the soak: two RAM blocks and a copy of them, two test devices, and views: parts of blocks that are shown to
// the devices, some of them twice, and most of them now here and now there.
//
// Each view moves in an arena of IOVAs of its own, so that no two of them meet.
//
// Threading: the executor's, one thread; `view::at` from any.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/device.hpp>
#include <tidemark/dirty_stream.hpp>
#include <tidemark/host.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <vector>

#include "cli/guest_memory.hpp"
#include "ring/loop.hpp"
#include "ring/task.hpp"
#include "soak_report.hpp"

namespace tidemark::bench {

using choices = std::mt19937_64;

constexpr std::size_t soak_devices = 2;

/// A part of a block, and where devices see it.
struct view {
  view(block_index block_, std::uint64_t first_page_, std::uint64_t pages_, bool moves_, std::uint64_t arena_)
      : block(block_), first_page(first_page_), pages(pages_), moves(moves_), arena(arena_) {}

  const block_index block;
  const std::uint64_t first_page;
  const std::uint64_t pages;
  const bool moves;                  ///< else it stays where it was first
  const std::uint64_t arena;         ///< where its IOVAs begin
  std::atomic<std::uint64_t> at{0};  ///< IOVA; 0: nowhere. While it goes or comes a device may find nothing there
};

/// Who is to tell what devices dirtied.
enum class soak_teller : std::uint8_t { devices, container };
std::string_view name_of(soak_teller who) noexcept;

class soak_guest {
 public:
  soak_guest(ring::loop& loop, kernel::files& kernel, soak_teller who, std::uint64_t seed, soak_report& report);

  /// Memory, devices, views, and the stream: all that it hands out first is still to be pulled.
  ring::task<result<void>> begin();
  ring::task<result<void>> end();

  ring::task<result<void>> attach(std::size_t which);
  ring::task<result<void>> detach(std::size_t which);
  const device& device_of(std::size_t which) const { return *devices_[which]; }

  std::deque<view>& views() noexcept { return views_; }
  ring::task<result<void>> add(view& shown, std::uint64_t iova);
  ring::task<result<void>> remove(iova_range where);
  /// Somewhere in its arena.
  static std::uint64_t place(const view& shown, choices& random);

  dirty_stream& stream() noexcept { return *stream_; }
  ring::task<result<void>> restart();
  /// Counts what sources told since the stream started.
  void note_tellers();

  /// To the copy, as a consumer sends pages elsewhere.
  void copy(page_run run) noexcept;
  /// Pages of the copy that differ, each of them told to the report.
  std::uint64_t compare(const std::string& when);

  ring::loop& loop() noexcept { return loop_; }
  any_io_executor executor() const { return executor_; }
  soak_report& report() noexcept { return report_; }
  soak_teller teller() const noexcept { return teller_; }
  std::uint64_t pages() const noexcept;
  std::uint64_t pages_of_block() const noexcept { return memory_.front().block().pages(); }

 private:
  result<void> make_memory();
  void make_views();

  ring::loop& loop_;
  any_io_executor executor_;
  const soak_teller teller_;
  soak_report& report_;
  choices random_;
  std::vector<cli::guest_memory> memory_;
  std::vector<cli::guest_memory> copies_;
  host host_;
  address_space space_;
  std::optional<dirty_stream> stream_;
  std::array<std::optional<device>, soak_devices> devices_;
  std::deque<view> views_;
};

}  // namespace tidemark::bench
