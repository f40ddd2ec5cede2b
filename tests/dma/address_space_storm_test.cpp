// SPDX-License-Identifier: Apache-2.0
//
// Random storms of region events, several under way at once, with faults, devices that write, and tracking that comes and
// goes. After every event that has completed, what the kernel holds is what the address space says; what a device wrote is
// told to the sink. A seed names a storm.

#include <linux/vfio.h>
#include <tidemark/address_space.hpp>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <map>
#include <random>
#include <set>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;

namespace {

constexpr std::uint64_t slots = 12;  // where regions stand, four pages apart, and some longer than that
constexpr std::uint64_t block_pages = 64;

class storm : bench {
 public:
  explicit storm(std::uint64_t seed, told_by who = told_by::container, kernel::model_options options = {})
      : bench(apart(std::move(options), who)), engine_(seed), space_(loop.get_executor(), around) {
    BOOST_REQUIRE(space_.add_block({"ram", ram_.data(), ram_.size()}));
    for (unsigned group = 0; group < 2; ++group) devices_.push_back(attach(space_, test_device(group)).value());
  }

  void rage(int steps, bool with_faults) {
    for (int step = 0; step < steps; ++step) {
      if (with_faults && !faulty_ && below(8) == 0) refuse_one();
      act();
      for (auto turns = below(4); turns > 0; --turns) turn();
      if (below(4) == 0) calm();
    }
    calm();
    BOOST_TEST(completed_ == given_);
    BOOST_TEST(completed_ > 0U);
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }

  region any_region() {
    const auto pages = 1 + below(8);
    return {{below(slots) * 4 * page, pages * page}, 0, below(block_pages - pages + 1) * page, below(6) != 0};
  }

  void act() {
    switch (below(6)) {
      case 0:
      case 1:
        return give([&](auto token) { space_.async_add(any_region(), std::move(token)); });
      case 2: {
        const auto there = space_.regions();
        const auto range = there.empty() || below(4) == 0 ? any_region().at : there[below(there.size())].at;
        return give([&](auto token) { space_.async_remove(range, std::move(token)); });
      }
      case 3:
        return write();
      case 4:
        return write();
      default:
        return below(6) == 0 ? switch_tracking() : give([&](auto token) { space_.async_sync_dirty(std::move(token)); });
    }
  }

  template <class Start>
  void give(Start start) {
    ++given_;
    start([this](const result<void>&) { ++completed_; });
  }

  /// The kernel writes for the device, and tracks it from START on: only then do we expect to hear of it.
  void write() {
    const auto& by = devices_[below(devices_.size())];
    const auto iova = below(slots * 4 + 8) * page;
    const auto mapped = model.mappings();
    if (ring(by, iova) != 0 || !tracking_) return;
    for (const auto& each : mapped)
      if (each.container == static_cast<std::size_t>(&by - devices_.data()) && iova >= each.iova &&
          iova - each.iova < each.size)
        written_.insert((each.vaddr - reinterpret_cast<std::uintptr_t>(ram_.data()) + iova - each.iova) / page);
  }

  void switch_tracking() {
    calm();
    if (tracking_) {
      tracking_ = false;
      give([&](auto token) { space_.async_stop_tracking(std::move(token)); });
      calm();
      written_.clear();
      return;
    }
    const auto started = done([&](auto token) { space_.async_start_tracking(sink_, std::move(token)); });
    tracking_ = started.has_value();
    (void)sink_.take();
  }

  /// One, until the next calm: the undoing of what it broke must not fail too.
  void refuse_one() {
    faulty_ = true;
    constexpr std::array requests = {VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_IOMMU_DIRTY_PAGES};
    files.set_rule(
        [what = requests[below(requests.size())], left = below(3)](unsigned long request, std::uintptr_t) mutable {
          return request == what && left-- == 0 ? std::optional(-EIO) : std::nullopt;
        });
  }

  void turn() { below(2) == 0 ? void(loop.turn()) : void(threads.run_only(below(2))); }

  /// Lets everything come to its end and looks.
  void calm() {
    settle();
    files.set_rule({});
    faulty_ = false;
    BOOST_REQUIRE(completed_ == given_);
    if (tracking_) {
      BOOST_REQUIRE(done([&](auto token) { space_.async_sync_dirty(std::move(token)); }));
      for (const auto heard : sink_.take()) written_.erase(heard);
      BOOST_REQUIRE_MESSAGE(written_.empty(), "page " << *written_.begin() << " was written and nobody told");
    }
    agree();
  }

  void agree() const {
    using entry = std::array<std::uint64_t, 5>;
    std::set<entry> said;
    for (std::size_t in = 0; in < devices_.size(); ++in)
      for (const auto& shown : space_.regions())
        said.insert({in, shown.at.iova, shown.at.size, reinterpret_cast<std::uintptr_t>(ram_.data() + shown.offset),
                     shown.writable});
    std::set<entry> held;
    for (const auto& mapped : model.mappings())
      held.insert({mapped.container, mapped.iova, mapped.size, mapped.vaddr, mapped.writable});
    BOOST_REQUIRE(said == held);
  }

  std::mt19937_64 engine_;
  memory ram_{block_pages};
  std::vector<device> devices_;
  pages_sink sink_;
  address_space space_;
  bool tracking_ = false;
  bool faulty_ = false;
  std::set<std::uint64_t> written_;  // while tracking, and not yet told of
  std::size_t given_ = 0;
  std::size_t completed_ = 0;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(address_space_storms)

// covers R17 R22 R26 R30
BOOST_AUTO_TEST_CASE(the_kernel_holds_what_the_address_space_says_and_no_write_is_lost) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) BOOST_TEST_CONTEXT("seed " << seed) storm(seed).rage(200, false);
}

// covers R17 R18 R22 R26 R30
BOOST_AUTO_TEST_CASE(so_it_is_when_requests_fail) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) BOOST_TEST_CONTEXT("seed " << seed) storm(seed).rage(200, true);
}

// covers R25
BOOST_AUTO_TEST_CASE(so_it_is_when_the_kernel_cannot_track) {
  kernel::model_options options;
  options.version = {5, 7};
  for (std::uint64_t seed = 1; seed <= 30; ++seed)
    BOOST_TEST_CONTEXT("seed " << seed) storm(seed, told_by::container, options).rage(200, false);
}

// covers R17 R27 R29 R30
BOOST_AUTO_TEST_CASE(so_it_is_when_devices_log_their_dma) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed)
    BOOST_TEST_CONTEXT("seed " << seed) storm(seed, told_by::devices).rage(200, false);
}

// covers R17 R26 R27 R29 R30
BOOST_AUTO_TEST_CASE(so_it_is_when_requests_to_devices_that_log_fail) {
  for (std::uint64_t seed = 1; seed <= 120; ++seed)
    BOOST_TEST_CONTEXT("seed " << seed) storm(seed, told_by::devices).rage(200, true);
}

BOOST_AUTO_TEST_SUITE_END()
