// SPDX-License-Identifier: Apache-2.0

#include "soak_guest.hpp"

#include <algorithm>
#include <cstring>

#include "ring/await.hpp"
#include "ring/executor.hpp"

namespace tidemark::bench {

using ring::resume_on;
using ring::task;

namespace {

constexpr std::uint64_t block_bytes = 32ULL << 20;
constexpr std::uint64_t blocks = 2;
constexpr std::uint64_t arena_bytes = 1ULL << 32;
constexpr std::uint64_t first_arena = 1ULL << 36;
constexpr std::uint64_t place_pages = 16;  // IOVAs are multiples of so many pages

/// Parts of a block, in pages. The small ones are mapped and unmapped in another way than the large.
struct part {
  std::uint64_t first_page, pages;
  bool moves;
};
constexpr part parts[] = {{0, 2048, false},   {2048, 2048, true}, {4096, 2048, true},
                          {6144, 2032, true}, {8176, 16, true},   {1024, 2048, true},  // a second view of what is above
                          {5120, 2048, true}, {100, 8, true}};

/// What a device may be writing right now: by whole words, and without the thread sanitizer, who knows of no devices.
__attribute__((noinline, no_sanitize("thread"))) void copy_words(std::byte* to, const std::byte* from, std::uint64_t bytes) {
  auto* target = reinterpret_cast<std::uint64_t*>(to);
  const auto* source = reinterpret_cast<const std::uint64_t*>(from);
  for (std::uint64_t i = 0; i < bytes / sizeof *target; ++i) target[i] = __atomic_load_n(source + i, __ATOMIC_RELAXED);
}

}  // namespace

std::string_view name_of(soak_teller who) noexcept {
  return who == soak_teller::devices ? "devices' logs" : "container tracking";
}

soak_guest::soak_guest(ring::loop& loop, kernel::files& kernel, soak_teller who, std::uint64_t seed, soak_report& report)
    : loop_(loop),
      executor_(loop.get_executor()),
      teller_(who),
      report_(report),
      random_(seed),
      host_(kernel, thread_workers(), {.warn = [&report](const error& what) { report.warn(what.message()); }}),
      space_(executor_, host_) {}

task<result<void>> soak_guest::begin() {
  if (auto made = make_memory(); !made) co_return made;
  make_views();
  for (std::size_t i = 0; i < soak_devices; ++i)
    if (auto attached = co_await attach(i); !attached) co_return attached;
  for (auto& shown : views_)
    if (auto added = co_await add(shown, place(shown, random_)); !added) co_return added;
  stream_.emplace(space_, std::vector<cpu_dirty_source*>{}, dirty_stream_options{.batch_pages_max = 512});
  auto started = co_await stream_->async_start(resume_on{executor_});
  co_return started;
}

result<void> soak_guest::make_memory() {
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const auto name = "ram" + std::to_string(i);
    for (auto* list : {&memory_, &copies_}) {
      auto made = cli::guest_memory::make(name, block_bytes);
      if (!made) return made.error();
      list->push_back(std::move(*made));
    }
    memory_[i].fill(random_());
    if (auto added = space_.add_block(memory_[i].block()); !added) return added.error();
  }
  return {};
}

void soak_guest::make_views() {
  for (block_index block = 0; block < blocks; ++block)
    for (const auto& one : parts)
      views_.emplace_back(block, one.first_page, one.pages, one.moves, first_arena + views_.size() * arena_bytes);
}

task<result<void>> soak_guest::end() {
  result<void> outcome;
  if (stream_) {
    note_tellers();
    outcome = co_await stream_->async_stop(resume_on{executor_});
  }
  for (std::size_t i = 0; i < soak_devices; ++i)
    if (auto detached = co_await detach(i); !detached) outcome = detached;
  co_return outcome;
}

task<result<void>> soak_guest::attach(std::size_t which) {
  auto attached = co_await space_.async_attach("/sys/bus/platform/devices/tidemark-test." + std::to_string(which),
                                               {.use_dma_log = teller_ == soak_teller::devices}, resume_on{executor_});
  if (!attached) co_return attached.error();
  devices_[which].emplace(std::move(*attached));
  co_return result<void>{};
}

task<result<void>> soak_guest::detach(std::size_t which) {
  if (!devices_[which]) co_return result<void>{};
  auto detached = co_await space_.async_detach(*devices_[which], resume_on{executor_});
  devices_[which].reset();
  co_return detached;
}

task<result<void>> soak_guest::add(view& shown, std::uint64_t iova) {
  const region what{{iova, shown.pages * page_bytes}, shown.block, shown.first_page * page_bytes};
  auto added = co_await space_.async_add(what, resume_on{executor_});
  if (added) shown.at = iova;
  ++report_.region_events;
  co_return added;
}

task<result<void>> soak_guest::remove(iova_range where) {
  auto removed = co_await space_.async_remove(where, resume_on{executor_});
  ++report_.region_events;
  co_return removed;
}

std::uint64_t soak_guest::place(const view& shown, choices& random) {
  const auto places = (arena_bytes - shown.pages * page_bytes) / (place_pages * page_bytes);
  return shown.arena + random() % places * place_pages * page_bytes;
}

task<result<void>> soak_guest::restart() {
  note_tellers();
  ++report_.restarts;
  if (auto stopped = co_await stream_->async_stop(resume_on{executor_}); !stopped) co_return stopped;
  auto started = co_await stream_->async_start(resume_on{executor_});
  co_return started;
}

void soak_guest::note_tellers() {
  const auto told = stream_->statistics();
  for (std::size_t i = 0; i < dirty_origins; ++i) report_.told_pages[i] += told.sources[i].told_pages;
  report_.given_back_pages += told.given_back_pages;
}

void soak_guest::copy(page_run run) noexcept {
  copy_words(copies_[run.block].block().host + run.first_page * page_bytes,
             memory_[run.block].block().host + run.first_page * page_bytes, run.pages * page_bytes);
}

std::uint64_t soak_guest::compare(const std::string& when) {
  std::uint64_t differ = 0;
  for (block_index block = 0; block < blocks; ++block) {
    const auto& source = memory_[block].block();
    const auto* copy = copies_[block].block().host;
    if (std::memcmp(source.host, copy, source.size) == 0) continue;
    for (std::uint64_t page = 0; page < source.pages(); ++page) {
      if (std::memcmp(source.host + page * page_bytes, copy + page * page_bytes, page_bytes) == 0) continue;
      ++differ;
      report_.lost({block, page, 1}, when);
      this->copy({block, page, 1});  // counted once
    }
  }
  return differ;
}

std::uint64_t soak_guest::pages() const noexcept { return blocks * block_bytes / page_bytes; }

}  // namespace tidemark::bench
