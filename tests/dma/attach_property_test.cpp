// SPDX-License-Identifier: Apache-2.0
//
// Random attaches and detaches in two address spaces of one host, several under way at once, with calls of the kernel that
// fail and discarders that come and go. After every one, who blocks RAM discarding is what a plain list of the attached
// devices says, and a grant of the service never contradicts another. A seed names a walk.

#include <tidemark/kernel_faulty.hpp>

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;

namespace {

/// Four groups, one of two devices, one that shares no container.
kernel::model_options walk_options() {
  kernel::model_options options;
  options.groups.push_back({.number = 3, .iommu_backed = true, .devices = {"0000:00:05.0", "0000:00:05.1"}});
  options.groups[1].shares_container = false;
  return options;
}

const std::vector<std::string> names{test_device(0), test_device(1), "0000:00:04.0", "0000:00:05.0", "0000:00:05.1"};

class walk {
 public:
  explicit walk(std::uint64_t seed) : engine_(seed), model_(walk_options()), faulty_(model_), host_(faulty_, threads_) {
    for (auto& one : spaces_) {
      one = std::make_unique<address_space>(loop_.get_executor(), host_);
      BOOST_REQUIRE(one->add_block({"ram", ram_.data(), ram_.size()}));
      std::optional<result<void>> added;
      one->async_add({{0, 4 * page}, 0, 0, true}, into(added));
      settle();
      BOOST_REQUIRE((added && *added));
    }
  }

  void take_steps(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      if (below(3) == 0) check();
    }
    check();
    for (auto& one : spaces_) one.reset();
    expected_.clear();
    required_.clear();
    settle();
    BOOST_TEST(host_.discards().blockers().empty());
    BOOST_TEST(model_.open_descriptors() == 0U);
    BOOST_TEST(model_.live_containers() == 0U);
    BOOST_TEST(model_.pinned_pages() == 0U);
    BOOST_TEST(attached_ > 0);
    BOOST_TEST(refused_ > 0);
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }

  void step() {
    switch (below(8)) {
      case 0:
      case 1:
      case 2:
        return attach();
      case 3:
      case 4:
        return detach();
      case 5:
        return require();
      case 6:
        if (!required_.empty()) required_.erase(required_.begin() + static_cast<std::ptrdiff_t>(below(required_.size())));
        return;
      default:
        return faulty_.fail_nth(1 + below(40), EIO);
    }
  }

  void attach() {
    const auto where = below(spaces_.size());
    const attach_options options{.discard_safe = below(4) == 0};
    ++under_way_;
    spaces_[where]->async_attach(names[below(names.size())], options, [this, options](result<device> outcome) {
      --under_way_;
      if (!outcome) return void(++refused_);
      ++attached_;
      open_.push_back(*outcome);
      auto& group = expected_[outcome->group()];
      BOOST_TEST((group.devices.empty() || group.safe == options.discard_safe));
      group.safe = options.discard_safe;
      group.devices.insert(outcome->name());
    });
  }

  void detach() {
    if (open_.empty()) return;
    const auto at = open_.begin() + static_cast<std::ptrdiff_t>(below(open_.size()));
    const device which = *at;
    if (below(8) != 0) open_.erase(at);  // else it may be detached a second time
    for (const auto& one : spaces_) {
      ++under_way_;
      one->async_detach(which, [this, which](const result<void>& outcome) {
        --under_way_;
        BOOST_TEST(outcome.has_value());
        forget(which);
      });
    }
    going_.push_back(which);
  }

  /// Once for each handle: by then the same device may be attached again.
  void forget(const device& which) {
    if (which.is_open() || std::find(gone_.begin(), gone_.end(), which) != gone_.end()) return;
    gone_.push_back(which);
    auto& group = expected_.at(which.group());
    BOOST_TEST(group.devices.erase(which.name()) == 1U);
    if (group.devices.empty()) expected_.erase(which.group());
  }

  void require() {
    const auto kind = below(2) == 0 ? ram_discard::required::uncoordinated : ram_discard::required::coordinated;
    auto granted = host_.discards().try_require(kind, {"discarder", "the walk wants it"});
    if (granted) required_.push_back(std::move(*granted));
  }

  void settle() {
    do loop_.run_until_idle();
    while (threads_.run());
  }

  /// Lets everything come to its end and looks.
  void check() {
    settle();
    faulty_.fail_none();
    BOOST_REQUIRE(under_way_ == 0);
    for (const auto& gone : std::exchange(going_, {})) BOOST_TEST(!gone.is_open());
    std::multiset<std::string> blocking;
    std::size_t devices = 0;
    for (const auto& [number, group] : expected_) {
      devices += group.devices.size();
      if (!group.safe) blocking.insert("group " + std::to_string(number));
    }
    std::multiset<std::string> told;
    for (const auto& holder : host_.discards().blockers()) told.insert(holder.who);
    BOOST_TEST(told == blocking, boost::test_tools::per_element());
    BOOST_TEST(spaces_[0]->devices().size() + spaces_[1]->devices().size() == devices);
    BOOST_TEST(host_.discards().requirers().size() == required_.size());
    // The kernel's side of it: groups, devices and containers are open for these devices and for nothing else.
    BOOST_TEST(model_.open_descriptors() == devices + expected_.size() + containers());
    BOOST_TEST(model_.live_containers() == containers());
    BOOST_TEST(model_.mapping_count() == containers());
  }

  std::size_t containers() const { return spaces_[0]->containers().size() + spaces_[1]->containers().size(); }

  struct attached_group {
    bool safe = false;
    std::set<std::string> devices;
  };

  std::mt19937_64 engine_;
  kernel::model model_;
  kernel::faulty faulty_;
  hand_workers threads_;
  manual_loop loop_;
  memory ram_{16};
  host host_;
  std::array<std::unique_ptr<address_space>, 2> spaces_;
  std::vector<device> open_;
  std::vector<device> going_;  // since the last check
  std::vector<device> gone_;
  std::map<unsigned, attached_group> expected_;
  std::vector<ram_discard::requirement> required_;
  int under_way_ = 0;
  int attached_ = 0;
  int refused_ = 0;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(attach_walks)

// covers R2 R3 R7 R9 R10 R11
BOOST_AUTO_TEST_CASE(blocks_of_ram_discarding_are_those_of_the_devices_that_are_attached) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) BOOST_TEST_CONTEXT("seed " << seed) walk(seed).take_steps(120);
}

BOOST_AUTO_TEST_SUITE_END()
