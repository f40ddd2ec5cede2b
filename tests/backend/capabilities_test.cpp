// SPDX-License-Identifier: Apache-2.0

#include "backend/capabilities.hpp"

#include <linux/vfio.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <random>
#include <vector>

using namespace tidemark;
using backend::read_iommu_info;

namespace {

constexpr std::uint64_t host_page = 4096;

/// An answer of the kernel, put together by hand.
class answer {
 public:
  explicit answer(std::uint32_t flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
                  std::uint64_t page_sizes = 0x40201000) {
    vfio_iommu_type1_info head{};
    head.argsz = sizeof head;
    head.flags = flags;
    head.iova_pgsizes = page_sizes;
    put(0, head);
  }

  template <class Structure>
  void put(std::size_t at, const Structure& what) {
    bytes_.resize(std::max(bytes_.size(), at + sizeof what));
    std::memcpy(bytes_.data() + at, &what, sizeof what);
  }

  /// Appends a capability, `gap` bytes behind what is there, and links the last one to it. Gives its offset.
  template <class Capability>
  std::size_t chain(std::uint16_t id, Capability capability, std::size_t gap = 0) {
    const auto here = bytes_.size() + gap;
    capability.header = {id, 1, 0};
    put(here, capability);
    link(last_, here);
    last_ = here;
    return here;
  }

  void chain_windows(const std::vector<vfio_iova_range>& windows, std::uint32_t told) {
    vfio_iommu_type1_info_cap_iova_range head{};
    head.nr_iovas = told;
    chain(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, head);
    for (const auto& window : windows) put(bytes_.size(), window);
  }

  void chain_migration(std::uint64_t page_sizes, std::uint64_t bitmap_bytes_max, std::size_t gap = 0) {
    vfio_iommu_type1_info_cap_migration capability{};
    capability.pgsize_bitmap = page_sizes;
    capability.max_dirty_bitmap_size = bitmap_bytes_max;
    chain(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, capability, gap);
  }

  void chain_available(std::uint32_t available, std::size_t gap = 0) {
    vfio_iommu_type1_info_dma_avail capability{};
    capability.avail = available;
    chain(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, capability, gap);
  }

  /// Makes the capability at `from` (0: the head) name `to` as the next.
  void link(std::size_t from, std::size_t to) {
    const auto next = static_cast<std::uint32_t>(to);
    put(from == 0 ? offsetof(vfio_iommu_type1_info, cap_offset) : from + offsetof(vfio_info_cap_header, next), next);
  }

  void cut(std::size_t bytes) { bytes_.resize(bytes_.size() - bytes); }
  std::size_t size() const { return bytes_.size(); }
  result<container_info> read() const { return read_iommu_info(bytes_, host_page); }

 private:
  std::vector<std::byte> bytes_;
  std::size_t last_ = 0;
};

void must_be_malformed(const answer& given) {
  const auto info = given.read();
  BOOST_REQUIRE(!info);
  BOOST_TEST(info.error().code == make_error_code(errc::malformed_capability));
  BOOST_TEST(!info.error().detail.empty());
}

constexpr std::uint64_t top = ~std::uint64_t{0};

}  // namespace

BOOST_AUTO_TEST_SUITE(capabilities)

// covers R5 R6
BOOST_AUTO_TEST_CASE(a_good_chain_is_read_whole) {
  answer given;
  given.chain_migration(host_page | 0x200000, 1 << 20);
  given.chain_available(123);
  given.chain_windows({{0, 0xfedfffff}, {0xfef00000, 0x7fffffffff}}, 2);
  const auto info = given.read().value();
  BOOST_TEST(info.page_sizes == 0x40201000U);
  BOOST_TEST(info.page_size() == 0x1000U);
  BOOST_TEST(info.can_track_dirty);
  BOOST_TEST(info.dirty_bitmap_bytes_max == 1U << 20);
  BOOST_TEST(info.mappings_available == 123U);
  BOOST_TEST(info.tells_mappings_available);
  BOOST_TEST((info.windows == std::vector<iova_range>{{0, 0xfee00000}, {0xfef00000, 0x7f01100000}}));
}

// covers R5 R6
BOOST_AUTO_TEST_CASE(without_flags_the_host_page_and_the_defaults_hold) {
  const auto info = answer(0, 0x40000000).read().value();
  BOOST_TEST(info.page_sizes == host_page);
  BOOST_TEST(info.mappings_available == 65535U);
  BOOST_TEST(!info.tells_mappings_available);
  BOOST_TEST(info.windows.empty());
  BOOST_TEST(!info.can_track_dirty);
}

// covers R5
BOOST_AUTO_TEST_CASE(no_page_size_at_all_is_refused) { must_be_malformed(answer(VFIO_IOMMU_INFO_PGSIZES, 0)); }

// covers R6
BOOST_AUTO_TEST_CASE(without_the_flag_the_chain_is_not_walked) {
  answer given(VFIO_IOMMU_INFO_PGSIZES);
  given.chain_available(5);
  given.link(0, 0xffffff);
  BOOST_TEST(given.read().value().mappings_available == 65535U);
}

// covers R6
BOOST_AUTO_TEST_CASE(an_empty_chain_is_no_error) { BOOST_TEST(answer().read().value().windows.empty()); }

// covers R6
BOOST_AUTO_TEST_CASE(a_loop_is_an_error) {
  answer self;
  self.chain_available(1);
  self.link(sizeof(vfio_iommu_type1_info), sizeof(vfio_iommu_type1_info));
  must_be_malformed(self);

  answer ring;
  ring.chain_available(1);
  ring.chain_available(2);
  vfio_iommu_type1_info_dma_avail third{};
  const auto at = ring.chain(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, third);
  ring.link(at, sizeof(vfio_iommu_type1_info));
  must_be_malformed(ring);
}

// covers R6
BOOST_AUTO_TEST_CASE(an_offset_outside_the_buffer_or_in_the_head_is_an_error) {
  answer base;
  base.chain_available(1);
  const auto last_header = base.size() - sizeof(vfio_info_cap_header);
  for (const std::size_t offset : {std::size_t{1}, sizeof(vfio_iommu_type1_info) - 1, last_header + 1, base.size(),
                                   base.size() + 1, std::size_t{0xffffffff}}) {
    auto given = base;
    given.link(0, offset);
    must_be_malformed(given);
    given = base;
    given.link(sizeof(vfio_iommu_type1_info), offset);
    must_be_malformed(given);
  }
}

// covers R6
BOOST_AUTO_TEST_CASE(a_capability_that_is_cut_off_is_an_error) {
  const auto cut = [](auto fill, std::size_t bytes) {
    answer given;
    fill(given);
    BOOST_TEST(given.read().has_value());
    given.cut(bytes);
    must_be_malformed(given);
  };
  cut([](answer& given) { given.chain_available(1); }, 1);
  cut([](answer& given) { given.chain_migration(host_page, 1); }, 1);
  cut([](answer& given) { given.chain_windows({{0, 1}, {2, 3}}, 2); }, 1);
  cut([](answer& given) { given.chain_windows({}, 0); }, 1);
}

// covers R6
BOOST_AUTO_TEST_CASE(more_windows_than_the_buffer_holds_are_an_error) {
  for (const std::uint32_t told : {2U, 0x10000000U, 0x10000001U, 0xffffffffU}) {
    answer given;
    given.chain_windows({{0, 4095}}, told);
    must_be_malformed(given);
  }
}

// covers R6
BOOST_AUTO_TEST_CASE(windows_at_the_edges_of_the_address_space_keep_their_size) {
  answer given;
  given.chain_windows({{0, top}, {top - 4095, top}, {5, 5}}, 3);
  BOOST_TEST((given.read().value().windows == std::vector<iova_range>{{0, top}, {top - 4095, 4096}, {5, 1}}));
  answer reversed;
  reversed.chain_windows({{2, 1}}, 1);
  must_be_malformed(reversed);
}

// covers R6
BOOST_AUTO_TEST_CASE(offsets_need_no_alignment) {
  answer given;
  given.chain_available(7, 1);
  given.chain_migration(host_page, 99, 3);
  const auto info = given.read().value();
  BOOST_TEST(info.mappings_available == 7U);
  BOOST_TEST(info.dirty_bitmap_bytes_max == 99U);
}

// covers R6
BOOST_AUTO_TEST_CASE(unknown_capabilities_are_passed_over) {
  answer given;
  struct {
    vfio_info_cap_header header;
  } unknown{};
  given.chain(0x7777, unknown);
  given.chain_available(9);
  BOOST_TEST(given.read().value().mappings_available == 9U);
}

// covers R6
BOOST_AUTO_TEST_CASE(migration_without_the_host_page_size_does_not_count) {
  answer given;
  given.chain_migration(0x200000, 1 << 20);
  const auto info = given.read().value();
  BOOST_TEST(!info.can_track_dirty);
  BOOST_TEST(info.dirty_bitmap_bytes_max == 0U);
}

BOOST_AUTO_TEST_CASE(an_answer_shorter_than_its_head_is_an_error) {
  for (std::size_t bytes = 0; bytes < sizeof(vfio_iommu_type1_info); ++bytes)
    BOOST_TEST(!read_iommu_info(std::vector<std::byte>(bytes), host_page));
}

// covers R6: whatever the bytes are, the answer is information or an error (a sanitizer sees what a read outside is)
BOOST_AUTO_TEST_CASE(random_bytes_never_crash) {
  std::mt19937_64 engine(1);
  const auto below = [&](std::uint64_t limit) { return engine() % limit; };
  std::size_t good = 0;
  for (int round = 0; round < 50'000; ++round) {
    answer given;
    for (auto left = below(6); left > 0; --left) {
      if (below(3) == 0) given.chain_available(static_cast<std::uint32_t>(engine()), below(4));
      if (below(3) == 0) given.chain_migration(engine(), engine(), below(4));
      if (below(3) == 0) given.chain_windows({{below(9), below(9)}}, static_cast<std::uint32_t>(below(3)));
    }
    for (auto left = below(4); left > 0; --left)
      given.put(8 + below(given.size() - 8), static_cast<std::uint8_t>(below(64)));
    if (below(3) == 0) given.cut(below(given.size()));
    if (given.read()) ++good;
  }
  BOOST_TEST(good > 0U);
  BOOST_TEST(good < 50'000U);
}

BOOST_AUTO_TEST_SUITE_END()
