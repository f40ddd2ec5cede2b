// SPDX-License-Identifier: Apache-2.0
//
// What the executor carries out itself stays within its bound, whatever comes: random requests, small and large, on memory
// that is there and that is not, in random turns of the loop and of the worker. Each ioctl is seen as it is made.

#include <linux/vfio.h>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "dma/bench.hpp"
#include "dma/host_pages.hpp"

using namespace tidemark;
using namespace tidemark::tests;

namespace {

constexpr std::uint64_t turn_bytes_max = 256 << 10;
constexpr std::uint64_t request_bytes_max = 64 << 10;
constexpr std::uint64_t slots = 256;      // places in the IOVA space, each for one mapping at a time
constexpr std::uint64_t slot_pages = 20;  // and the memory behind it

class walk : public bench {
 public:
  explicit walk(std::uint64_t seed) : random_(seed), calm_(seed % 2 == 0) {
    here_.emplace(loop.get_executor(), files, threads, container_options{.piece_bytes = 16 * page});
    BOOST_REQUIRE(done<container_info>([&](auto token) { here_->async_connect(0, std::move(token)); }));
    files.set_rule([this](unsigned long request, std::uintptr_t argument) {
      if (request == VFIO_IOMMU_MAP_DMA) see_map(*reinterpret_cast<const vfio_iommu_type1_dma_map*>(argument));
      if (request == VFIO_IOMMU_UNMAP_DMA && !on_worker_) ++in_place_ioctls_;
      return std::optional<int>();
    });
    madvise(ram_.data(), ram_.size(), MADV_NOHUGEPAGE);
  }

  void go(int steps) {
    for (int i = 0; i < steps; ++i) step();
    ending_ = true;
    while (turn_loop() || turn_worker()) {
    }
    BOOST_TEST(completed_ == asked_);
    std::uint64_t pages = 0;
    for (const auto held : held_) pages += held;
    BOOST_TEST(done<std::uint64_t>([&](auto token) { here_->async_unmap_all(std::move(token)); }).value() == pages * page);
    BOOST_TEST(model.mapping_count() == 0U);
  }

  std::size_t in_place() const { return in_place_ioctls_; }
  std::size_t by_worker() const { return worker_ioctls_; }

 private:
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  /// Once in so many times; of a calm walk, in which most runs in place, hardly ever.
  bool seldom(std::uint64_t times) { return below(calm_ ? times * 50 : times) == 0; }

  void step() {
    switch (below(8)) {
      case 0:
        turn_worker();
        break;
      case 1:
      case 2:
        turn_loop();
        break;
      default:
        for (auto count = below(4) == 0 ? below(70) : 1; count != 0; --count) ask();
    }
  }

  /// Maps what is not mapped, and unmaps what is.
  void ask() {
    if (ending_) return;
    const auto slot = below(slots);
    ++asked_;
    if (held_[slot] == 0) {
      map(slot);
    } else {
      unmap(slot);
    }
  }

  void map(std::uint64_t slot) {
    const auto pages = seldom(10) ? 1 + below(slot_pages) : 1 + below(2);
    mapping what;
    what.at = {slot * 32 * page, pages * page};
    what.host = ram_.data() + slot * slot_pages * page;
    what.unit = below(3) == 0 ? 32 * page : 0;
    what.resident = below(6) == 0;  // a promise that is taken for true
    const bool there = !seldom(4);
    for (std::uint64_t i = 0; i < pages; ++i) {
      auto* const at = static_cast<std::byte*>(what.host) + i * page;
      there || what.resident ? void(*at = std::byte{1}) : void(madvise(at, page, MADV_DONTNEED));
    }
    held_[slot] = pages;
    note(pages * page, there || what.resident, what.unit != 0);
    here_->async_map(what, [this](const result<void>& outcome) { complete(outcome.has_value()); });
  }

  void unmap(std::uint64_t slot) {
    const iova_range at{slot * 32 * page, std::exchange(held_[slot], 0) * page};
    note(at.size, true, false);
    here_->async_unmap(at, [this](const result<std::uint64_t>& outcome) { complete(outcome.has_value()); });
  }

  /// One that may not run in place goes to the worker, and so does everything behind it until the worker has come.
  void note(std::uint64_t bytes, bool resident, bool gathers) {
    const bool small = bytes <= request_bytes_max && resident;
    waiting_bytes_ += small ? bytes : turn_bytes_max + 1;
    if (!small && !gathers) workers_turn_ = true;
  }

  void complete(bool good) {
    BOOST_REQUIRE(good);
    ++completed_;
    if (!seldom(5)) ask();  // belongs to the same turn, if there is room in it
  }

  void see_map(const vfio_iommu_type1_dma_map& what) {
    if (on_worker_) return void(++worker_ioctls_);
    ++in_place_ioctls_;
    bytes_of_turn_ += what.size;
    BOOST_REQUIRE(bytes_of_turn_ <= turn_bytes_max);
    BOOST_REQUIRE(dma::is_resident(reinterpret_cast<const void*>(what.vaddr), what.size));
    BOOST_REQUIRE(!workers_turn_);
  }

  bool turn_loop() {
    bytes_of_turn_ = 0;
    const bool over = waiting_bytes_ > turn_bytes_max;
    const auto before = in_place_ioctls_;
    const bool ran = loop.turn();
    if (over) BOOST_REQUIRE(in_place_ioctls_ == before);
    if (ran && over) workers_turn_ = true;
    if (!workers_turn_) waiting_bytes_ = 0;
    return ran;
  }

  bool turn_worker() {
    on_worker_ = true;
    const bool ran = threads.run();
    on_worker_ = false;
    if (ran) {
      workers_turn_ = false;
      waiting_bytes_ = 0;
    }
    return ran;
  }

  std::mt19937_64 random_;
  bool calm_;
  memory ram_{slots * slot_pages};
  std::optional<container> here_;
  std::array<std::uint64_t, slots> held_{};  // pages
  std::size_t asked_ = 0;
  std::size_t completed_ = 0;
  std::size_t in_place_ioctls_ = 0;
  std::size_t worker_ioctls_ = 0;
  std::uint64_t bytes_of_turn_ = 0;
  std::uint64_t waiting_bytes_ = 0;  // of what was asked for since somebody came
  bool ending_ = false;
  bool on_worker_ = false;
  bool workers_turn_ = false;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(in_place)

BOOST_AUTO_TEST_CASE(no_turn_of_the_loop_does_more_than_its_bound_and_nothing_that_may_fault) {
  std::size_t in_place = 0;
  std::size_t by_worker = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      walk one(seed);
      one.go(200);
      in_place += one.in_place();
      by_worker += one.by_worker();
    }
  }
  BOOST_TEST(in_place > 5'000U);
  BOOST_TEST(by_worker > 5'000U);
}

BOOST_AUTO_TEST_SUITE_END()
