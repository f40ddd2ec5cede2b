// SPDX-License-Identifier: Apache-2.0

#include "cli/synthetic_guest.hpp"

#include <tidemark/pagemap_source.hpp>

#include <boost/asio/post.hpp>

#include <array>
#include <cerrno>
#include <cstring>

#include "cli/log.hpp"
#include "kernel/test_device.h"
#include "ring/await.hpp"
#include "ring/executor.hpp"
#include "ring/offload.hpp"

namespace tidemark::cli {

using ring::resume_on;
using ring::task;

namespace {

/// Where RAM block `block` stands in the IOVA space: blocks apart from each other, clear of the x86 MSI window.
constexpr std::uint64_t first_iova = std::uint64_t{1} << 32;

std::uint64_t pages_that_stay(std::uint64_t pages) noexcept { return pages - pages / 8; }

}  // namespace

synthetic_guest::synthetic_guest(ring::loop& loop, kernel::files& kernel, guest_plan plan)
    : loop_(loop),
      executor_(loop.get_executor()),
      kernel_(kernel),
      plan_(std::move(plan)),
      host_(kernel, thread_workers(), {.warn = [](const error& what) { log(log_level::warning, what.message()); }}),
      space_(executor_, host_),
      region_choices_(plan_.seed),
      cpu_choices_(plan_.seed + 1),
      device_choices_(plan_.seed + 2),
      region_pace_(loop) {
  std::uint64_t iova = first_iova;
  for (const auto& memory : plan_.memory) {
    iovas_.push_back(iova);
    iova += memory.block().size;
  }
}

synthetic_guest::~synthetic_guest() = default;

task<result<void>> synthetic_guest::prepare() {
  if (auto attached = co_await attach_device(); !attached) co_return attached;
  if (auto made = co_await add_memory(); !made) co_return made;
  for (block_index block = 0; device_ && block < plan_.memory.size(); ++block) {
    if (auto added = co_await space_.async_add(stays(block), resume_on{executor_}); !added) co_return added;
    if (comes_and_goes(block).at.size == 0) continue;
    if (auto added = co_await space_.async_add(comes_and_goes(block), resume_on{executor_}); !added) co_return added;
  }
  choose_cpu_source();
  cpu_ = std::make_unique<dirtier>("guest-cpu", plan_.cpu_rate_bytes,
                                   [this](std::uint64_t pages) { return dirty_by_cpu(pages); });
  device_driver_ = std::make_unique<dirtier>("guest-device", device_ ? plan_.device_rate_bytes : 0,
                                             [this](std::uint64_t pages) { return dirty_by_device(pages); });
  co_return result<void>{};
}

task<result<void>> synthetic_guest::attach_device() {
  if (plan_.device.empty()) co_return result<void>{};
  auto attached = co_await space_.async_attach("/sys/bus/platform/devices/" + plan_.device, resume_on{executor_});
  if (!attached) co_return attached.error();
  device_.emplace(std::move(*attached));
  co_return result<void>{};
}

task<result<void>> synthetic_guest::add_memory() {
  for (std::uint64_t i = 0; i < plan_.memory.size(); ++i) {
    auto& memory = plan_.memory[i];
    if (plan_.fill)
      co_await ring::offload(thread_workers(), executor_, [&memory, seed = plan_.seed + i] { return memory.fill(seed); });
    if (auto added = space_.add_block(memory.block()); !added) co_return added.error();
  }
  co_return result<void>{};
}

std::vector<cpu_dirty_source*> synthetic_guest::cpu_sources() const {
  if (!cpu_source_) return {};
  return {cpu_source_.get()};
}

void synthetic_guest::choose_cpu_source() {
  if (plan_.cpu_rate_bytes == 0) return;
  auto pagemap = std::make_unique<pagemap_source>(space_.blocks());
  const auto works = pagemap->start();
  pagemap->stop();
  if (works) {
    cpu_source_ = std::move(pagemap);
    return;
  }
  log(log_level::info, "the CPU thread records what it writes: " + works.error().message());
  auto recorded = std::make_unique<dirty_log>(space_.blocks());
  cpu_log_ = recorded.get();
  cpu_source_ = std::move(recorded);
}

region synthetic_guest::stays(block_index block) const {
  const auto bytes = pages_that_stay(plan_.memory[block].block().pages()) * page_bytes;
  return {{iovas_[block], bytes}, block, 0, true};
}

region synthetic_guest::comes_and_goes(block_index block) const {
  const auto stay = stays(block).at;
  return {{stay.iova + stay.size, plan_.memory[block].block().size - stay.size}, block, stay.size, true};
}

void synthetic_guest::start() {
  cpu_->resume();
  device_driver_->resume();
  if (!device_ || plan_.region_changes_per_second == 0 || comes_and_goes(0).at.size == 0) return;
  changing_regions_ = true;
  region_task_ended_ = false;
  ring::start(change_regions());
}

task<void> synthetic_guest::stop() {
  cpu_.reset();
  device_driver_.reset();
  changing_regions_ = false;
  region_pace_.cancel();
  ring::timer pause(loop_);
  while (!region_task_ended_) co_await pause.until(loop_.now() + std::chrono::milliseconds(1));
  if (!device_) co_return;
  if (auto detached = co_await space_.async_detach(*device_, resume_on{executor_}); !detached)
    log(log_level::error, detached.error().message());
}

task<void> synthetic_guest::change_regions() {
  const auto pause = std::chrono::nanoseconds(std::chrono::seconds(1)) / plan_.region_changes_per_second;
  while (changing_regions_ && co_await region_pace_.until(loop_.now() + pause)) co_await change_one_region();
  region_task_ended_ = true;
}

task<void> synthetic_guest::change_one_region() {
  const auto chosen = comes_and_goes(static_cast<block_index>(region_choices_() % plan_.memory.size()));
  bool there = false;
  for (const auto& shown : space_.regions()) there = there || shown.at == chosen.at;
  result<void> changed;
  if (there) {
    changed = co_await space_.async_remove(chosen.at, resume_on{executor_});
  } else {
    changed = co_await space_.async_add(chosen, resume_on{executor_});
  }
  if (changed) {
    ++region_changes_;
  } else {
    log(log_level::error, changed.error().message());
  }
}

std::uint64_t synthetic_guest::dirty_by_cpu(std::uint64_t pages) {
  throttled_pages_ += static_cast<double>(pages * (100 - throttle_percent_)) / 100;
  const auto due = static_cast<std::uint64_t>(throttled_pages_);
  throttled_pages_ -= static_cast<double>(due);
  for (std::uint64_t i = 0; i < due; ++i) {
    const auto choice = cpu_choices_();
    const auto index = static_cast<block_index>(choice % plan_.memory.size());
    const auto& block = plan_.memory[index].block();
    const auto page = (choice >> 16) % block.pages();
    std::memcpy(block.host + page * page_bytes, &choice, sizeof choice);
    if (cpu_log_) cpu_log_->record(index, page, 1);  // after the write: a page that is being sent right now is sent again
  }
  return due;
}

std::uint64_t synthetic_guest::dirty_by_device(std::uint64_t pages) {
  std::uint64_t dirtied = 0;
  while (pages != 0) {
    std::array<tidemark_test_doorbell, 64> bells;
    const auto count = std::min<std::uint64_t>(pages, bells.size());
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto choice = device_choices_();
      const auto block = choice % plan_.memory.size();
      const auto page = (choice >> 16) % plan_.memory[block].block().pages();
      bells[i] = {iovas_[block] + page * page_bytes + 64, 64, choice};
    }
    pages -= count;
    for (std::uint64_t done = 0; done < count;) {
      const auto written = kernel_.write(device_->file(), &bells[done], (count - done) * sizeof bells[0]);
      const auto carried_out = written > 0 ? static_cast<std::uint64_t>(written) / sizeof bells[0] : 0;
      dirtied += carried_out;
      done += carried_out;
      if (done == count) break;
      ++refused_dma_;  // the one after those: its region is away
      ++done;
    }
  }
  return dirtied;
}

void synthetic_guest::start_pause(completion<void> done) {
  // The device first, then the CPU; each answers on its own thread, and this one goes on in the executor.
  auto finished = std::make_shared<completion<void>>(std::move(done));
  device_driver_->pause([this, finished] {
    boost::asio::post(executor_, [this, finished] {
      cpu_->pause([this, finished] {
        boost::asio::post(executor_, [this, finished] {
          note_doorbells();
          std::move (*finished)(result<void>{});
        });
      });
    });
  });
}

void synthetic_guest::note_doorbells() {
  tidemark_test_state state{};
  if (device_ && kernel_.read(device_->file(), &state, sizeof state) == sizeof state) doorbells_at_pause_ = state.doorbells;
}

void synthetic_guest::start_resume(completion<void> done) {
  cpu_->resume();
  device_driver_->resume();
  boost::asio::post(executor_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
}

void synthetic_guest::start_throttle(unsigned percent, completion<void> done) {
  throttle_percent_ = percent;
  boost::asio::post(executor_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
}

guest_activity synthetic_guest::activity() const {
  return {cpu_ ? cpu_->pages() : 0, device_driver_ ? device_driver_->pages() : 0, refused_dma_.load(), region_changes_};
}

}  // namespace tidemark::cli
