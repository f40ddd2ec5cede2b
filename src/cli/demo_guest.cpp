// SPDX-License-Identifier: Apache-2.0

#include "cli/demo_guest.hpp"

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

demo_guest::demo_guest(ring::loop& loop, kernel::files& kernel, const demo_request& request)
    : loop_(loop),
      executor_(loop.get_executor()),
      kernel_(kernel),
      request_(request),
      block_bytes_(request.config.memory_bytes / request.config.blocks),
      host_(kernel, thread_workers(), {.warn = [](const error& what) { log(log_level::warning, what.message()); }}),
      space_(executor_, host_),
      region_choices_(request.config.seed),
      cpu_choices_(request.config.seed + 1),
      device_choices_(request.config.seed + 2),
      region_pace_(loop) {}

demo_guest::~demo_guest() = default;

task<result<void>> demo_guest::prepare() {
  if (auto attached = co_await attach_device(); !attached) co_return attached;
  if (auto made = co_await make_memory(); !made) co_return made;
  for (block_index block = 0; block < memory_.size(); ++block) {
    if (auto added = co_await space_.async_add(stays(block), resume_on{executor_}); !added) co_return added;
    if (comes_and_goes(block).at.size == 0) continue;
    if (auto added = co_await space_.async_add(comes_and_goes(block), resume_on{executor_}); !added) co_return added;
  }
  choose_cpu_source();
  cpu_ = std::make_unique<dirtier>("guest-cpu", request_.config.cpu_rate_bytes,
                                   [this](std::uint64_t pages) { return dirty_by_cpu(pages); });
  device_driver_ = std::make_unique<dirtier>("guest-device", request_.config.device_rate_bytes,
                                             [this](std::uint64_t pages) { return dirty_by_device(pages); });
  co_return result<void>{};
}

task<result<void>> demo_guest::attach_device() {
  auto attached = co_await space_.async_attach("/sys/bus/platform/devices/" + request_.device, resume_on{executor_});
  if (!attached) co_return attached.error();
  device_.emplace(std::move(*attached));
  co_return result<void>{};
}

task<result<void>> demo_guest::make_memory() {
  for (std::uint64_t i = 0; i < request_.config.blocks; ++i) {
    auto made = guest_memory::make("ram" + std::to_string(i), block_bytes_);
    if (!made) co_return made.error();
    auto& memory = memory_.emplace_back(std::move(*made));
    co_await ring::offload(thread_workers(), executor_,
                           [&memory, seed = request_.config.seed + i] { return memory.fill(seed); });
    if (auto added = space_.add_block(memory.block()); !added) co_return added.error();
  }
  co_return result<void>{};
}

void demo_guest::choose_cpu_source() {
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

region demo_guest::stays(block_index block) const {
  const auto bytes = pages_that_stay(block_bytes_ / page_bytes) * page_bytes;
  return {{first_iova + block * block_bytes_, bytes}, block, 0, true};
}

region demo_guest::comes_and_goes(block_index block) const {
  const auto stay = stays(block).at;
  return {{stay.iova + stay.size, block_bytes_ - stay.size}, block, stay.size, true};
}

void demo_guest::start() {
  cpu_->resume();
  device_driver_->resume();
  if (request_.config.region_changes_per_second == 0 || comes_and_goes(0).at.size == 0) return;
  changing_regions_ = true;
  region_task_ended_ = false;
  ring::start(change_regions());
}

task<void> demo_guest::stop() {
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

task<void> demo_guest::change_regions() {
  const auto pause = std::chrono::nanoseconds(std::chrono::seconds(1)) / request_.config.region_changes_per_second;
  while (changing_regions_ && co_await region_pace_.until(loop_.now() + pause)) co_await change_one_region();
  region_task_ended_ = true;
}

task<void> demo_guest::change_one_region() {
  const auto chosen = comes_and_goes(static_cast<block_index>(region_choices_() % memory_.size()));
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

std::uint64_t demo_guest::dirty_by_cpu(std::uint64_t pages) {
  const auto pages_in_block = block_bytes_ / page_bytes;
  for (std::uint64_t i = 0; i < pages; ++i) {
    const auto choice = cpu_choices_();
    const auto block = static_cast<block_index>(choice % memory_.size());
    const auto page = (choice >> 16) % pages_in_block;
    std::memcpy(memory_[block].block().host + page * page_bytes, &choice, sizeof choice);
    if (cpu_log_) cpu_log_->record(block, page, 1);  // after the write: a page that is being sent right now is sent again
  }
  return pages;
}

std::uint64_t demo_guest::dirty_by_device(std::uint64_t pages) {
  const auto pages_in_block = block_bytes_ / page_bytes;
  std::uint64_t dirtied = 0;
  while (pages != 0) {
    std::array<tidemark_test_doorbell, 64> bells;
    const auto count = std::min<std::uint64_t>(pages, bells.size());
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto choice = device_choices_();
      const auto page = (choice >> 16) % pages_in_block;
      bells[i] = {first_iova + (choice % memory_.size()) * block_bytes_ + page * page_bytes + 64, 64, choice};
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

void demo_guest::start_pause(completion<void> done) {
  // The device first, then the CPU; each answers on its own thread, and this one goes on in the executor.
  auto finished = std::make_shared<completion<void>>(std::move(done));
  device_driver_->pause([this, finished] {
    boost::asio::post(executor_, [this, finished] {
      cpu_->pause([this, finished] { boost::asio::post(executor_, [finished] { std::move (*finished)(result<void>{}); }); });
    });
  });
}

void demo_guest::start_resume(completion<void> done) {
  cpu_->resume();
  device_driver_->resume();
  boost::asio::post(executor_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
}

demo_activity demo_guest::activity() const {
  return {cpu_ ? cpu_->pages() : 0, device_driver_ ? device_driver_->pages() : 0, refused_dma_.load(), region_changes_};
}

}  // namespace tidemark::cli
