// SPDX-License-Identifier: Apache-2.0
//
// Rounds with exact accounting: devices write a known set of pages, in half of the rounds while regions that nobody writes
// to come and go, and the next round hands out just that set.
//
// Threading: the executor's; the devices write on threads of their own.

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernel/test_device.h"
#include "soak_guest.hpp"

namespace tidemark::bench {

class soak_exact {
 public:
  soak_exact(soak_guest& guest, std::uint64_t seed);

  ring::task<result<void>> run(std::uint64_t rounds);

 private:
  enum class page_state : std::uint8_t { clean, written, handed_out };
  /// A part of a block at IOVAs that no device writes to.
  struct bystander {
    view shown;
    bool is_there = false;
  };

  ring::task<result<void>> round();
  ring::task<result<void>> drain();
  void choose_pages();
  ring::task<> write(std::size_t which, ring::latch& done, result<void>& outcome);
  ring::task<> toggle(bystander& one, ring::latch& done, result<void>& outcome);
  void take(page_run run);
  void judge();
  page_state& state_of(block_index block, std::uint64_t page) { return states_[block * guest_.pages_of_block() + page]; }
  std::string now() const;

  soak_guest& guest_;
  choices random_;
  std::vector<page_state> states_;
  std::vector<page_run> written_;
  std::array<std::vector<tidemark_test_doorbell>, soak_devices> bells_;
  std::array<bystander, 2> bystanders_;
  std::uint64_t rounds_ = 0;
  bool with_events_ = false;
};

}  // namespace tidemark::bench
