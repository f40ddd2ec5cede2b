// SPDX-License-Identifier: Apache-2.0

#include <tidemark/dirty_stream.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>

#include "core/bitmap.hpp"
#include "dirty/dirty_union.hpp"
#include "dirty/latency.hpp"
#include "dirty/source_count.hpp"
#include "ring/await.hpp"
#include "ring/mutex.hpp"
#include "ring/offload.hpp"

namespace tidemark {

using ring::resume_on;
using ring::task;

namespace {

constexpr std::uint64_t batch_runs_max = 65536;

std::uint64_t pages_a_batch(const dirty_stream_options& options) {
  return std::max<std::uint64_t>(std::min(options.batch_pages_max, options.batch_bytes_max / page_bytes), 1);
}

}  // namespace

std::uint64_t dirty_rate::bytes_per_s() const noexcept {
  if (since_last.count() <= 0) return 0;
  const auto seconds = std::chrono::duration<double>(since_last).count();
  return static_cast<std::uint64_t>(static_cast<double>(pages * page_bytes) / seconds);
}

class dirty_stream::state final : public dirty_sink {
 public:
  state(address_space& space, std::vector<cpu_dirty_source*> sources, dirty_stream_options options)
      : space_(space), sources_(std::move(sources)), options_(std::move(options)), batch_pages_(pages_a_batch(options_)) {
    for (std::size_t i = 0; i < dirty_origins; ++i) counts_.emplace_back(name_of(static_cast<dirty_origin>(i)));
    for (const auto* source : sources_) counts_.emplace_back(source->name());
    refresh_union();
  }

  any_io_executor executor() const { return space_.get_executor(); }
  std::uint64_t dirty_pages() const { return known()->dirty_pages(); }
  dirty_statistics statistics() const;

  task<result<void>> start();
  task<result<dirty_round>> begin_round();
  task<result<batch>> next();
  task<result<bitmap_batch>> next_bitmap();
  task<result<void>> stop();

  void give_back(std::span<const page_run> runs, std::uint64_t pages);
  void give_back(page_run range, std::span<const std::uint64_t> bits, std::uint64_t pages);
  void acknowledge(std::uint64_t pages) noexcept { acknowledged_ += pages; }

  page_sink& from(dirty_origin origin) noexcept override { return counts_[static_cast<std::size_t>(origin)]; }
  void discarded(page_run pages) override { union_->discarded(pages); }
  void populated(page_run pages) override { populated_ += union_->populated(pages).added; }

 private:
  /// Lives from a start to its stop: batches know it, and one that comes back later is forgotten with the rest.
  struct tracking {};

  dirty::source_count& count_of(std::size_t source) { return counts_[dirty_origins + source]; }
  std::uint64_t new_pages() const;
  void refresh_union();
  std::shared_ptr<dirty::dirty_union> known() const;
  std::weak_ptr<state> whose() { return std::shared_ptr<state>(tracking_, this); }

  template <class Call>
  task<result<void>> beside(Call call);
  result<void> start_sources();
  void stop_sources(std::size_t count) noexcept;
  result<void> harvest();
  task<> harvest_beside(result<void>& asked, ring::latch& done);
  void note_round(std::chrono::steady_clock::time_point began);
  void warn(const error& what) const {
    if (const auto& told = space_.around().options().warn) told(what);
  }

  address_space& space_;
  const std::vector<cpu_dirty_source*> sources_;
  const dirty_stream_options options_;
  const std::uint64_t batch_pages_;
  std::deque<dirty::source_count> counts_;  // by origin, then by source
  std::shared_ptr<dirty::dirty_union> union_;
  std::size_t blocks_ = 0;  // that the union has
  dirty::dirty_union::position at_;
  std::shared_ptr<tracking> tracking_;
  ring::mutex turns_;                     // sources are asked one thing at a time
  std::optional<error> harvest_failure_;  // of the round that begins
  std::uint64_t new_before_ = 0;          // when the round began
  std::optional<std::chrono::steady_clock::time_point> round_began_;

  std::atomic<std::uint64_t> populated_ = 0;
  std::atomic<std::uint64_t> handed_out_ = 0;
  std::atomic<std::uint64_t> acknowledged_ = 0;
  std::atomic<std::uint64_t> given_back_ = 0;

  mutable std::mutex watched_;  // below, and which union there is, for statistics
  std::uint32_t round_ = 0;
  std::deque<dirty_rate> rates_;
  dirty::latency sync_;
};

// --- what is beside the executor ---

template <class Call>
task<result<void>> dirty_stream::state::beside(Call call) {
  try {
    co_return co_await ring::offload(space_.around().threads(), executor(), std::move(call));
  } catch (const std::system_error& refusal) {
    co_return kernel_error(operation::query_dirty, refusal.code().value(), {},
                           "no thread to ask the dirty sources: raise the limit on processes (ulimit -u, pids.max)");
  }
}

result<void> dirty_stream::state::start_sources() {
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (auto started = sources_[i]->start(); !started) {
      stop_sources(i);
      return started;
    }
  }
  union_->mark_everything();
  return {};
}

void dirty_stream::state::stop_sources(std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) sources_[i]->stop();
}

/// A source that failed has lost what it knew: then everything is dirty.
result<void> dirty_stream::state::harvest() {
  for (std::size_t i = 0; i < sources_.size(); ++i)
    if (auto told = sources_[i]->harvest(count_of(i)); !told) harvest_failure_ = told.error();
  if (!harvest_failure_) return {};
  auto& lost = from(dirty_origin::lost);
  for (block_index block = 0; block < union_->blocks(); ++block) lost.mark({block, 0, union_->pages(block)});
  return {};
}

/// `asked`: whether the sources were.
task<> dirty_stream::state::harvest_beside(result<void>& asked, ring::latch& done) {
  asked = co_await beside([this] { return harvest(); });
  done.count_down();
}

// --- operations ---

/// The blocks there are now.
void dirty_stream::state::refresh_union() {
  if (union_ && blocks_ == space_.blocks().size()) return;
  auto fresh = std::make_shared<dirty::dirty_union>(space_.blocks());
  const std::lock_guard lock(watched_);
  union_ = std::move(fresh);
  blocks_ = space_.blocks().size();
}

std::shared_ptr<dirty::dirty_union> dirty_stream::state::known() const {
  const std::lock_guard lock(watched_);
  return union_;
}

task<result<void>> dirty_stream::state::start() {
  const auto turn = co_await turns_.lock();
  refresh_union();
  for (auto& one : counts_) one.reset(*union_);
  if (auto started = co_await space_.async_start_tracking(*this, resume_on{executor()}); !started) co_return started;
  auto started = co_await beside([this] { return start_sources(); });
  if (!started) {
    (void)co_await space_.async_stop_tracking(resume_on{executor()});
    union_->forget_everything();
    co_return started;
  }
  tracking_ = std::make_shared<tracking>();
  populated_ = handed_out_ = acknowledged_ = given_back_ = 0;
  round_began_.reset();
  harvest_failure_.reset();
  const std::lock_guard lock(watched_);
  round_ = 0;
  rates_.clear();
  sync_ = dirty::latency();
  co_return started;
}

task<result<dirty_round>> dirty_stream::state::begin_round() {
  const auto turn = co_await turns_.lock();
  const auto began = options_.now();
  if (!tracking_)
    co_return kernel_error(operation::query_dirty, EINVAL, {}, "the stream does not track: async_start comes first");
  result<void> asked;
  ring::latch harvests(sources_.empty() ? 0 : 1);
  if (!sources_.empty()) ring::start(harvest_beside(asked, harvests));
  const auto synced = co_await space_.async_sync_dirty(resume_on{executor()});
  co_await harvests;
  if (harvest_failure_) warn(*std::exchange(harvest_failure_, {}));
  if (!synced) co_return synced.error();
  if (!asked) co_return asked.error();  // what the sources know they still have
  at_ = {};
  note_round(began);
  co_return dirty_round{round_, union_->dirty_pages()};
}

std::uint64_t dirty_stream::state::new_pages() const {
  std::uint64_t sum = populated_;
  for (const auto& one : counts_) sum += one.new_pages();
  return sum;
}

void dirty_stream::state::note_round(std::chrono::steady_clock::time_point began) {
  const auto pages = new_pages();
  const auto before = std::exchange(new_before_, pages);
  const auto last = std::exchange(round_began_, began);
  const std::lock_guard lock(watched_);
  sync_.add(options_.now() - began);
  ++round_;
  if (!last) return;
  if (rates_.size() == dirty_rates_kept) rates_.pop_front();
  rates_.push_back({round_, began, began - *last, pages - before});
}

task<result<dirty_stream::batch>> dirty_stream::state::next() {
  const auto runs_max = std::min(batch_pages_, batch_runs_max);
  batch::memory runs(static_cast<page_run*>(std::malloc(runs_max * sizeof(page_run))));
  if (!runs) co_return kernel_error(operation::query_dirty, ENOMEM, {}, "no memory for a batch");
  const auto taken = union_->take(at_, batch_pages_, {runs.get(), runs_max});
  handed_out_ += taken.pages;
  co_return batch{whose(), std::move(runs), taken.runs, taken.pages};
}

task<result<dirty_stream::bitmap_batch>> dirty_stream::state::next_bitmap() {
  std::array<std::uint64_t, core::words_per_chunk> words;
  const auto taken = union_->take_words(at_, words);
  handed_out_ += taken.pages;
  const auto count = static_cast<std::ptrdiff_t>(core::words_for(taken.range.pages));
  co_return bitmap_batch{whose(), taken.range, std::vector<std::uint64_t>(words.begin(), words.begin() + count),
                         taken.pages};
}

task<result<void>> dirty_stream::state::stop() {
  const auto turn = co_await turns_.lock();
  auto stopped = co_await space_.async_stop_tracking(resume_on{executor()});
  tracking_.reset();
  const auto stop_all = [this]() -> result<void> {
    stop_sources(sources_.size());
    union_->forget_everything();
    return {};
  };
  const auto ended = co_await beside(stop_all);
  if (!ended) (void)stop_all();
  co_return stopped;
}

void dirty_stream::state::give_back(std::span<const page_run> runs, std::uint64_t pages) {
  for (const auto& run : runs) union_->mark(run);
  given_back_ += pages;
}

void dirty_stream::state::give_back(page_run range, std::span<const std::uint64_t> bits, std::uint64_t pages) {
  union_->merge(range.block, range.first_page, range.pages, bits);
  given_back_ += pages;
}

dirty_statistics dirty_stream::state::statistics() const {
  const auto pages = known();
  dirty_statistics told;
  for (const auto& one : counts_) told.sources.push_back(one.statistics());
  told.dirty_pages = pages->dirty_pages();
  told.bitmap_bytes = pages->memory_bytes();
  told.handed_out_pages = handed_out_;
  told.acknowledged_pages = acknowledged_;
  told.given_back_pages = given_back_;
  const std::lock_guard lock(watched_);
  told.rounds = round_;
  told.rates.assign(rates_.begin(), rates_.end());
  told.sync = sync_.statistics();
  return told;
}

// --- batches ---

void dirty_stream::handed_out::acknowledge() noexcept {
  if (const auto stream = taken_back()) stream->acknowledge(pages_);
}

dirty_stream::batch::~batch() {
  if (empty()) return;
  if (const auto stream = taken_back()) stream->give_back(runs(), pages());
}

dirty_stream::bitmap_batch::~bitmap_batch() {
  if (empty()) return;
  if (const auto stream = taken_back()) stream->give_back(range_, bits_, pages());
}

// --- the stream ---

dirty_stream::dirty_stream(address_space& space, std::vector<cpu_dirty_source*> cpu_sources, dirty_stream_options options)
    : state_(std::make_shared<state>(space, std::move(cpu_sources), std::move(options))) {}
dirty_stream::~dirty_stream() = default;

std::uint64_t dirty_stream::dirty_pages() const noexcept { return state_->dirty_pages(); }
dirty_statistics dirty_stream::statistics() const { return state_->statistics(); }

void dirty_stream::start_tracking(completion<void> done) {
  ring::spawn(state_->executor(), state_->start(), std::move(done));
}
void dirty_stream::start_round(completion<dirty_round> done) {
  ring::spawn(state_->executor(), state_->begin_round(), std::move(done));
}
void dirty_stream::start_next(completion<batch> done) { ring::spawn(state_->executor(), state_->next(), std::move(done)); }
void dirty_stream::start_next_bitmap(completion<bitmap_batch> done) {
  ring::spawn(state_->executor(), state_->next_bitmap(), std::move(done));
}
void dirty_stream::start_stop(completion<void> done) { ring::spawn(state_->executor(), state_->stop(), std::move(done)); }

}  // namespace tidemark
