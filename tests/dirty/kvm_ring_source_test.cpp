// SPDX-License-Identifier: Apache-2.0
//
// kvm_ring_source: entries, resets, and rings that are full.

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

BOOST_AUTO_TEST_CASE(a_ring_has_a_power_of_two_of_entries) {
  tracked on(logging::ring);
  BOOST_TEST(says(on.ring.add_vcpu(on.guest->ring().first(255)), "255 entries, which is no power of two"));
  BOOST_TEST(says(on.ring.add_vcpu({}), "0 entries"));
}

// A ring that is full ends KVM_RUN until somebody collects; what was collected is told by the next harvest.
BOOST_AUTO_TEST_CASE(a_full_ring_is_collected_and_the_vCPU_runs_on) {
  tracked on(logging::ring);
  on.start();
  const auto these = pages_from(1, 255);
  on.guest->program(these);
  int full = 0;
  while (on.guest->run() == kvm_machine::ended::ring_full) {
    BOOST_REQUIRE(++full < 10);
    must(on.ring.collect());
  }
  BOOST_TEST(full == 1);  // 255 pages, and 192 entries before KVM calls the ring full
  BOOST_CHECK(harvested(on.source()) == told(these));
  BOOST_TEST(harvested(on.source()).empty());
  on.guest->write({5});
  must(on.ring.collect());
  on.source().stop();
  must(on.source().start());
  BOOST_TEST(harvested(on.source()).empty());
}

// Rings that fill while nobody tracks are emptied all the same, and what was in them is not told.
BOOST_AUTO_TEST_CASE(a_ring_may_be_collected_when_nothing_is_started) {
  tracked on(logging::ring);
  const auto slot = on.guest->slots()[0];
  BOOST_REQUIRE(set_region(*on.guest, slot, KVM_MEM_LOG_DIRTY_PAGES, slot.pages) == 0);
  on.guest->write({1, 2});
  must(on.ring.collect());  // of a slot that the source does not know
  must(on.add(without_memory(slot)));
  on.guest->write({2, 3});
  must(on.ring.collect());
  BOOST_TEST(harvested(on.source()).empty());
  must(on.source().start());
  BOOST_TEST(harvested(on.source()).empty());
  on.guest->write({3});
  BOOST_CHECK(harvested(on.source()) == told({3}));
}

// Collected and told, but for the reset: a page told now could be sent and then written without an entry.
BOOST_AUTO_TEST_CASE(pages_of_a_ring_are_told_when_it_was_reset_and_not_before) {
  tracked on(logging::ring);
  on.start();
  on.guest->write({1, 200});
  on.kernel.set_rule(refuses(KVM_RESET_DIRTY_RINGS, EIO));
  marked_pages sink;
  BOOST_TEST(says(on.source().harvest(sink), "KVM_RESET_DIRTY_RINGS"));
  BOOST_TEST(sink.pages.empty());
  BOOST_TEST(says(on.ring.collect(), "KVM_RESET_DIRTY_RINGS"));
  on.guest->write({1, 2});  // page 1 has no entry now
  on.kernel.set_rule({});
  int resets = 0;
  on.kernel.set_rule([&](unsigned long request, std::uintptr_t) -> std::optional<int> {
    if (request == KVM_RESET_DIRTY_RINGS) ++resets;
    return std::nullopt;
  });
  watching order;
  order.when_told = [&] { BOOST_TEST(resets == 1); };
  on.guest->write({3});
  must(on.source().harvest(order));
  on.guest->write({1});
  BOOST_CHECK(harvested(on.source()) == told({1}));
}

BOOST_AUTO_TEST_CASE(a_failed_reset_loses_no_page) {
  tracked on(logging::ring);
  on.start();
  on.guest->write({1, 200});
  on.kernel.set_rule(refuses(KVM_RESET_DIRTY_RINGS, EIO));
  (void)failed_harvest(on.source());
  on.kernel.set_rule({});
  on.guest->write({1, 2});
  BOOST_CHECK(harvested(on.source()) == told({1, 2, 200}));
}

BOOST_AUTO_TEST_CASE(an_entry_of_an_unknown_slot_or_page_is_an_error_once) {
  tracked on(logging::ring);
  const auto slots = on.guest->slots();
  auto short_one = without_memory(slots[0]);
  short_one.pages = 10;
  must(on.add(short_one));
  must(on.source().start());
  for (const auto& slot : slots) BOOST_REQUIRE(set_region(*on.guest, slot, KVM_MEM_LOG_DIRTY_PAGES, slot.pages) == 0);
  on.guest->write({2, 150});
  const auto unknown = failed_harvest(on.source());
  BOOST_TEST(says(unknown, "a dirty ring has page 49 of slot 2, which this source was not told of"));
  BOOST_TEST(harvested(on.source()).empty());

  on.guest->write({3, 50});
  const auto outside = on.ring.collect();
  BOOST_TEST(says(outside, "page 49 of slot 1, which has 10 pages"));
  // The stream hears of it, too, and of the page that was in order.
  marked_pages sink;
  BOOST_TEST(says(on.source().harvest(sink), "which has 10 pages"));
  BOOST_CHECK(sink.pages == told({3}));
  BOOST_TEST(harvested(on.source()).empty());
}

// A vCPU on its own thread, which collects when its ring is full, and a harvest at the same time.
BOOST_AUTO_TEST_CASE(a_vCPU_that_writes_while_it_is_harvested_loses_no_page) {
  tracked on(logging::ring);
  on.start();
  std::atomic<bool> running{true};
  bool failed = false;
  std::thread vcpu([&] {
    for (int round = 0; round < 20 && !failed; ++round) {
      on.guest->program(pages_from(1, 255));
      while (on.guest->run() == kvm_machine::ended::ring_full) failed = failed || !on.ring.collect();
    }
    running = false;
  });
  pages_of all;
  while (running) all.merge(harvested(on.source()));
  vcpu.join();
  all.merge(harvested(on.source()));
  BOOST_TEST(!failed);
  BOOST_CHECK(all == told(pages_from(1, 255)));
  BOOST_TEST(harvested(on.source()).empty());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::tests
