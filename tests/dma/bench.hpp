// SPDX-License-Identifier: Apache-2.0
//
// A model kernel with faults, a loop and workers driven by hand, memory to map: what the tests of containers and address
// spaces stand on. Threading: one thread.

#pragma once

#include <sys/mman.h>
#include <tidemark/address_space.hpp>
#include <tidemark/container.hpp>
#include <tidemark/host.hpp>
#include <tidemark/kernel_model.hpp>

#include <array>
#include <boost/test/unit_test.hpp>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "dma/hand_workers.hpp"
#include "kernel/test_device.h"
#include "ring/executor.hpp"
#include "support/manual_loop.hpp"
#include "support/ruled_kernel.hpp"

namespace tidemark::tests {

inline constexpr std::uint64_t page = page_bytes;

/// Page-aligned memory, zeroed.
class memory {
 public:
  explicit memory(std::uint64_t pages)
      : bytes_(pages * page), at_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;
  ~memory() { munmap(at_, bytes_); }

  std::byte* data() const noexcept { return static_cast<std::byte*>(at_); }
  std::uint64_t size() const noexcept { return bytes_; }

 private:
  std::uint64_t bytes_;
  void* at_;
};

/// Keeps the pages that it was told of. Threading: as the lane's worker tells and the test reads, one at a time.
class pages_sink final : public dirty_sink {
 public:
  page_sink& from(dirty_origin which) noexcept override { return origins_[static_cast<std::size_t>(which)]; }

  void discarded(page_run run) override {
    for (std::uint64_t i = 0; i < run.pages; ++i)
      gone_[run.block].insert(run.first_page + i), dirty_[run.block].erase(run.first_page + i);
  }
  void populated(page_run run) override {
    for (std::uint64_t i = 0; i < run.pages; ++i)
      gone_[run.block].erase(run.first_page + i), dirty_[run.block].insert(run.first_page + i);
  }

  /// What is discarded of a block now.
  const std::set<std::uint64_t>& gone(block_index block = 0) { return gone_[block]; }
  /// What was dirty of a block; clean from then on.
  std::set<std::uint64_t> take(block_index block = 0) { return std::exchange(dirty_[block], {}); }
  void forget() { dirty_ = {}, gone_ = {}, told_by_ = {}; }
  /// Who has told of pages since the last call.
  std::set<dirty_origin> take_origins() { return std::exchange(told_by_, {}); }

 private:
  struct origin final : page_sink {
    explicit origin(pages_sink& to, dirty_origin which) : to_(to), which_(which) {}
    void merge(block_index block, std::uint64_t first_page, std::uint64_t pages,
               std::span<const std::uint64_t> bits) override {
      for (std::uint64_t i = 0; i < pages; ++i)
        if (((bits[i / 64] >> (i % 64)) & 1) != 0) to_.mark(which_, block, first_page + i);
    }
    void mark(page_run run) override {
      for (std::uint64_t i = 0; i < run.pages; ++i) to_.mark(which_, run.block, run.first_page + i);
    }

   private:
    pages_sink& to_;
    const dirty_origin which_;
  };

  void mark(dirty_origin by, block_index block, std::uint64_t which) {
    told_by_.insert(by);
    if (!gone_[block].contains(which)) dirty_[block].insert(which);
  }

  std::array<origin, dirty_origins> origins_{origin{*this, dirty_origin::device_log}, origin{*this, dirty_origin::container},
                                             origin{*this, dirty_origin::untracked}, origin{*this, dirty_origin::lost}};
  std::set<dirty_origin> told_by_;
  std::map<block_index, std::set<std::uint64_t>> dirty_;
  std::map<block_index, std::set<std::uint64_t>> gone_;
};

inline std::set<std::uint64_t> all_pages(std::uint64_t first, std::uint64_t count) {
  std::set<std::uint64_t> pages;
  for (std::uint64_t i = 0; i < count; ++i) pages.insert(first + i);
  return pages;
}

/// Where the result of an operation ends up. Give `into(x)` as the token.
template <class T>
auto into(std::optional<result<T>>& outcome) {
  return [&outcome](result<T> given) {
    BOOST_REQUIRE(!outcome);  // an operation completes once
    outcome.emplace(std::move(given));
  };
}

/// Who tells what is dirty: devices that log their own DMA, or their container.
enum class told_by : std::uint8_t { container, devices };

/// The test devices in groups of which each needs a container of its own.
inline kernel::model_options apart(kernel::model_options options = {}, told_by who = told_by::container) {
  for (auto& group : options.groups) {
    group.shares_container = false;
    group.logs_dma = who == told_by::devices;
  }
  return options;
}

inline std::string test_device(unsigned group) { return "/sys/bus/platform/devices/tidemark-test." + std::to_string(group); }

struct bench {
  explicit bench(kernel::model_options options = {}) : model(std::move(options)), files(model) {}

  /// Everything that can be done now is done.
  void settle() {
    do loop.run_until_idle();
    while (threads.run());
  }

  template <class T = void, class Start>
  result<T> done(Start start) {
    std::optional<result<T>> outcome;
    start(into(outcome));
    BOOST_REQUIRE(!outcome);  // never inside the initiating function
    settle();
    BOOST_REQUIRE(outcome.has_value());
    return std::move(*outcome);
  }

  device open_device(container& in, unsigned group) {
    return done<device>(
               [&](auto token) { in.async_open_device(group, "tidemark-test." + std::to_string(group), std::move(token)); })
        .value();
  }

  result<device> attach(address_space& to, const std::string& which, attach_options options = {}) {
    return done<device>([&](auto token) { to.async_attach(which, options, std::move(token)); });
  }
  result<void> detach(address_space& from, const device& which) {
    return done([&](auto token) { from.async_detach(which, std::move(token)); });
  }

  /// The device writes eight bytes at an IOVA: 0, or the errno.
  int ring(const device& by, std::uint64_t iova) {
    const tidemark_test_doorbell bell{iova, 8, 0x0101010101010101};
    const auto rung = model.write(by.file(), &bell, sizeof bell);
    return rung == sizeof bell ? 0 : static_cast<int>(-rung);
  }

  kernel::model model;
  ruled_kernel files;
  hand_workers threads;
  manual_loop loop;
  host around{files, threads, {.in_place_bytes_max = 0}};  // every step by hand
};

}  // namespace tidemark::tests
