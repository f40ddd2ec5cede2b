// SPDX-License-Identifier: Apache-2.0
//
// What kvm_log_source and kvm_ring_source have in common: on a model of KVM's logging, here, and with `-- --kernel=linux` on
// the real KVM, in the test guest.

#include <atomic>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <optional>
#include <thread>
#include <vector>

#include "dirty/kvm_tracked.hpp"

namespace tidemark::tests {

namespace data = boost::unit_test::data;

BOOST_AUTO_TEST_SUITE(kvm)

BOOST_DATA_TEST_CASE(tells_the_pages_written_and_each_once, data::make(every_logging), how) {
  tracked on(how);
  on.start();
  BOOST_TEST(harvested(on.source()).empty());
  const std::vector<std::uint64_t> these{1, 64, 65, 100, 101, 255, 64, 200};
  on.guest->write(these);
  BOOST_CHECK(harvested(on.source()) == told(these));
  BOOST_TEST(harvested(on.source()).empty());
  on.guest->write({65, 255});
  BOOST_CHECK(harvested(on.source()) == told({65, 255}));
  BOOST_TEST(harvested(on.source()).empty());
}

BOOST_DATA_TEST_CASE(every_page_again_and_again, data::make(every_logging), how) {
  tracked on(how);
  on.start();
  for (std::uint64_t round = 0; round < 5; ++round) {
    const auto these = pages_from(1 + round * 40, 90);
    on.guest->write(these);
    BOOST_CHECK(harvested(on.source()) == told(these));
  }
}

BOOST_DATA_TEST_CASE(what_was_written_before_the_start_is_forgotten, data::make(every_logging), how) {
  tracked on(how);
  on.start();
  on.guest->write({1, 2});
  must(on.source().start());
  on.guest->write({2, 3});
  BOOST_CHECK(harvested(on.source()) == told({2, 3}));
  on.source().stop();
  on.guest->write({4});
  must(on.source().start());
  on.guest->write({5});
  BOOST_CHECK(harvested(on.source()) == told({5}));
}

BOOST_DATA_TEST_CASE(a_log_that_the_embedder_keeps_is_left_alone, data::make(every_logging), how) {
  tracked on(how);
  const auto slot = on.guest->slots()[0];
  must(on.add(without_memory(slot)));
  if (how != logging::ring) {
    const auto off = on.source().start();
    BOOST_TEST(says(off, "KVM_GET_DIRTY_LOG of slot 1: KVM has no such slot, or its log is off"));
    BOOST_TEST(off.error().code.value() == ENOENT);
  }
  BOOST_REQUIRE(set_region(*on.guest, slot, KVM_MEM_LOG_DIRTY_PAGES, slot.pages) == 0);
  on.guest->write({7});
  must(on.source().start());
  on.guest->write({8});
  BOOST_CHECK(harvested(on.source()) == told({8}));
  on.source().stop();
  on.guest->write({9});
  must(on.source().start());
  on.guest->write({10});
  BOOST_CHECK(harvested(on.source()) == told({10}));
}

BOOST_DATA_TEST_CASE(a_slot_that_goes_leaves_what_its_log_had, data::make(every_logging), how) {
  tracked on(how);
  on.start();
  const auto slots = on.guest->slots();
  on.guest->write({1, 2, 150, 151});
  must(on.remove(2));
  BOOST_REQUIRE(set_region(*on.guest, slots[1], 0, 0) == 0);
  on.guest->write({3});
  BOOST_CHECK(harvested(on.source()) == told({1, 2, 3, 150, 151}));
  BOOST_TEST(harvested(on.source()).empty());

  // It comes back, with its log off: what was written until then, nobody knows.
  BOOST_REQUIRE(set_region(*on.guest, slots[1], 0, slots[1].pages) == 0);
  on.guest->write({160});
  must(on.add(slots[1]));
  BOOST_CHECK(harvested(on.source()) == told(pages_from(101, 155)));
  on.guest->write({170});
  BOOST_CHECK(harvested(on.source()) == told({170}));
  must(on.remove(2));
  on.source().stop();
}

BOOST_DATA_TEST_CASE(a_slot_that_comes_with_its_log_on_has_it_read_from_its_first_day, data::make(every_logging), how) {
  tracked on(how);
  const auto slots = on.guest->slots();
  must(on.add(slots[0]));
  must(on.source().start());
  BOOST_REQUIRE(set_region(*on.guest, slots[1], KVM_MEM_LOG_DIRTY_PAGES, slots[1].pages) == 0);
  if (how != logging::ring) on.guest->write({120});  // to a ring that would be of an unknown slot
  must(on.add(without_memory(slots[1])));
  on.guest->write({130});
  auto pages = harvested(on.source());
  // With KVM_DIRTY_LOG_INITIALLY_SET all of it is dirty.
  if (how == logging::manual_initially_set) BOOST_TEST(pages.size() == 155u);
  BOOST_TEST(pages.contains({3, 130 - 101 + 1000}));
  BOOST_TEST(pages.contains({3, 120 - 101 + 1000}) == (how != logging::ring));
  if (how == logging::plain) BOOST_TEST(pages.size() == 2u);
  BOOST_TEST(harvested(on.source()).empty());
}

BOOST_DATA_TEST_CASE(slots_that_are_there_or_not_are_refused, data::make(every_logging), how) {
  tracked on(how);
  on.start();
  const auto twice = on.add(on.guest->slots()[1]);
  BOOST_TEST(says(twice, "slot 2 is known"));
  BOOST_TEST(twice.error().code.value() == EEXIST);
  const auto none = on.remove(0x10007);
  BOOST_TEST(says(none, "slot 7 of address space 1 is not known"));
  BOOST_TEST(none.error().code.value() == ENOENT);
}

BOOST_DATA_TEST_CASE(a_slot_that_cannot_be_logged_fails_the_start_whole, data::make(every_logging), how) {
  tracked on(how);
  const auto slots = on.guest->slots();
  must(on.add(slots[0]));
  auto other_size = slots[1];
  --other_size.pages;
  must(on.add(other_size));
  const auto refused = on.source().start();
  BOOST_TEST(says(refused, "KVM_SET_USER_MEMORY_REGION of slot 2"));
  BOOST_TEST(refused.error().code.value() == EINVAL);
  BOOST_TEST(!refused.error().undone.empty());
  must(on.remove(2));
  // The first slot's log is off again.
  on.guest->write({1});
  if (how == logging::ring)
    BOOST_TEST(on.guest->ring()[0].flags == 0u);
  else
    BOOST_TEST(log_answer(*on.guest, 1) == -ENOENT);
  must(on.source().start());
  const auto late = on.add(other_size);
  BOOST_TEST(says(late, "slot 2"));
  must(on.add(slots[1]));
}

BOOST_AUTO_TEST_CASE(a_VM_that_logs_the_other_way_is_named) {
  tracked rings(logging::ring);
  kvm_log_source log(rings.kernel, rings.guest->vm());
  must(log.add_slot(rings.guest->slots()[0]));
  const auto no_log = log.start();
  BOOST_TEST(says(no_log, "the VM has dirty rings"));
  tracked logs(logging::plain);
  const auto no_ring = logs.ring.start();
  BOOST_TEST(says(no_ring, "KVM_CAP_DIRTY_LOG_RING"));
}

// Slots come and go under a harvest of another thread.
BOOST_DATA_TEST_CASE(slots_come_and_go_under_a_harvest, data::make(every_logging), how) {
  tracked on(how);
  on.start();
  std::atomic<bool> running{true};
  std::thread embedder([&] {
    for (int round = 0; round < 50; ++round)
      if (!on.remove(2) || !on.add(on.guest->slots()[1])) break;
    running = false;
  });
  pages_of all;
  while (running) all.merge(harvested(on.source()));
  embedder.join();
  all.merge(harvested(on.source()));
  BOOST_CHECK(all == told(pages_from(101, 155)));
  on.guest->write({1, 254});
  BOOST_CHECK(harvested(on.source()) == told({1, 254}));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::tests
