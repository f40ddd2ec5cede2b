// SPDX-License-Identifier: Apache-2.0
// covers R7

#include <tidemark/ram_discard.hpp>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <random>
#include <thread>
#include <vector>

namespace tidemark {

namespace {

using blocked = ram_discard::blocked;
using required = ram_discard::required;

/// The table of ram_discard.hpp, written as people would check it: counts, and who excludes whom.
struct reference {
  std::array<int, 2> blocks{}, requirements{};

  static std::size_t index(auto kind) { return static_cast<std::size_t>(kind); }
  bool may_block(blocked kind) const {
    const int uncoordinated = requirements[index(required::uncoordinated)];
    const int coordinated = requirements[index(required::coordinated)];
    return kind == blocked::all ? uncoordinated + coordinated == 0 : uncoordinated == 0;
  }
  bool may_require(required kind) const {
    const int all = blocks[index(blocked::all)];
    const int uncoordinated = blocks[index(blocked::uncoordinated)];
    return kind == required::uncoordinated ? all + uncoordinated == 0 : all == 0;
  }
};

template <class Kind, class Claim>
struct held {
  Kind kind;
  Claim claim;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_type1_container_leaves_coordinated_discarding_possible) {
  ram_discard service;
  const auto block = service.try_block(blocked::uncoordinated, {"group 7", "pins memory"});
  BOOST_TEST(block.has_value());
  BOOST_TEST(service.allows(required::coordinated));
  BOOST_TEST(!service.allows(required::uncoordinated));
  BOOST_TEST(service.try_require(required::coordinated, {"virtio-mem0", "unplugs"}).has_value());
}

BOOST_AUTO_TEST_CASE(a_refusal_names_who_stands_in_the_way_and_why) {
  ram_discard service;
  const auto block = service.try_block(blocked::uncoordinated, {"group 7", "a type1 container pins guest memory"});
  const auto balloon = service.try_require(required::uncoordinated, {"balloon0", "inflates"});
  BOOST_REQUIRE(!balloon);
  BOOST_TEST(balloon.error().code.value() == EBUSY);
  BOOST_TEST(balloon.error().detail ==
             "balloon0 cannot discard RAM: group 7 blocks it (a type1 container pins guest memory)");

  ram_discard other;
  const auto memory = other.try_require(required::coordinated, {"virtio-mem0", "unplugs memory"});
  const auto spapr = other.try_block(blocked::all, {"group 2", "an sPAPR container"});
  BOOST_REQUIRE(!spapr);
  BOOST_TEST(spapr.error().detail == "group 2 cannot block RAM discarding: virtio-mem0 requires it (unplugs memory)");
}

BOOST_AUTO_TEST_CASE(holders_can_be_read_in_the_order_they_came) {
  ram_discard service;
  auto first = service.try_block(blocked::uncoordinated, {"group 1", "a"});
  auto second = service.try_block(blocked::all, {"group 2", "b"});
  BOOST_TEST((service.blockers() == std::vector<ram_discard::holder>{{"group 1", "a"}, {"group 2", "b"}}));
  *first = ram_discard::block{};
  BOOST_TEST((service.blockers() == std::vector<ram_discard::holder>{{"group 2", "b"}}));
  BOOST_TEST(service.requirers().empty());
}

BOOST_AUTO_TEST_CASE(a_claim_that_moved_is_given_back_once) {
  ram_discard service;
  {
    auto one = service.try_block(blocked::all, {"group 1", "a"});
    auto moved = std::move(*one);
    ram_discard::block last;
    last = std::move(moved);
    BOOST_TEST(service.blockers().size() == 1u);
    BOOST_TEST(bool(last));
    BOOST_TEST(!bool(moved));
  }
  BOOST_TEST(service.blockers().empty());
  BOOST_TEST(service.allows(required::uncoordinated));
}

BOOST_AUTO_TEST_CASE(random_claims_are_granted_as_the_table_says_and_none_is_left) {
  std::mt19937_64 random(7);
  ram_discard service;
  reference expected;
  std::vector<held<blocked, ram_discard::block>> blocks;
  std::vector<held<required, ram_discard::requirement>> requirements;
  const auto drop_one = [&](auto& list, auto& counts) {
    if (list.empty()) return;
    const auto at = list.begin() + static_cast<std::ptrdiff_t>(random() % list.size());
    --counts[reference::index(at->kind)];
    list.erase(at);
  };
  for (int step = 0; step < 20000; ++step) {
    switch (random() % 4) {
      case 0: {
        const auto kind = static_cast<blocked>(random() % 2);
        auto made = service.try_block(kind, {"group", "pins"});
        BOOST_REQUIRE(made.has_value() == expected.may_block(kind));
        if (!made) break;
        ++expected.blocks[reference::index(kind)];
        blocks.push_back({kind, std::move(*made)});
        break;
      }
      case 1: {
        const auto kind = static_cast<required>(random() % 2);
        BOOST_REQUIRE(service.allows(kind) == expected.may_require(kind));
        auto made = service.try_require(kind, {"device", "discards"});
        BOOST_REQUIRE(made.has_value() == expected.may_require(kind));
        if (!made) break;
        ++expected.requirements[reference::index(kind)];
        requirements.push_back({kind, std::move(*made)});
        break;
      }
      case 2:
        drop_one(blocks, expected.blocks);
        break;
      default:
        drop_one(requirements, expected.requirements);
    }
    BOOST_REQUIRE(service.blockers().size() == blocks.size());
    BOOST_REQUIRE(service.requirers().size() == requirements.size());
  }
  blocks.clear();
  requirements.clear();
  BOOST_TEST(service.blockers().empty());
  BOOST_TEST(service.requirers().empty());
}

BOOST_AUTO_TEST_CASE(claims_come_and_go_on_any_thread) {
  ram_discard service;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&service] {
      for (int n = 0; n < 2000; ++n) {
        auto block = service.try_block(blocked::uncoordinated, {"group", "pins"});
        auto requirement = service.try_require(required::coordinated, {"device", "discards"});
      }
    });
  for (auto& thread : threads) thread.join();
  BOOST_TEST(service.blockers().empty());
  BOOST_TEST(service.requirers().empty());
}

}  // namespace tidemark
