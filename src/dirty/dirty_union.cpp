// SPDX-License-Identifier: Apache-2.0

#include "dirty/dirty_union.hpp"

#include <algorithm>
#include <mutex>
#include <thread>

namespace tidemark::dirty {

namespace {

/// Under the lock at a time: a multiple of a chunk.
constexpr std::uint64_t slice_pages = 64 * core::bits_per_chunk;

}  // namespace

/// The lock, for who has little to do. light_mutex is not fair: who takes it again and again would not notice who sleeps.
class dirty_union::turn {
 public:
  explicit turn(const block& of) : of_(of) {
    of_.waited_for.fetch_add(1, std::memory_order_relaxed);
    of_.mutex.lock();
    of_.waited_for.fetch_sub(1, std::memory_order_relaxed);
  }
  turn(const turn&) = delete;
  turn& operator=(const turn&) = delete;
  ~turn() { of_.mutex.unlock(); }

 private:
  const block& of_;
};

/// Calls `work(first, pages, offset)` for each slice of a range, under the lock.
template <class Work>
void dirty_union::in_slices(block& in, page_run range, Work work) const {
  for (std::uint64_t done = 0; done < range.pages;) {
    const auto here = std::min(range.pages - done, slice_pages);
    {
      const std::lock_guard lock(in.mutex);
      work(range.first_page + done, here, done);
    }
    done += here;
    while (in.waited_for.load(std::memory_order_relaxed) != 0) std::this_thread::yield();
  }
}

dirty_union::dirty_union(const std::vector<ram_block>& blocks) {
  blocks_.reserve(blocks.size());
  for (const auto& one : blocks) blocks_.push_back(std::make_unique<block>(one.pages()));
}

/// What of it is here.
page_run dirty_union::within(page_run pages) const noexcept {
  const auto* in = find(pages.block);
  const auto size = in ? in->dirty.size() : 0;
  if (pages.first_page >= size) return {pages.block, 0, 0};
  return {pages.block, pages.first_page, std::min(pages.pages, size - pages.first_page)};
}

dirty_union::told dirty_union::merge(block_index which, std::uint64_t first_page, std::uint64_t pages,
                                     std::span<const std::uint64_t> bits) {
  told all;
  const auto range = within({which, first_page, pages});
  if (range.pages == 0) return all;
  auto& in = *find(which);
  in_slices(in, range, [&](std::uint64_t first, std::uint64_t count, std::uint64_t offset) {
    auto one = in.dirty.merge(first, count, bits.subspan(offset / core::bits_per_word));
    drop_discarded(in, first, count, one);
    all.told += one.told;
    all.added += one.added;
  });
  return all;
}

dirty_union::told dirty_union::mark(page_run pages) {
  told all;
  const auto range = within(pages);
  if (range.pages == 0) return all;
  auto& in = *find(pages.block);
  in_slices(in, range, [&](std::uint64_t first, std::uint64_t count, std::uint64_t) {
    told one{.told = count, .added = in.dirty.count()};
    in.dirty.set(first, count);
    one.added = in.dirty.count() - one.added;
    drop_discarded(in, first, count, one);
    all.told += one.told;
    all.added += one.added;
  });
  return all;
}

void dirty_union::discarded(page_run pages) {
  const auto range = within(pages);
  if (range.pages == 0) return;
  auto& in = *find(pages.block);
  {
    const turn lock(in);
    in.discarded.add(range.first_page, range.pages);
  }
  in_slices(in, range, [&](std::uint64_t first, std::uint64_t count, std::uint64_t) { in.dirty.clear(first, count); });
}

dirty_union::told dirty_union::populated(page_run pages) {
  const auto range = within(pages);
  if (range.pages == 0) return {};
  auto& in = *find(pages.block);
  {
    const turn lock(in);
    in.discarded.remove(range.first_page, range.pages);
  }
  return mark(range);
}

/// They were not dirty before, so all that is dropped had just been added.
void dirty_union::drop_discarded(block& in, std::uint64_t first_page, std::uint64_t pages, told& of) {
  if (in.discarded.empty()) return;
  const auto before = in.dirty.count();
  in.discarded.for_each_in(first_page, pages,
                           [&](std::uint64_t first, std::uint64_t count) { in.dirty.clear(first, count); });
  const auto dropped = before - in.dirty.count();
  of.told -= dropped;
  of.added -= dropped;
}

void dirty_union::mark_everything() {
  for (block_index which = 0; which < blocks_.size(); ++which) mark({which, 0, blocks_[which]->dirty.size()});
}

void dirty_union::forget_everything() {
  for (block_index which = 0; which < blocks_.size(); ++which) {
    auto& in = *blocks_[which];
    in_slices(in, {which, 0, in.dirty.size()},
              [&](std::uint64_t first, std::uint64_t count, std::uint64_t) { in.dirty.clear(first, count); });
    const turn lock(in);
    in.discarded.clear();
  }
}

std::uint64_t dirty_union::dirty_pages() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& one : blocks_) {
    const turn lock(*one);
    sum += one->dirty.count();
  }
  return sum;
}

std::uint64_t dirty_union::memory_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& one : blocks_) sum += one->dirty.memory_bytes();
  return sum;
}

dirty_union::taken dirty_union::take(position& where, std::uint64_t pages_max, std::span<page_run> into) {
  taken all;
  while (where.block < blocks_.size() && all.pages < pages_max && all.runs < into.size()) {
    auto& in = *blocks_[where.block];
    const turn lock(in);
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
    const turn lock(in);
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
