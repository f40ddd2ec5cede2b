// SPDX-License-Identifier: Apache-2.0

#include "migrate/page_packer.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "migrate/zero_page.hpp"

namespace tidemark::migrate {

namespace {

/// Pages of one wire_run, at most twice this.
constexpr std::uint64_t zero_run_max = std::uint64_t{1} << 30;

/// The page that comes next: the processor's own prefetcher stops at the end of each.
void fetch(const std::byte* page) noexcept {
  constexpr std::size_t line_bytes = 64;
  for (std::size_t at = 0; at != page_bytes; at += line_bytes) __builtin_prefetch(page + at, 0, 0);
}

bool same(const page_sum& a, const page_sum& b) noexcept { return a.low64 == b.low64 && a.high64 == b.high64; }

}  // namespace

void page_packer::freed::operator()(std::byte* memory) const noexcept { std::free(memory); }

page_packer::page_packer(const page_key& key)
    : key_(key),
      sent_(known_pages),
      staging_(static_cast<std::byte*>(std::aligned_alloc(page_bytes, pages_in_frame * page_bytes))) {
  if (!staging_) throw std::bad_alloc();
  sums_.reserve(frame_runs_max);
}

page_packer::packed_frame page_packer::next(std::vector<page_run>& runs, const std::vector<ram_block>& blocks) {
  packed_frame made;
  staged_pages_ = 0;
  sums_.clear();
  auto run = runs.begin();
  for (; run != runs.end(); ++run) {
    while (run->pages != 0 && staged_pages_ != pages_in_frame && made.runs.size() != frame_runs_max &&
           sums_.size() != frame_runs_max) {
      const auto untouched = untouched_in(*run, blocks);
      if (untouched != 0) {
        made.zero_pages += untouched;
        append(made.runs, {run->block, page_kind::zero, run->first_page, static_cast<std::uint32_t>(untouched), 0, 0});
      } else {
        if (run->pages != 1) fetch(blocks[run->block].host + (run->first_page + 1) * page_bytes);
        take_page(made, blocks[run->block], run->block, run->first_page);
      }
      const auto taken = std::max<std::uint64_t>(untouched, 1);
      run->first_page += taken;
      run->pages -= taken;
    }
    if (run->pages != 0) break;
  }
  runs.erase(runs.begin(), run);
  made.data = {staging_.get(), staged_pages_ * page_bytes};
  made.checksum = XXH3_64bits(sums_.data(), sums_.size() * sizeof(page_sum));
  return made;
}

/// Only in the first round, of which everything is: what is dirty later was written.
std::uint64_t page_packer::untouched_in(const page_run& run, const std::vector<ram_block>& blocks) {
  if (round_ != first_round) return 0;
  return untouched_.count(run.block, blocks[run.block], run.first_page, std::min(run.pages, zero_run_max));
}

void page_packer::take_page(packed_frame& into, const ram_block& from, block_index block, std::uint64_t page) {
  const auto* memory = from.host + page * page_bytes;
  if (is_zero_page(memory)) {
    ++into.zero_pages;
    append(into.runs, {block, page_kind::zero, page, 1, 0, 0});
    return;
  }
  auto* copy = staging_.get() + staged_pages_ * page_bytes;
  std::memcpy(copy, memory, page_bytes);
  const auto sum = sum_of_page(copy, key_);
  sums_.push_back(sum);
  auto& seen = sent_[sum.low64 & (known_pages - 1)];
  if (seen.round == round_ && same(seen.sum, sum)) {
    ++into.repeated_pages;
    append(into.runs, {block, page_kind::repeated, page, 1, seen.block, seen.page});
    return;
  }
  seen = {sum, round_, block, page};
  ++staged_pages_;
  append(into.runs, {block, page_kind::data, page, 1, 0, 0});
}

/// A page that goes on where the last run ends makes it longer.
void page_packer::append(std::vector<wire_run>& runs, const wire_run& page) {
  if (!runs.empty()) {
    auto& last = runs.back();
    const bool follows =
        last.kind == page.kind && last.block == page.block && last.first_page + last.pages == page.first_page;
    const bool origin_follows = page.kind != page_kind::repeated ||
                                (last.from_block == page.from_block && last.from_page + last.pages == page.from_page);
    if (follows && origin_follows && last.pages < zero_run_max) {
      last.pages += page.pages;
      return;
    }
  }
  runs.push_back(page);
}

}  // namespace tidemark::migrate
