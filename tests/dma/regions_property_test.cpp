// SPDX-License-Identifier: Apache-2.0
//
// Random regions of every kind, granules that are populated and discarded, containers that come and go, calls that fail,
// several events under way at once: against the obvious thing, a set of pages. A seed names a run.
//
// Events take effect in the order they were given wherever they meet, so their outcomes are applied to the reference in
// that order; then what each container of the kernel holds is, page by page, what the reference says.

#include <linux/vfio.h>
#include <tidemark/address_space.hpp>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;

namespace {

constexpr std::uint64_t block_pages = 96;
constexpr std::uint64_t slots = 10;
constexpr std::uint64_t slot_bytes = 16 * page;
constexpr unsigned groups = 3;

/// Pages that devices see: by IOVA, the address behind each.
using page_map = std::map<std::uint64_t, std::uint64_t>;

/// The obvious address space.
class reference {
 public:
  explicit reference(const std::byte* ram) : ram_(reinterpret_cast<std::uintptr_t>(ram)) {}

  void add(const region& added) { regions_.push_back({added, {}}); }
  void remove(iova_range range) {
    std::erase_if(regions_, [&](const entry& one) { return one.asked.at == range; });
  }
  void set(iova_range range, bool populated) {
    for (auto& one : regions_) {
      if (one.asked.granule == 0 || range.iova < one.asked.at.iova) continue;
      if (range.iova >= one.asked.at.iova + one.asked.at.size) continue;
      for (std::uint64_t at = range.iova; at < range.iova + range.size; at += page)
        populated ? void(one.populated.insert(at)) : void(one.populated.erase(at));
    }
  }

  page_map seen() const {
    page_map all;
    for (const auto& one : regions_) {
      const auto end = one.asked.at.iova + one.asked.at.size;
      for (auto at = (one.asked.at.iova + page - 1) / page * page; at + page <= end; at += page)  // whole pages only
        if (is_seen(one, at)) all.emplace(at, address(one, at));
    }
    return all;
  }

  /// Pages of the block that regions with a granule show, and none populated.
  std::set<std::uint64_t> discarded() const {
    std::set<std::uint64_t> gone;
    for (const bool granular : {true, false})
      for (const auto& one : regions_) {
        if (one.asked.kind != region_kind::ram) continue;
        for (std::uint64_t byte = 0; byte < one.asked.at.size; byte += 8) {
          const auto which = (one.asked.offset + byte) / page;
          const auto at = (one.asked.at.iova + byte) / page * page;
          const bool shown = one.asked.granule == 0 || one.populated.contains(at);
          if (granular && one.asked.granule != 0) gone.insert(which);
          if (!granular && shown) gone.erase(which);
        }
      }
    return gone;
  }

 private:
  struct entry {
    region asked;
    std::set<std::uint64_t> populated;
  };

  std::uint64_t address(const entry& one, std::uint64_t at) const {
    const auto first =
        one.asked.kind == region_kind::ram ? ram_ + one.asked.offset : reinterpret_cast<std::uintptr_t>(one.asked.host);
    return first + (at - one.asked.at.iova);
  }
  bool is_seen(const entry& one, std::uint64_t at) const {
    if (one.asked.kind != region_kind::ram && one.asked.kind != region_kind::device_memory) return false;
    if (address(one, at) % page != 0) return false;
    return one.asked.granule == 0 || one.populated.contains(at);
  }

  std::uint64_t ram_;
  std::vector<entry> regions_;
};

class run : bench {
 public:
  explicit run(std::uint64_t seed)
      : bench(apart(of_test_devices(), seed % 2 == 0 ? told_by::devices : told_by::container)),
        engine_(seed),
        space_(loop.get_executor(), around) {
    BOOST_REQUIRE(space_.add_block({"ram", ram_.data(), ram_.size()}));
    for (unsigned group = 0; group < 2; ++group) BOOST_REQUIRE(attach(space_, test_device(group)));
  }

  void go(int steps, bool with_faults) {
    for (int step = 0; step < steps; ++step) {
      if (with_faults && !faulty_ && below(6) == 0) refuse_one();
      act();
      for (auto turns = below(4); turns > 0; --turns) turn();
      if (below(5) == 0) calm();
    }
    calm();
  }

 private:
  static kernel::model_options of_test_devices() {
    kernel::model_options options;
    options.groups.clear();
    for (unsigned group = 0; group < groups; ++group)
      options.groups.push_back({.number = group, .devices = {"tidemark-test." + std::to_string(group)}});
    return options;
  }

  std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }

  void turn() {
    if (threads.count() == 0 || below(2) == 0) {
      loop.turn();
    } else {
      threads.run_only(below(threads.count()));
    }
  }

  void act() {
    switch (below(12)) {
      case 0:
      case 1:
        return add();
      case 2:
        return remove();
      case 3:
      case 4:
      case 5:
        return change(true);
      case 6:
      case 7:
        return change(false);
      case 8:
        return below(6) == 0 ? come_or_go() : write();
      case 9:
        return below(3) == 0 ? switch_tracking() : give([](auto& in, auto token) { in.async_sync_dirty(token); }, [] {});
      default:
        return write();
    }
  }

  region any_region() {
    region one{{slot_bytes * below(slots), (1 + below(8)) * page}, 0, below(block_pages - 16) * page, below(6) != 0};
    switch (below(7)) {
      case 0:
        one.kind = below(2) == 0 ? region_kind::io : region_kind::protected_memory;
        break;
      case 1:
        one.kind = region_kind::device_memory;
        one.host = bar_.data() + below(8) * page;
        break;
      case 2:  // odd edges
        one.at.iova += below(2) * 0xf00;
        one.at.size += below(page);
        one.offset += below(2) * 0xf00;
        break;
      case 3:
        break;
      default:
        one.granule = page << below(2);
        one.at.size = one.granule * (1 + below(8));
    }
    return one;
  }

  /// An event, and what it does to the reference when it succeeds.
  template <class Start>
  void give(Start start, std::function<void()> then) {
    events_.push_back(std::make_unique<event>(std::move(then)));
    start(space_, [to = events_.back().get()](const result<void>& outcome) { to->outcome = outcome.has_value() ? 1 : 0; });
  }

  void add() {
    const auto one = any_region();
    give([&](auto& in, auto token) { in.async_add(one, token); }, [this, one] { obvious_.add(one); });
  }

  void remove() {
    const auto there = space_.regions();
    if (there.empty()) return;
    const auto range = there[below(there.size())].at;
    give([&](auto& in, auto token) { in.async_remove(range, token); }, [this, range] { obvious_.remove(range); });
  }

  void change(bool populate) {
    const auto there = space_.regions();
    std::vector<region> granular;
    for (const auto& one : there)
      if (one.granule != 0) granular.push_back(one);
    if (granular.empty()) return;
    const auto one = granular[below(granular.size())];
    const auto count = one.at.size / one.granule;
    const auto first = below(count);
    const iova_range range{one.at.iova + first * one.granule, (1 + below(count - first)) * one.granule};
    give([&](auto& in, auto token) { populate ? in.async_populate(range, token) : in.async_discard(range, token); },
         [this, range, populate] { obvious_.set(range, populate); });
  }

  void come_or_go() {
    calm();
    const auto there = space_.devices();
    if (!there.empty() && below(2) == 0) {
      give([&](auto& in, auto token) { in.async_detach(there[below(there.size())], token); }, [] {});
    } else {
      events_.push_back(std::make_unique<event>([] {}));
      space_.async_attach(test_device(static_cast<unsigned>(below(groups))),
                          [to = events_.back().get()](const result<device>& outcome) { to->outcome = outcome ? 1 : 0; });
    }
  }

  void write() {
    const auto there = space_.devices();
    const auto mapped = model.mappings();
    if (there.empty() || mapped.empty()) return;
    const auto& by = there[below(there.size())];
    const auto& seen = mapped[below(mapped.size())];
    const auto iova = seen.iova + below(seen.size / page) * page;
    if (!by.is_open() || ring(by, iova) != 0 || !tracking_) return;
    for (const auto& each : mapped) {
      if (iova < each.iova || iova - each.iova >= each.size) continue;
      const auto address = each.vaddr + (iova - each.iova) - reinterpret_cast<std::uintptr_t>(ram_.data());
      if (address < ram_.size() && is_same_everywhere(mapped, iova, each.vaddr - each.iova)) written_.insert(address / page);
    }
  }

  /// Containers may be a step apart; which of them the device wrote through is then not told here.
  static bool is_same_everywhere(const std::vector<kernel::model_mapping>& mapped, std::uint64_t iova, std::uint64_t shift) {
    for (const auto& each : mapped)
      if (iova >= each.iova && iova - each.iova < each.size && each.vaddr - each.iova != shift) return false;
    return true;
  }

  void switch_tracking() {
    calm();
    tracking_ = !tracking_;
    if (tracking_) {
      sink_.forget();
      give([&](auto& in, auto token) { in.async_start_tracking(sink_, token); }, [] {});
    } else {
      give([](auto& in, auto token) { in.async_stop_tracking(token); }, [] {});
    }
    calm();
    (void)sink_.take();
    written_.clear();
  }

  /// Until the next calm: the undoing of what it broke must not fail too.
  void refuse_one() {
    faulty_ = true;
    constexpr std::array requests = {VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA};
    files.set_rule(
        [what = requests[below(requests.size())], left = below(6)](unsigned long request, std::uintptr_t) mutable {
          return request == what && left-- == 0 ? std::optional(-EIO) : std::nullopt;
        });
  }

  void calm() {
    settle();
    files.set_rule({});
    faulty_ = false;
    for (const auto& one : events_) {
      BOOST_REQUIRE(one->outcome >= 0);
      if (one->outcome == 1) one->then();
    }
    events_.clear();
    compare_maps();
    if (tracking_) compare_dirty();
  }

  void compare_maps() {
    auto expected = obvious_.seen();
    // Device memory that did not map says so: it is not expected in that container.
    const auto states = space_.region_states();
    std::map<std::size_t, page_map> held;
    for (const auto& each : model.mappings())
      for (std::uint64_t at = 0; at < each.size; at += page) held[each.container].emplace(each.iova + at, each.vaddr + at);
    for (const auto& state : states)
      for (const auto& where : state.in)
        if (state.asked.kind == region_kind::device_memory && !where.reason.empty())
          for (std::uint64_t at = 0; at < state.asked.at.size; at += page) {
            expected.erase(state.asked.at.iova + at);
            for (auto& [container, pages] : held) pages.erase(state.asked.at.iova + at);
          }
    if (expected.empty()) {
      for (const auto& [container, pages] : held) BOOST_REQUIRE(pages.empty());
      return;
    }
    BOOST_REQUIRE(held.size() == space_.containers().size());
    for (const auto& [container, pages] : held) BOOST_REQUIRE(pages == expected);
  }

  void compare_dirty() {
    BOOST_REQUIRE(done([&](auto token) { space_.async_sync_dirty(std::move(token)); }));
    BOOST_REQUIRE(sink_.gone() == obvious_.discarded());
    for (const auto heard : sink_.take()) written_.erase(heard);
    for (const auto gone : sink_.gone()) written_.erase(gone);
    BOOST_REQUIRE_MESSAGE(written_.empty(), "page " << *written_.begin() << " was written and nobody told");
  }

  struct event {
    explicit event(std::function<void()> what) : then(std::move(what)) {}
    std::function<void()> then;
    int outcome = -1;
  };

  std::mt19937_64 engine_;
  memory ram_{block_pages};
  memory bar_{16};
  reference obvious_{ram_.data()};
  pages_sink sink_;
  std::vector<std::unique_ptr<event>> events_;
  std::set<std::uint64_t> written_;  // while tracking, and not yet told of
  bool tracking_ = false;
  bool faulty_ = false;
  address_space space_;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(random_regions)

// covers R9 R17 R23 R30 R31
BOOST_AUTO_TEST_CASE(the_kernel_holds_the_pages_that_the_obvious_address_space_shows) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) BOOST_TEST_CONTEXT("seed " << seed) run(seed).go(300, false);
}

// covers R9 R17 R18 R22 R23 R30 R31
BOOST_AUTO_TEST_CASE(and_so_when_requests_fail) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) BOOST_TEST_CONTEXT("seed " << seed) run(seed).go(300, true);
}

BOOST_AUTO_TEST_SUITE_END()
