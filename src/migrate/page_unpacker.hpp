// SPDX-License-Identifier: Apache-2.0
//
// Puts the pages of `pages` frames into the RAM blocks of a destination, and checks them.
//
// Invariants
//  1. Nothing is written outside the blocks: decode_pages() has looked at every run.
//  2. Pages whose checksum is wrong are an error; what they overwrote is lost, and with it the migration.
//
// Threading: the channel's loop; several channels at once, as their pages are not the same.

#pragma once

#include <sys/uio.h>
#include <tidemark/address_space.hpp>
#include <tidemark/error.hpp>

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "migrate/packing.hpp"
#include "migrate/page_sum.hpp"
#include "migrate/untouched.hpp"
#include "migrate/wire.hpp"

namespace tidemark::migrate {

class page_unpacker {
 public:
  page_unpacker(const page_key& key, const std::vector<ram_block>& blocks);

  const std::vector<ram_block>& blocks() const noexcept { return blocks_; }

  /// Where the payload of `said` is to be read to: the pages themselves, or a buffer here when it is packed.
  std::vector<iovec> room_for(const pages_body& said, std::uint64_t payload_bytes);

  /// When it was read there: everything in its place, and checked.
  result<void> put(const pages_body& said, std::uint64_t payload_bytes);

 private:
  void make_zero(const wire_run& run);
  result<void> unpack(const pages_body& said, std::uint64_t payload_bytes);
  std::byte* at(std::uint32_t block, std::uint64_t page) const noexcept;

  const page_key key_;
  const std::vector<ram_block>& blocks_;
  untouched_pages untouched_{untouched_pages::holes::asked};
  packer packer_;
  std::vector<std::byte> packed_;
  std::vector<std::byte> unpacked_;
  std::vector<page_sum> sums_;
};

}  // namespace tidemark::migrate
