// SPDX-License-Identifier: Apache-2.0

#include "dma/host_pages.hpp"

#include <sys/mman.h>

#include <boost/test/unit_test.hpp>

#include "dma/bench.hpp"

using namespace tidemark;
using namespace tidemark::tests;

namespace {

constexpr std::uint64_t mib = 1ULL << 20;

/// Memory whose pages come one by one.
struct small_pages : memory {
  explicit small_pages(std::uint64_t pages) : memory(pages) { madvise(data(), size(), MADV_NOHUGEPAGE); }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(pages_of_the_host)

BOOST_AUTO_TEST_CASE(what_was_touched_is_resident_and_nothing_else) {
  const small_pages ram(8192);  // two slices
  BOOST_TEST(!dma::is_resident(ram.data(), page));
  ram.data()[5 * page] = std::byte{1};
  BOOST_TEST(dma::is_resident(ram.data() + 5 * page, page));
  BOOST_TEST(!dma::is_resident(ram.data() + 5 * page, 2 * page));
  for (std::uint64_t i = 0; i < 8192; ++i) ram.data()[i * page] = std::byte{1};
  BOOST_TEST(dma::is_resident(ram.data(), ram.size()));
  madvise(ram.data() + 8191 * page, page, MADV_DONTNEED);
  BOOST_TEST(!dma::is_resident(ram.data(), ram.size()));
  BOOST_TEST(dma::is_resident(ram.data(), ram.size() - page));
}

BOOST_AUTO_TEST_CASE(what_is_not_mapped_is_not_resident) {
  const small_pages ram(2);
  munmap(ram.data() + page, page);
  ram.data()[0] = std::byte{1};
  BOOST_TEST(dma::is_resident(ram.data(), page));
  BOOST_TEST(!dma::is_resident(ram.data(), 2 * page));
}

BOOST_AUTO_TEST_CASE(populated_memory_is_resident_and_keeps_what_it_held) {
  const small_pages ram(80 * mib / page);
  for (std::uint64_t at = 0; at < ram.size(); at += 24 * mib) ram.data()[at] = std::byte{7};
  dma::populate(ram.data(), ram.size(), true);
  BOOST_TEST(dma::is_resident(ram.data(), ram.size()));
  for (std::uint64_t at = 0; at < ram.size(); at += 24 * mib) BOOST_TEST((ram.data()[at] == std::byte{7}));
  dma::populate(ram.data(), ram.size(), true);  // there is nothing to do
  BOOST_TEST(dma::is_resident(ram.data(), ram.size()));
}

BOOST_AUTO_TEST_CASE(memory_that_is_only_read_is_populated_for_that) {
  const small_pages ram(40 * mib / page);
  mprotect(ram.data(), ram.size(), PROT_READ);
  dma::populate(ram.data(), ram.size(), false);
  BOOST_TEST(dma::is_resident(ram.data(), ram.size()));
}

// The map that follows says why.
BOOST_AUTO_TEST_CASE(what_cannot_be_populated_is_left) {
  const small_pages ram(40 * mib / page);
  munmap(ram.data() + 16 * mib, 16 * mib);
  dma::populate(ram.data(), ram.size(), true);
  BOOST_TEST(dma::is_resident(ram.data(), 16 * mib));
  BOOST_TEST(!dma::is_resident(ram.data(), ram.size()));
}

BOOST_AUTO_TEST_SUITE_END()
