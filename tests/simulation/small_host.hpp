// SPDX-License-Identifier: Apache-2.0
//
// A host in which nothing happens by itself: RAM blocks, containers with a test device each, an address space, a log of CPU
// writes; on the model kernel, in virtual time. What tests of single steps stand on, where machine.hpp is for whole stories.
//
// Threading: one thread.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/container.hpp>
#include <tidemark/dirty_log.hpp>
#include <tidemark/kernel_model.hpp>

#include <boost/test/unit_test.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernel/test_device.h"
#include "simulation/kernels.hpp"
#include "simulation/machine.hpp"
#include "simulation/world.hpp"

namespace tidemark::simulation {

class small_host {
 public:
  /// Six groups at most have a container, or an attached device.
  explicit small_host(const std::vector<std::uint64_t>& pages_of_blocks, unsigned containers = 1)
      : space_(loop_.get_executor(), host_) {
    for (const auto pages : pages_of_blocks) {
      const auto bytes = memory_.emplace_back(pages * page_bytes).bytes();
      BOOST_REQUIRE(space_.add_block({"ram" + std::to_string(memory_.size() - 1), bytes.data(), bytes.size()}));
      for (std::size_t at = 0; at < bytes.size(); at += 8) bytes[at] = static_cast<std::byte>(luck_.below(256));
    }
    for (unsigned group = 0; group < containers; ++group) add_container(group);
    log_ = std::make_unique<dirty_log>(space_.blocks());
  }

  /// Runs the loop until the operation that `begin` starts with the token it is given has completed.
  template <class Begin>
  auto wait(Begin begin) {
    using outcome = decltype(begin(ring::resume_on{executor()}).await_resume());
    std::optional<outcome> into;
    ring::start(store(std::move(begin), executor(), into));
    while (!into) BOOST_REQUIRE(loop_.run_next());
    return std::move(*into);
  }

  /// The same for a task.
  template <class T>
  T wait_for(ring::task<T> work) {
    std::optional<T> into;
    ring::start(store_task(std::move(work), into));
    while (!into) BOOST_REQUIRE(loop_.run_next());
    return std::move(*into);
  }

  void add_container(unsigned group) { devices_.push_back(attach(space_, group)); }

  /// The device of a group.
  device attach(address_space& to, unsigned group) {
    const auto path = "/sys/bus/platform/devices/tidemark-test." + std::to_string(group);
    auto attached = wait([&](auto token) { return to.async_attach(path, token); });
    BOOST_REQUIRE(attached.has_value());
    return std::move(*attached);
  }
  /// Of another guest on the same kernel.
  address_space another_space() { return {executor(), host_}; }

  void add(std::uint64_t iova, std::uint64_t pages, block_index block, std::uint64_t first_page = 0) {
    const region added{{iova, pages * page_bytes}, block, first_page * page_bytes, true};
    BOOST_REQUIRE(wait([&](auto token) { return space_.async_add(added, token); }).has_value());
  }
  void remove(std::uint64_t iova, std::uint64_t pages) {
    BOOST_REQUIRE(wait([&](auto token) { return space_.async_remove({iova, pages * page_bytes}, token); }).has_value());
  }

  /// The device of a container writes the first bytes of a page.
  void write_by_device(std::uint64_t iova, std::uint64_t value = 1, unsigned container = 0) {
    const tidemark_test_doorbell bell{iova, 8, value};
    BOOST_REQUIRE(model_.write(devices_[container].file(), &bell, sizeof bell) == sizeof bell);
  }
  void write_by_cpu(block_index block, std::uint64_t page, unsigned char value = 1) {
    memory_[block].bytes()[page * page_bytes] = static_cast<std::byte>(value);
    log_->record(block, page, 1);
  }

  const device& device_of(unsigned container) const { return devices_[container]; }
  any_io_executor executor() { return loop_.get_executor(); }
  tests::manual_loop& loop() noexcept { return loop_; }
  chance& luck() noexcept { return luck_; }
  turn_workers& threads() noexcept { return threads_; }
  address_space& space() noexcept { return space_; }
  dirty_log& log() noexcept { return *log_; }
  const kernel::model& model() const noexcept { return model_; }
  watched_kernel& kernel() noexcept { return kernel_; }
  bool tracking() const noexcept { return kernel_.tracking_files() != 0; }

 private:
  static kernel::model_options six_groups() {
    kernel::model_options options;
    options.groups.clear();
    for (unsigned number = 0; number != 6; ++number)
      options.groups.push_back({.number = number,
                                .devices = {"tidemark-test." + std::to_string(number)},
                                .shares_container = false,
                                .logs_dma = false});
    return options;
  }

  template <class Begin, class Outcome>
  static ring::task<> store(Begin begin, any_io_executor at, std::optional<Outcome>& into) {
    into.emplace(co_await begin(ring::resume_on{at}));
  }
  template <class T>
  static ring::task<> store_task(ring::task<T> work, std::optional<T>& into) {
    into.emplace(co_await std::move(work));
  }

  tests::manual_loop loop_;
  chance luck_{1};
  turn_workers threads_{loop_, luck_};
  kernel::model model_{six_groups()};
  watched_kernel kernel_{model_, luck_};
  host host_{kernel_, threads_};
  std::vector<memory> memory_;
  std::vector<device> devices_;
  address_space space_;
  std::unique_ptr<dirty_log> log_;
};

}  // namespace tidemark::simulation
