// SPDX-License-Identifier: Apache-2.0
//
// kvm_log_source: reading and clearing, in their order.

#include <linux/kvm.h>
#include <algorithm>
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

BOOST_DATA_TEST_CASE(the_log_is_on_between_start_and_stop_only, data::make(every_log), how) {
  tracked on(how);
  BOOST_TEST(log_answer(*on.guest, 1) == -ENOENT);
  on.start();
  BOOST_TEST(log_answer(*on.guest, 1) == 0);
  on.source().stop();
  BOOST_TEST(log_answer(*on.guest, 1) == -ENOENT);
  on.source().stop();
}

// The page is in what was read, and is written once more before it is protected; another was not read. Neither is lost, and
// nothing is told, and so sent, before it is protected.
BOOST_DATA_TEST_CASE(what_is_written_between_reading_and_clearing_is_told, data::make(every_manual), how) {
  tracked on(how);
  on.start();
  on.guest->write({10, 20, 70});
  int clears = 0;
  std::optional<std::size_t> told_after;
  on.kernel.set_rule([&](unsigned long request, std::uintptr_t) -> std::optional<int> {
    if (request == KVM_CLEAR_DIRTY_LOG && ++clears == 1) on.guest->write({20, 21});
    return std::nullopt;
  });
  watching sink;
  sink.when_told = [&] {
    if (!told_after) told_after = static_cast<std::size_t>(clears);
  };
  must(on.source().harvest(sink));
  BOOST_TEST(clears == 2);  // pages 10 and 20 by one, 70 by another
  BOOST_REQUIRE(told_after.has_value());
  BOOST_TEST(*told_after == 2u);
  on.kernel.set_rule({});
  BOOST_CHECK(harvested(on.source()) == told({21}));
  on.guest->write({20});
  BOOST_CHECK(harvested(on.source()) == told({20}));
}

// The embedder says that the VM was set up for clearing, and it was not.
BOOST_AUTO_TEST_CASE(clearing_what_reading_had_cleared_loses_nothing) {
  tracked on(logging::plain);
  kvm_log_source log(on.kernel, on.guest->vm(), {.manual_protect = true});
  for (const auto& slot : on.guest->slots()) must(log.add_slot(slot));
  must(log.start());
  on.guest->write({20});
  on.kernel.set_rule([&](unsigned long request, std::uintptr_t) -> std::optional<int> {
    if (request == KVM_CLEAR_DIRTY_LOG) on.guest->write({20, 21});
    return std::nullopt;
  });
  BOOST_CHECK(harvested(log) == told({20}));  // after its second write
  on.kernel.set_rule({});
  BOOST_CHECK(harvested(log) == told({21}));
  on.guest->write({20});
  BOOST_CHECK(harvested(log) == told({20}));
}

BOOST_AUTO_TEST_CASE(clearing_goes_in_pieces_that_KVM_takes) {
  for (const std::uint32_t clear_pages : {0U, 64U, 100U, 128U, 1000U}) {
    tracked on(logging::manual, clear_pages);
    on.start();
    const auto limit = std::max(clear_pages / 64 * 64, 64U);
    std::vector<std::uint64_t> pieces;
    on.kernel.set_rule([&](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
      if (request != KVM_CLEAR_DIRTY_LOG) return std::nullopt;
      const auto& asked = *reinterpret_cast<const kvm_clear_dirty_log*>(argument);
      BOOST_TEST(asked.num_pages <= limit);
      pieces.push_back(asked.slot * 1000 + asked.first_page);
      return std::nullopt;
    });
    const auto these = pages_from(1, 255);
    on.guest->write(these);
    BOOST_CHECK(harvested(on.source()) == told(these));
    const auto pieces_of = [&](std::uint64_t pages) { return (pages + limit - 1) / limit; };
    BOOST_TEST(pieces.size() == pieces_of(100) + pieces_of(155));
    BOOST_TEST(harvested(on.source()).empty());
  }
}

BOOST_DATA_TEST_CASE(a_log_that_cannot_be_read_is_an_error, data::make(every_log), how) {
  tracked on(how);
  on.start();
  on.guest->write({1, 150});
  on.kernel.set_rule(refuses(KVM_GET_DIRTY_LOG, EFAULT));
  const auto failure = failed_harvest(on.source());
  BOOST_TEST(says(failure, "query pages dirtied by CPUs: Bad address: KVM_GET_DIRTY_LOG of slot 1"));
  BOOST_CHECK(failure.what == operation::query_cpu_dirty);
  // The slot goes all the same, and its pages count as dirty.
  BOOST_TEST(says(on.remove(1), "KVM_GET_DIRTY_LOG of slot 1"));
  on.kernel.set_rule({});
  auto all = pages_from(1, 100);
  all.push_back(150);
  BOOST_CHECK(harvested(on.source()) == told(all));
}

BOOST_DATA_TEST_CASE(a_log_that_cannot_be_cleared_is_an_error_and_told_all_the_same, data::make(every_manual), how) {
  tracked on(how);
  on.start();
  on.guest->write({1, 70});
  int clears = 0;
  on.kernel.set_rule([&](unsigned long request, std::uintptr_t) -> std::optional<int> {
    return request == KVM_CLEAR_DIRTY_LOG && ++clears == 2 ? std::optional(-EINTR) : std::nullopt;
  });
  marked_pages sink;
  const auto failure = on.source().harvest(sink);
  BOOST_TEST(says(failure, "KVM_CLEAR_DIRTY_LOG of slot 1, 36 pages from page 64"));
  BOOST_CHECK(sink.pages == told({1, 70}));
  on.kernel.set_rule({});
  BOOST_CHECK(harvested(on.source()) == told({70}));  // still in the log
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::tests
