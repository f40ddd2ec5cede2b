// SPDX-License-Identifier: Apache-2.0

#include "soak_pull.hpp"

#include <boost/asio/post.hpp>

#include "ring/await.hpp"

namespace tidemark::bench {

using ring::resume_on;
using ring::task;

namespace {

template <class Call>
void for_each_run(const dirty_stream::batch& batch, Call call) {
  for (const auto& run : batch.runs()) call(run);
}

template <class Call>
void for_each_run(const dirty_stream::bitmap_batch& batch, Call call) {
  const auto bits = batch.bits();
  for (std::uint64_t page = 0; page < batch.range().pages; ++page)
    if (bits[page / 64] >> page % 64 & 1) call(page_run{batch.range().block, batch.range().first_page + page, 1});
}

bool one_in(choices& random, std::uint64_t n) { return random() % n == 0; }

}  // namespace

task<result<void>> soak_consumers::round(bool all_of_it) {
  if (all_of_it || one_in(random_, 3)) {  // they come back, or are forgotten if there was a restart
    kept_.clear();
    kept_bitmaps_.clear();
  }
  const auto began = co_await guest_.stream().async_begin_round(resume_on{guest_.executor()});
  if (!began) co_return began.error();
  ++guest_.report().rounds;
  ring::latch ended(2);
  result<void> first, second;
  ring::start(consume(all_of_it, ended, first));
  ring::start(consume(all_of_it, ended, second));
  co_await ended;
  co_return first ? second : first;
}

task<> soak_consumers::consume(bool all_of_it, ring::latch& ended, result<void>& outcome) {
  for (;;) {
    const bool as_bitmap = one_in(random_, 4);
    auto more = as_bitmap ? co_await take_bitmap(all_of_it) : co_await take_runs(all_of_it);
    if (!more) outcome = more.error();
    if (!more || !*more) break;
  }
  ended.count_down();
}

task<result<bool>> soak_consumers::take_runs(bool all_of_it) {
  auto batch = co_await guest_.stream().async_next(resume_on{guest_.executor()});
  if (!batch) co_return batch.error();
  const bool any = !batch->empty();
  if (any) co_await send(std::move(*batch), all_of_it);
  co_return any;
}

task<result<bool>> soak_consumers::take_bitmap(bool all_of_it) {
  auto batch = co_await guest_.stream().async_next_bitmap(resume_on{guest_.executor()});
  if (!batch) co_return batch.error();
  const bool any = !batch->empty();
  if (any) co_await send(std::move(*batch), all_of_it);
  co_return any;
}

/// Others get their turns before it is sent, as on a network.
template <class Batch>
task<> soak_consumers::send(Batch batch, bool all_of_it) {
  guest_.report().handed_out_pages += batch.pages();
  ring::timer pause(guest_.loop());
  if (one_in(random_, 2)) co_await pause.until(guest_.loop().now());
  if (!all_of_it && one_in(random_, 6)) {
    ++guest_.report().dropped_batches;
    if (!one_in(random_, 3)) co_return;
    if constexpr (std::is_same_v<Batch, dirty_stream::batch>)
      kept_.push_back(std::move(batch));
    else
      kept_bitmaps_.push_back(std::move(batch));
    co_return;
  }
  for_each_run(batch, [this](page_run run) { guest_.copy(run); });
  batch.acknowledge();
}

task<result<void>> pull_round(soak_guest& guest, std::function<void(page_run)> each) {
  const auto began = co_await guest.stream().async_begin_round(resume_on{guest.executor()});
  if (!began) co_return began.error();
  ++guest.report().rounds;
  for (bool as_bitmap = guest.report().rounds % 2 == 0;; as_bitmap = false) {
    if (as_bitmap) {
      auto batch = co_await guest.stream().async_next_bitmap(resume_on{guest.executor()});
      if (!batch) co_return batch.error();
      guest.report().handed_out_pages += batch->pages();
      for_each_run(*batch, each);
      batch->acknowledge();
      continue;
    }
    auto batch = co_await guest.stream().async_next(resume_on{guest.executor()});
    if (!batch) co_return batch.error();
    guest.report().handed_out_pages += batch->pages();
    for_each_run(*batch, each);
    batch->acknowledge();
    if (batch->empty()) co_return result<void>{};
  }
}

}  // namespace tidemark::bench
