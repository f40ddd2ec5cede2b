// SPDX-License-Identifier: Apache-2.0
//
// Makes `pages` frames of runs of guest memory, on one channel: copies each page first, for the guest goes on writing, and
// what is checked, packed and sent must be one and the same; leaves out what is zero, and what is the same as a page that
// was sent in this round.
//
// Invariants
//  1. A page is named as the origin of a repeated one only if it was sent, as it was then, on this channel in this round: in
//     a round no page is sent twice, so it still is so at the destination.
//  2. What next() gave is valid until the next call. One payload at most is held: payload_bytes_max, twice when packed.
//
// Threading: the channel's loop.

#pragma once

#include <tidemark/migration.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "migrate/packing.hpp"
#include "migrate/page_sum.hpp"
#include "migrate/untouched.hpp"
#include "migrate/wire.hpp"

namespace tidemark::migrate {

class page_packer {
 public:
  struct packed_frame {
    std::vector<wire_run> runs;
    std::uint64_t checksum = 0;       ///< for pages_head
    std::span<const std::byte> data;  ///< the data pages
    std::uint64_t zero_pages = 0;
    std::uint64_t repeated_pages = 0;
    std::uint64_t pages() const noexcept { return data.size() / page_bytes + zero_pages + repeated_pages; }
  };

  explicit page_packer(const page_key& key);

  /// Before it is found out what is dirty: forgets which pages were sent, and which were never written.
  void begin_round() noexcept {
    ++round_;
    untouched_.forget();
  }

  /// Takes pages off the front of `runs` until there are none, or the frame is full.
  packed_frame next(std::vector<page_run>& runs, const std::vector<ram_block>& blocks);

 private:
  static constexpr std::uint64_t pages_in_frame = 128;  ///< of data: what is copied is still in the cache when it is sent
  static constexpr std::size_t known_pages = 1 << 12;   ///< a power of two; they stay in the cache, too

  /// A page that was sent.
  struct known {
    page_sum sum{};
    std::uint32_t round = 0;
    block_index block = 0;
    std::uint64_t page = 0;
  };
  struct freed {
    void operator()(std::byte* memory) const noexcept;
  };

  std::uint64_t untouched_in(const page_run& run, const std::vector<ram_block>& blocks);
  void take_page(packed_frame& into, const ram_block& from, block_index block, std::uint64_t page);
  static void append(std::vector<wire_run>& runs, const wire_run& page);

  const page_key key_;
  untouched_pages untouched_{untouched_pages::holes::remembered};
  static constexpr std::uint32_t first_round = 2;  ///< after its begin_round()
  std::uint32_t round_ = 1;
  std::vector<known> sent_;
  std::unique_ptr<std::byte[], freed> staging_;
  std::uint64_t staged_pages_ = 0;
  std::vector<page_sum> sums_;
};

}  // namespace tidemark::migrate
