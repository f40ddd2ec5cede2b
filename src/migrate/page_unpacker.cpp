// SPDX-License-Identifier: Apache-2.0

#include "migrate/page_unpacker.hpp"

#include <algorithm>
#include <cstring>

#include "migrate/zero_page.hpp"

namespace tidemark::migrate {

namespace {

// Memory that is zero already is not written: nobody may have touched it yet, and then it takes none.
void make_zero_page(std::byte* page) noexcept {
  if (!is_zero_page(page)) std::memset(page, 0, page_bytes);
}

}  // namespace

page_unpacker::page_unpacker(const page_key& key, const std::vector<ram_block>& blocks) : key_(key), blocks_(blocks) {}

std::byte* page_unpacker::at(std::uint32_t block, std::uint64_t page) const noexcept {
  return blocks_[block].host + page * page_bytes;
}

std::vector<iovec> page_unpacker::room_for(const pages_body& said, std::uint64_t payload_bytes) {
  std::vector<iovec> parts;
  if (said.head.how != packing::none) {
    packed_.resize(payload_bytes);
    parts.push_back({packed_.data(), payload_bytes});
    return parts;
  }
  for (const auto& run : said.runs)
    if (run.kind == page_kind::data) parts.push_back({at(run.block, run.first_page), run.pages * page_bytes});
  return parts;
}

result<void> page_unpacker::put(const pages_body& said, std::uint64_t payload_bytes) {
  if (said.head.how != packing::none)
    if (auto done = unpack(said, payload_bytes); !done) return done;
  sums_.clear();
  for (const auto& run : said.runs) {
    if (run.kind == page_kind::zero) {
      make_zero(run);
      continue;
    }
    for (std::uint64_t i = 0; i != run.pages; ++i) {
      auto* page = at(run.block, run.first_page + i);
      if (run.kind == page_kind::repeated) std::memmove(page, at(run.from_block, run.from_page + i), page_bytes);
      sums_.push_back(sum_of_page(page, key_));
    }
  }
  if (XXH3_64bits(sums_.data(), sums_.size() * sizeof(page_sum)) != said.head.checksum)
    return protocol_error("the checksum of a frame's pages is wrong");
  return {};
}

void page_unpacker::make_zero(const wire_run& run) {
  for (std::uint64_t done = 0; done != run.pages;) {
    const auto page = run.first_page + done;
    const auto untouched = untouched_.count(run.block, blocks_[run.block], page, run.pages - done);
    if (untouched == 0) make_zero_page(at(run.block, page));
    done += std::max<std::uint64_t>(untouched, 1);
  }
}

result<void> page_unpacker::unpack(const pages_body& said, std::uint64_t payload_bytes) {
  unpacked_.resize(said.data_pages * page_bytes);
  if (auto done = packer_.unpack(said.head.how, {packed_.data(), payload_bytes}, unpacked_); !done) return done;
  const auto* from = unpacked_.data();
  for (const auto& run : said.runs) {
    if (run.kind != page_kind::data) continue;
    std::memcpy(at(run.block, run.first_page), from, run.pages * page_bytes);
    from += run.pages * page_bytes;
  }
  return {};
}

}  // namespace tidemark::migrate
