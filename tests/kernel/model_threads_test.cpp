// SPDX-License-Identifier: Apache-2.0
//
// Many threads on one model: what they leave behind is what one thread would have left. For the thread sanitizer above all.

#include <array>
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <thread>

#include "kernel/test_device.h"
#include "vfio_calls.hpp"

using namespace tidemark;
using test::attached;
using test::memory;
using test::page;

BOOST_AUTO_TEST_SUITE(model_threads)

BOOST_AUTO_TEST_CASE(maps_and_unmaps_of_disjoint_ranges) {
  kernel::model model;
  const memory ram(page);
  const attached with(model, {0});
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 2000; ++i) {
        const std::uint64_t iova = (t * 4096 + i) * page;
        if (with.map(iova, page, ram.address()) != 0) ++failures;
        if (i % 2 == 0 && with.unmap(iova, page) != static_cast<std::int64_t>(page)) ++failures;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  BOOST_TEST(failures == 0);
  BOOST_TEST(model.mapping_count() == 4000U);
}

BOOST_AUTO_TEST_CASE(only_one_thread_wins_a_range) {
  kernel::model model;
  const memory ram(page);
  const attached with(model, {0});
  std::atomic<int> won = 0;
  std::atomic<int> lost = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (std::uint64_t i = 0; i < 1000; ++i) {
        const int answer = with.map(i * page, page, ram.address());
        if (answer == 0) ++won;
        if (answer == -EEXIST) ++lost;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  BOOST_TEST(won == 1000);
  BOOST_TEST(lost == 3000);
}

BOOST_AUTO_TEST_CASE(no_dirty_page_is_lost_to_a_reader) {
  constexpr std::uint64_t pages = 256;
  kernel::model model;
  const memory ram(pages * page);
  const attached with(model, {0});
  const kernel::handle device(model, model.ioctl(with.groups[0].get(), VFIO_GROUP_GET_DEVICE_FD, "tidemark-test.0"));
  BOOST_TEST(with.map(0, pages * page, ram.address()) == 0);
  BOOST_TEST(with.track(VFIO_IOMMU_DIRTY_PAGES_FLAG_START) == 0);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (std::uint64_t n = 0; n < pages; ++n) {
      const tidemark_test_doorbell bell{.iova = n * page, .length = 8, .value = n};
      if (model.write(device.get(), &bell, sizeof(bell)) < 0) break;
    }
    done = true;
  });
  std::array<std::uint64_t, 4> seen{};
  for (bool last = false; !last;) {
    last = done;
    std::vector<std::uint64_t> words(4);
    if (with.dirty(0, pages * page, words) != 0) break;
    for (std::size_t i = 0; i < seen.size(); ++i) seen[i] |= words[i];
  }
  writer.join();
  for (const std::uint64_t word : seen) BOOST_TEST(word == ~0ULL);
}

BOOST_AUTO_TEST_CASE(groups_come_and_go_under_maps) {
  kernel::model model;
  const memory ram(64 * page);
  const attached with(model, {0});
  std::atomic<bool> done = false;
  std::thread comer([&] {
    for (int i = 0; i < 200; ++i) {
      const kernel::handle group(model, model.open("/dev/vfio/2", O_RDWR));
      with.join(group);
    }
    done = true;
  });
  for (std::uint64_t i = 0; !done; i = (i + 1) % 64) {
    with.map(i * page, page, ram.address() + i * page);
    with.unmap(i * page, page);
  }
  comer.join();
  BOOST_TEST(model.pinned_pages() == 0U);
  BOOST_TEST(model.mapping_count() == 0U);
  BOOST_TEST(model.open_descriptors() == 2U);
}

BOOST_AUTO_TEST_SUITE_END()
