// SPDX-License-Identifier: Apache-2.0

#include <tidemark/dirty_stream.hpp>

#include <algorithm>
#include <utility>

#include "core/bitmap.hpp"
#include "dirty/dirty_union.hpp"
#include "ring/await.hpp"

namespace tidemark {

using ring::resume_on;
using ring::task;

class dirty_stream::state {
 public:
  state(address_space& space, std::vector<cpu_dirty_source*> sources, std::uint64_t batch_pages_max)
      : space_(space),
        cpu_sources_(std::move(sources)),
        batch_pages_max_(std::max<std::uint64_t>(batch_pages_max, 1)),
        union_(space.blocks()) {}

  any_io_executor executor() const { return space_.get_executor(); }
  std::uint64_t dirty_pages() const noexcept { return union_.dirty_pages(); }

  task<result<void>> start() {
    if (auto started = co_await space_.async_start_tracking(union_, resume_on{executor()}); !started) co_return started;
    tracking_ = std::make_shared<tracking>();
    round_ = {};
    union_.mark_everything();
    co_return result<void>{};
  }

  task<result<dirty_round>> begin_round() {
    if (auto synced = co_await space_.async_sync_dirty(resume_on{executor()}); !synced) co_return synced.error();
    harvest_cpus();
    at_ = {};
    ++round_.number;
    round_.dirty_pages = union_.dirty_pages();
    co_return round_;
  }

  task<result<batch>> next() {
    auto runs = union_.take(at_, batch_pages_max_);
    std::uint64_t pages = 0;
    for (const auto& run : runs) pages += run.pages;
    co_return batch{std::shared_ptr<state>(tracking_, this), std::move(runs), pages};
  }

  task<result<void>> stop() {
    auto stopped = co_await space_.async_stop_tracking(resume_on{executor()});
    tracking_.reset();
    union_.forget_everything();
    co_return stopped;
  }

  void give_back(const std::vector<page_run>& runs) {
    for (const auto& run : runs) union_.mark_all(run.block, run.first_page, run.pages);
  }

 private:
  /// Lives from a start to its stop: batches know it, and one that comes back later is forgotten with the rest.
  struct tracking {};

  void harvest_cpus() {
    for (auto* source : cpu_sources_)
      if (!source->harvest(cpu_pages_)) union_.mark_everything();
  }

  struct cpu_pages final : page_sink {
    explicit cpu_pages(dirty::dirty_union& to) : to_(to) {}
    void merge(block_index block, std::uint64_t first_page, std::uint64_t pages,
               std::span<const std::uint64_t> bits) override {
      to_.merge(block, first_page, pages, bits);
    }
    void mark(page_run pages) override { to_.mark_all(pages.block, pages.first_page, pages.pages); }

   private:
    dirty::dirty_union& to_;
  };

  address_space& space_;
  std::vector<cpu_dirty_source*> cpu_sources_;
  std::uint64_t batch_pages_max_;
  dirty::dirty_union union_;
  cpu_pages cpu_pages_{union_};
  dirty::dirty_union::position at_;
  dirty_round round_;
  std::shared_ptr<tracking> tracking_;
};

dirty_stream::batch::~batch() {
  if (runs_.empty()) return;
  if (const auto stream = from_.lock()) stream->give_back(runs_);
}

dirty_stream::dirty_stream(address_space& space, std::vector<cpu_dirty_source*> cpu_sources, std::uint64_t batch_pages_max)
    : state_(std::make_shared<state>(space, std::move(cpu_sources), batch_pages_max)) {}
dirty_stream::~dirty_stream() = default;

std::uint64_t dirty_stream::dirty_pages() const noexcept { return state_->dirty_pages(); }

void dirty_stream::start_tracking(completion<void> done) {
  ring::spawn(state_->executor(), state_->start(), std::move(done));
}
void dirty_stream::start_round(completion<dirty_round> done) {
  ring::spawn(state_->executor(), state_->begin_round(), std::move(done));
}
void dirty_stream::start_next(completion<batch> done) { ring::spawn(state_->executor(), state_->next(), std::move(done)); }
void dirty_stream::start_stop(completion<void> done) { ring::spawn(state_->executor(), state_->stop(), std::move(done)); }

}  // namespace tidemark
