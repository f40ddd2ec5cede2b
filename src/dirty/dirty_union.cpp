// SPDX-License-Identifier: Apache-2.0

#include "dirty/dirty_union.hpp"

#include <algorithm>
#include <mutex>

namespace tidemark::dirty {

namespace {

/// Under the lock at a time: a multiple of a chunk.
constexpr std::uint64_t slice_pages = 64 * core::bits_per_chunk;

/// Calls `work(first, pages, offset)` for each slice of a range, cut where slices of the block end.
template <class Work>
void in_slices(std::uint64_t first_page, std::uint64_t pages, Work work) {
  for (std::uint64_t done = 0; done < pages;) {
    const auto first = first_page + done;
    const auto here = std::min(pages - done, slice_pages - first % slice_pages);
    work(first, here, done);
    done += here;
  }
}

}  // namespace

dirty_union::dirty_union(const std::vector<ram_block>& blocks) {
  blocks_.reserve(blocks.size());
  for (const auto& one : blocks) blocks_.push_back(std::make_unique<block>(one.pages()));
}

// A slice ends where words of the union end, so words of the source may be cut: then it is merged as one.
dirty_union::told dirty_union::merge(block_index which, std::uint64_t first_page, std::uint64_t pages,
                                     std::span<const std::uint64_t> bits) {
  told all;
  auto* in = find(which);
  if (!in) return all;
  const auto some = [&](std::uint64_t first, std::uint64_t count, std::uint64_t offset) {
    const std::lock_guard lock(in->mutex);
    auto one = in->dirty.merge(first, count, bits.subspan(offset / core::bits_per_word));
    drop_discarded(*in, first, count, one);
    all.told += one.told;
    all.added += one.added;
  };
  if (first_page % core::bits_per_word == 0) {
    in_slices(first_page, pages, some);
  } else {
    some(first_page, pages, 0);
  }
  return all;
}

dirty_union::told dirty_union::mark(page_run run) {
  told all;
  auto* in = find(run.block);
  if (!in) return all;
  in_slices(run.first_page, run.pages, [&](std::uint64_t first, std::uint64_t count, std::uint64_t) {
    const std::lock_guard lock(in->mutex);
    told one{.told = count, .added = in->dirty.count()};
    in->dirty.set(first, count);
    one.added = in->dirty.count() - one.added;
    drop_discarded(*in, first, count, one);
    all.told += one.told;
    all.added += one.added;
  });
  return all;
}

void dirty_union::discarded(page_run run) {
  auto* in = find(run.block);
  if (!in) return;
  in_slices(run.first_page, run.pages, [&](std::uint64_t first, std::uint64_t count, std::uint64_t) {
    const std::lock_guard lock(in->mutex);
    in->discarded.set(first, count);
    in->dirty.clear(first, count);
  });
}

void dirty_union::populated(page_run run) {
  auto* in = find(run.block);
  if (!in) return;
  in_slices(run.first_page, run.pages, [&](std::uint64_t first, std::uint64_t count, std::uint64_t) {
    const std::lock_guard lock(in->mutex);
    in->discarded.clear(first, count);
    in->dirty.set(first, count);
  });
}

/// They were not dirty before, so all that is dropped had just been added.
void dirty_union::drop_discarded(block& in, std::uint64_t first_page, std::uint64_t pages, told& of) {
  if (in.discarded.count() == 0) return;
  const auto dropped = in.dirty.subtract(in.discarded, first_page, pages);
  of.told -= dropped;
  of.added -= dropped;
}

void dirty_union::mark_everything() {
  for (block_index which = 0; which < blocks_.size(); ++which) mark({which, 0, blocks_[which]->dirty.size()});
}

void dirty_union::forget_everything() {
  for (const auto& one : blocks_)
    in_slices(0, one->dirty.size(), [&](std::uint64_t first, std::uint64_t count, std::uint64_t) {
      const std::lock_guard lock(one->mutex);
      one->dirty.clear(first, count);
      one->discarded.clear(first, count);
    });
}

std::uint64_t dirty_union::dirty_pages() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& one : blocks_) {
    const std::lock_guard lock(one->mutex);
    sum += one->dirty.count();
  }
  return sum;
}

std::uint64_t dirty_union::memory_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& one : blocks_) sum += one->dirty.memory_bytes() + one->discarded.memory_bytes();
  return sum;
}

dirty_union::taken dirty_union::take(position& where, std::uint64_t pages_max, std::span<page_run> into) {
  taken all;
  while (where.block < blocks_.size() && all.pages < pages_max && all.runs < into.size()) {
    auto& in = *blocks_[where.block];
    const std::lock_guard lock(in.mutex);
    const auto some = in.dirty.take_runs(where.block, where.page, pages_max - all.pages, into.subspan(all.runs));
    all.runs += some.runs;
    all.pages += some.bits;
    where.page = some.next;
    if (where.page >= in.dirty.size()) where = {where.block + 1, 0};
  }
  return all;
}

dirty_union::taken_words dirty_union::take_words(position& where, std::span<std::uint64_t, core::words_per_chunk> into) {
  for (; where.block < blocks_.size(); where = {where.block + 1, 0}) {
    auto& in = *blocks_[where.block];
    const std::lock_guard lock(in.mutex);
    const auto size = in.dirty.size();
    const auto next = in.dirty.next_set(where.page);
    if (next == size) continue;
    const auto first = next / core::bits_per_word * core::bits_per_word;
    const auto end = std::min(size, (next / core::bits_per_chunk + 1) * core::bits_per_chunk);
    const auto words = into.first(core::words_for(end - first));
    auto pages = in.dirty.take_words(first / core::bits_per_word, words);
    // What lies before was taken in this round, and is dirty again: for the next.
    const auto before = where.page > first ? words[0] & ((std::uint64_t{1} << (where.page - first)) - 1) : 0;
    if (before != 0) {
      words[0] &= ~before;
      pages -=
          in.dirty.merge(first, core::bits_per_word < size - first ? core::bits_per_word : size - first, {&before, 1}).told;
    }
    where.page = end;
    return {{where.block, first, end - first}, pages};
  }
  return {};
}

}  // namespace tidemark::dirty
