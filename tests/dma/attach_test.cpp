// SPDX-License-Identifier: Apache-2.0
//
// Attaching and detaching, step by step on the model: what holds in between, and what went wrong once.

#include <tidemark/address_space.hpp>

#include <linux/vfio.h>

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;

namespace {

constexpr auto edu = "0000:00:04.0";

struct fixture : bench {
  explicit fixture(kernel::model_options options = {}) : bench(std::move(options)) {
    BOOST_REQUIRE(space.add_block({"ram", ram.data(), ram.size()}));
    BOOST_REQUIRE(add(0, 4));
  }
  result<void> add(std::uint64_t first_page, std::uint64_t pages) {
    const region added{{first_page * page, pages * page}, 0, 0, true};
    return done([&](auto token) { space.async_add(added, std::move(token)); });
  }

  memory ram{64};
  pages_sink sink;
  address_space space{loop.get_executor(), around};
};

bool says(const error& what, const std::string& text) { return what.message().find(text) != std::string::npos; }

/// Threads that the system does not give.
class no_workers final : public workers {
 public:
  std::unique_ptr<worker> make(const std::string&, std::function<void()>) override {
    throw std::system_error(EAGAIN, std::system_category());
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(attaching)

BOOST_AUTO_TEST_CASE(a_thread_that_is_not_to_be_had_fails_the_attach) {
  bench on;
  no_workers none;
  host around(on.model, none);
  address_space space(on.loop.get_executor(), around);
  const auto failed = on.attach(space, test_device(0));
  BOOST_TEST(failed.error().code.value() == EAGAIN);
  BOOST_TEST(says(failed.error(), "no thread for the container's lane"));
  BOOST_TEST(space.containers().empty());
  BOOST_TEST(around.claim_group(0).has_value());
}

// covers R7
BOOST_AUTO_TEST_CASE(an_address_space_that_ends_unpins_before_discarding_is_allowed) {
  auto on = std::make_unique<fixture>();
  BOOST_REQUIRE(on->attach(on->space, edu));
  std::vector<std::size_t> blockers;
  bool claimable = false;
  on->files.set_rule([&](unsigned long request, std::uintptr_t) -> std::optional<int> {
    if (request != VFIO_GROUP_UNSET_CONTAINER) return std::nullopt;
    blockers.push_back(on->around.discards().blockers().size());
    claimable = on->around.claim_group(0).has_value();
    return std::nullopt;
  });
  {
    address_space ending(on->loop.get_executor(), on->around);
    BOOST_REQUIRE(on->attach(ending, test_device(0)));
  }
  on->files.set_rule({});
  BOOST_TEST(blockers == (std::vector<std::size_t>{2}), boost::test_tools::per_element());
  BOOST_TEST(!claimable);
}

// covers R7: joining pins what the container has mapped
BOOST_FIXTURE_TEST_CASE(a_group_that_joins_blocks_discarding_before_it_pins, fixture) {
  BOOST_REQUIRE(attach(space, test_device(0), {.discard_safe = true}));
  std::optional<bool> allowed;
  files.set_rule([&](unsigned long request, std::uintptr_t) -> std::optional<int> {
    if (request == VFIO_GROUP_SET_CONTAINER) allowed = around.discards().allows(ram_discard::required::uncoordinated);
    return std::nullopt;
  });
  BOOST_REQUIRE(attach(space, edu));
  BOOST_TEST(!allowed.value());
  files.set_rule({});
}

// covers R7
BOOST_FIXTURE_TEST_CASE(a_group_that_may_not_join_pins_nothing, fixture) {
  BOOST_REQUIRE(attach(space, test_device(0), {.discard_safe = true}));
  const auto balloon = around.discards().try_require(ram_discard::required::uncoordinated, {"balloon0", "gives back"});
  const auto calls = files.ioctls();
  BOOST_TEST(attach(space, edu).error().code.value() == EBUSY);
  BOOST_TEST(files.ioctls() == calls);
  BOOST_TEST(model.pinned_pages() == 0U);
}

// covers R17 R25: where pages are not tracked in the size that is asked for any more
BOOST_AUTO_TEST_CASE(a_group_that_ends_the_tracking_of_its_container_leaves_regions_that_can_be_removed) {
  kernel::model_options options;
  options.page_sizes = 0x40210000;  // none is the host's
  fixture on(options);
  BOOST_REQUIRE(on.done([&](auto token) { on.space.async_remove({0, 4 * page}, std::move(token)); }));
  BOOST_REQUIRE(on.add(16, 16));
  BOOST_REQUIRE(on.attach(on.space, test_device(0)));
  BOOST_REQUIRE(on.done([&](auto token) { on.space.async_start_tracking(on.sink, std::move(token)); }));
  BOOST_REQUIRE(on.attach(on.space, edu));
  BOOST_TEST(on.done([&](auto token) { on.space.async_remove({16 * page, 16 * page}, std::move(token)); }).has_value());
  BOOST_TEST((on.sink.take() == all_pages(0, 16)));
  BOOST_TEST(on.done([&](auto token) { on.space.async_stop_tracking(std::move(token)); }).has_value());
}

// covers R3: an attach waits for the events given before it, so that their number does not count
BOOST_FIXTURE_TEST_CASE(a_full_lane_is_no_reason_for_another_container, fixture) {
  const auto first = attach(space, test_device(0));
  BOOST_REQUIRE(first);
  std::size_t ended = 0;
  for (std::size_t i = 0; i < container::queue_max; ++i)
    space.async_add({{(64 + i) * page, page}, 0, 0, true}, [&](const result<void>&) { ++ended; });
  std::optional<result<device>> attached;
  std::optional<result<void>> detached;
  space.async_attach(test_device(1), into(attached));
  space.async_detach(*first, into(detached));
  settle();
  BOOST_TEST(ended == container::queue_max);
  BOOST_TEST(attached->has_value());
  BOOST_TEST(detached->has_value());
  BOOST_TEST(space.containers().size() == 1U);
  BOOST_TEST(model.live_containers() == 1U);
}

// covers R10
BOOST_FIXTURE_TEST_CASE(an_attach_that_cannot_be_undone_says_so, fixture) {
  files.set_rule([](unsigned long request, std::uintptr_t) -> std::optional<int> {
    if (request == VFIO_GROUP_GET_DEVICE_FD) return -EBUSY;
    if (request == VFIO_GROUP_UNSET_CONTAINER) return -EBUSY;
    return std::nullopt;
  });
  const auto failed = attach(space, edu);
  BOOST_TEST(says(failed.error(), "not undone: detach: Device or resource busy: VFIO_GROUP_UNSET_CONTAINER of group 2"));
  files.set_rule([](unsigned long request, std::uintptr_t) -> std::optional<int> {
    const bool refused = request == VFIO_SET_IOMMU || request == VFIO_GROUP_UNSET_CONTAINER;
    return refused ? std::optional(-EIO) : std::nullopt;
  });
  BOOST_TEST(says(attach(space, edu).error(), "not undone: detach"));
  files.set_rule({});
}

// covers R11
BOOST_AUTO_TEST_CASE(a_driver_that_fails_to_tell_of_a_feature_has_it_not) {
  bench on;
  std::vector<error> warnings;
  host around(on.files, on.threads, {.warn = [&](const error& what) { warnings.push_back(what); }});
  address_space space(on.loop.get_executor(), around);
  on.files.set_rule(refuses(VFIO_DEVICE_FEATURE, EOPNOTSUPP));
  const auto attached = on.attach(space, test_device(0));
  BOOST_REQUIRE(attached);
  BOOST_TEST(!attached->info().migration.stop_copy);
  BOOST_TEST(!attached->info().logs_dma);
  BOOST_REQUIRE(warnings.size() == 2U);
  BOOST_TEST(says(warnings[0], "tidemark-test.0: VFIO_DEVICE_FEATURE_MIGRATION: taken as not supported"));
}

BOOST_FIXTURE_TEST_CASE(attaches_complete_in_the_order_they_were_given, fixture) {
  std::string order;
  space.async_attach(edu, [&](const result<device>& outcome) { order += outcome ? "a" : "A"; });
  space.async_attach("nowhere", [&](const result<device>& outcome) { order += outcome ? "b" : "B"; });
  space.async_attach(test_device(0), [&](const result<device>& outcome) { order += outcome ? "c" : "C"; });
  settle();
  BOOST_TEST(order == "aBc");
}

BOOST_FIXTURE_TEST_CASE(a_hundred_thousand_attaches_may_wait, fixture) {
  std::size_t refused = 0;
  for (int i = 0; i < 100'000; ++i)
    space.async_attach("nowhere", [&](const result<device>& outcome) { refused += outcome ? 0U : 1U; });
  settle();
  BOOST_TEST(refused == 100'000U);
}

BOOST_FIXTURE_TEST_CASE(a_container_is_shown_when_a_group_is_in_it_and_as_its_groups_make_it, fixture) {
  BOOST_REQUIRE(attach(space, test_device(0)));
  BOOST_TEST(space.containers().front().windows.empty());
  const auto narrowing = attach(space, edu);
  BOOST_REQUIRE(narrowing);
  BOOST_TEST(space.containers().front().windows.size() == 2U);
  BOOST_REQUIRE(detach(space, *narrowing));
  BOOST_TEST(space.containers().front().windows.size() == 1U);  // the whole space: nothing is reserved any more
}

BOOST_AUTO_TEST_SUITE_END()
