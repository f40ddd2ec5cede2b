// SPDX-License-Identifier: Apache-2.0

#include <tidemark/dirty_log.hpp>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <thread>
#include <vector>

#include "support/marked_pages.hpp"

namespace tidemark {

namespace {

constexpr std::uint64_t pages = 200;

ram_block block_of_pages() {
  ram_block block;
  block.size = pages * page_bytes;
  return block;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_harvest_adds_to_what_is_there_and_forgets) {
  dirty_log log({block_of_pages(), block_of_pages()});
  log.record(1, 60, 10);
  log.record(0, pages - 1, 1);
  tests::marked_pages told;
  told.mark({1, 0, 1});
  BOOST_REQUIRE(log.harvest(told));
  BOOST_TEST(told.pages.size() == 12u);
  for (std::uint64_t page = 60; page < 70; ++page) BOOST_TEST(told.pages.contains({1, page}));
  BOOST_TEST(told.pages.contains({0, pages - 1}));
  told.pages.clear();
  BOOST_REQUIRE(log.harvest(told));
  BOOST_TEST(told.pages.empty());
}

// Every page is recorded once, by one of two threads, while another harvests just where the first of them is: what comes
// must be all of them.
BOOST_AUTO_TEST_CASE(no_recorded_page_is_lost_under_threads) {
  constexpr std::size_t blocks = 4000;
  dirty_log log(std::vector<ram_block>(blocks, block_of_pages()));
  std::atomic<block_index> at{0};
  const auto record = [&](std::uint64_t first, bool leads) {
    for (block_index block = 0; block < blocks; ++block) {
      if (leads) at = block;
      for (auto page = first; page < pages; page += 2) log.record(block, page, 1);
    }
    if (leads) at = blocks;
  };
  std::thread even(record, 0, true);
  std::thread odd(record, 1, false);
  tests::marked_pages told;
  while (at != blocks) BOOST_REQUIRE(log.harvest(told));
  even.join();
  odd.join();
  BOOST_REQUIRE(log.harvest(told));
  BOOST_TEST(told.pages.size() == blocks * pages);
}

// The pages themselves are plain memory: who harvests the bit sees the bytes (a data race otherwise, for TSan to find).
BOOST_AUTO_TEST_CASE(who_harvests_a_page_sees_its_bytes) {
  dirty_log log({block_of_pages()});
  std::vector<unsigned> memory(pages);
  std::atomic<bool> writing{true};
  std::thread writer([&] {
    for (std::uint64_t page = 0; page < pages; ++page) {
      memory[page] = 1;
      log.record(0, page, 1);
    }
    writing.store(false, std::memory_order_relaxed);
  });
  std::uint64_t seen = 0;
  const auto harvest = [&] {
    tests::marked_pages told;
    BOOST_REQUIRE(log.harvest(told));
    for (const auto& [block, page] : told.pages) seen += memory[page];
  };
  while (writing.load(std::memory_order_relaxed)) harvest();
  writer.join();
  harvest();
  BOOST_TEST(seen == pages);
}

}  // namespace tidemark
