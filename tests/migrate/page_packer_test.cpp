// SPDX-License-Identifier: Apache-2.0
//
// Pages into frames and out of them: what arrives is what was there, whatever it was, and a wrong byte is seen.

#include "migrate/page_packer.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <map>
#include <random>

#include "migrate/page_unpacker.hpp"
#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

namespace {

page_key a_key() {
  page_key key;
  for (std::size_t i = 0; i != key.size(); ++i) key[i] = static_cast<std::byte>(31 * i + 7);
  return key;
}

/// Blocks of memory between pages that nobody may touch.
struct guarded_blocks {
  explicit guarded_blocks(const std::vector<std::uint64_t>& pages) {
    for (const auto count : pages) {
      auto& made = memory.emplace_back(count * page_bytes);
      blocks.push_back({"ram" + std::to_string(blocks.size()), made.host(), made.size()});
    }
  }
  std::byte* page(block_index block, std::uint64_t number) const { return blocks[block].host + number * page_bytes; }

  std::list<guarded_memory> memory;
  std::vector<ram_block> blocks;
};

/// A frame as it goes over the wire.
struct sent_frame {
  frame said;
  std::vector<std::byte> payload;
};

sent_frame on_the_wire(const page_packer::packed_frame& made, packing how, packer& tool) {
  sent_frame sent;
  sent.payload.assign(made.data.begin(), made.data.end());
  if (how != packing::none && !made.data.empty()) {
    std::vector<std::byte> small(made.data.size() - 1);
    small.resize(tool.pack(how, made.data, small));
    if (small.empty()) how = packing::none;
    if (!small.empty()) sent.payload = small;
  }
  if (made.data.empty()) how = packing::none;
  sent.said.body = encode_pages({how, 0, made.checksum}, made.runs);
  sent.said.head = make_head(frame_type::pages, 0, sent.said.body, sent.payload.size());
  return sent;
}

result<void> arrive(const sent_frame& sent, page_unpacker& into) {
  BOOST_REQUIRE(check_head(sent.said.head, 0).has_value());
  const auto said = decode_pages(sent.said, into.blocks());
  if (!said) return said.error();
  std::size_t at = 0;
  for (const auto& part : into.room_for(*said, sent.payload.size())) {
    std::memcpy(part.iov_base, sent.payload.data() + at, part.iov_len);
    at += part.iov_len;
  }
  BOOST_REQUIRE(at == sent.payload.size());
  return into.put(*said, sent.payload.size());
}

/// A guest's page: zero, one of a few, like a text, or like nothing else.
void write_page(std::byte* page, std::mt19937_64& random) {
  const auto kind = random() % 4;
  std::memset(page, kind == 1 ? static_cast<int>(1 + random() % 3) : 0, page_bytes);
  if (kind == 2)
    for (std::size_t i = 0; i < page_bytes; i += 16) page[i] = static_cast<std::byte>(random());
  if (kind == 3)
    for (std::size_t i = 0; i != page_bytes; ++i) page[i] = static_cast<std::byte>(random());
  if (random() % 8 == 0) page[page_bytes - 1] = std::byte{1};  // all but the last byte may be zero
}

/// Runs of random pages, none twice.
std::vector<page_run> some_pages(const std::vector<ram_block>& blocks, std::mt19937_64& random) {
  std::vector<page_run> runs;
  for (block_index block = 0; block != blocks.size(); ++block)
    for (std::uint64_t page = 0; page < blocks[block].pages();) {
      const auto pages = std::min(1 + random() % 40, blocks[block].pages() - page);
      if (random() % 2 == 0) runs.push_back({block, page, pages});
      page += pages;
    }
  std::shuffle(runs.begin(), runs.end(), random);
  return runs;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(pages_in_frames)

BOOST_AUTO_TEST_CASE(random_pages_of_several_rounds_arrive_in_every_packing) {
  for (unsigned seed = 0; seed != 30; ++seed) {
    std::mt19937_64 random(seed);
    const guarded_blocks from({1 + random() % 400, 1 + random() % 90});
    const guarded_blocks to({from.blocks[0].pages(), from.blocks[1].pages()});
    std::vector<std::vector<std::byte>> reference;
    for (const auto& block : from.blocks) reference.emplace_back(block.size);
    page_packer packs(a_key());
    page_unpacker unpacks(a_key(), to.blocks);
    packer tool;
    for (int round = 0; round != 4; ++round) {
      packs.begin_round();
      auto runs = some_pages(from.blocks, random);
      std::uint64_t pages = 0;
      for (const auto& run : runs)
        for (auto page = run.first_page; page != run.first_page + run.pages; ++page, ++pages) {
          write_page(from.page(run.block, page), random);
          std::memcpy(reference[run.block].data() + page * page_bytes, from.page(run.block, page), page_bytes);
        }
      std::uint64_t packed_pages = 0;
      while (!runs.empty()) {
        const auto made = packs.next(runs, from.blocks);
        packed_pages += made.pages();
        const auto sent = on_the_wire(made, static_cast<packing>(random() % 3), tool);
        // The guest goes on: what is in a frame is what was copied.
        if (random() % 2 == 0) std::memset(from.page(0, 0), static_cast<int>(random()), 1);
        const auto done = arrive(sent, unpacks);
        BOOST_REQUIRE_MESSAGE(done.has_value(), done.error().message());
      }
      std::memcpy(from.page(0, 0), reference[0].data(), page_bytes);
      BOOST_TEST(packed_pages == pages);
      for (block_index block = 0; block != 2; ++block)
        BOOST_TEST(std::memcmp(to.page(block, 0), reference[block].data(), reference[block].size()) == 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_zero_or_repeated_takes_no_payload) {
  const guarded_blocks from({40, 3});
  for (std::uint64_t page = 10; page != 30; ++page) std::memset(from.page(0, page), 5, page_bytes);
  std::memset(from.page(1, 1), 5, page_bytes);
  std::memset(from.page(1, 2), 6, page_bytes);
  page_packer packs(a_key());
  std::vector<page_run> runs{{0, 0, 40}, {1, 1, 2}};
  const auto made = packs.next(runs, from.blocks);
  BOOST_TEST(runs.empty());
  BOOST_TEST(made.zero_pages == 20u);
  BOOST_TEST(made.repeated_pages == 20u);
  BOOST_TEST(made.data.size() == 2 * page_bytes);
  const std::vector<wire_run> wanted{{0, page_kind::zero, 0, 10, 0, 0},
                                     {0, page_kind::data, 10, 1, 0, 0},
                                     {0, page_kind::zero, 30, 10, 0, 0},
                                     {1, page_kind::data, 2, 1, 0, 0}};
  for (const auto& run : wanted) BOOST_TEST((std::count(made.runs.begin(), made.runs.end(), run) == 1));
}

// Who was sent in an earlier round may have been sent again since: nothing is said to be the same as he was.
BOOST_AUTO_TEST_CASE(no_page_repeats_one_of_another_round) {
  const guarded_blocks from({4});
  std::memset(from.page(0, 0), 5, 2 * page_bytes);
  page_packer packs(a_key());
  for (int round = 0; round != 3; ++round) {
    packs.begin_round();
    std::vector<page_run> first{{0, 0, 1}};
    BOOST_TEST(packs.next(first, from.blocks).repeated_pages == 0u);
    std::vector<page_run> second{{0, 1, 1}};
    BOOST_TEST(packs.next(second, from.blocks).repeated_pages == 1u);
  }
}

BOOST_AUTO_TEST_CASE(more_pages_or_runs_than_a_frame_may_carry_go_in_several_frames) {
  const guarded_blocks from({70'000});
  page_packer packs(a_key());
  const auto frames_of = [&](std::vector<page_run> runs) {
    std::uint64_t frames = 0;
    std::uint64_t pages = 0;
    for (; !runs.empty(); ++frames) {
      const auto made = packs.next(runs, from.blocks);
      BOOST_REQUIRE(made.pages() != 0u);
      pages += made.pages();
      sent_frame sent;
      sent.said.body = encode_pages({packing::none, 0, made.checksum}, made.runs);
      sent.said.head = make_head(frame_type::pages, 0, sent.said.body, made.data.size());
      BOOST_TEST(check_head(sent.said.head, 0).has_value());
      BOOST_TEST(decode_pages(sent.said, from.blocks).has_value());
    }
    return std::pair(frames, pages);
  };
  std::vector<page_run> scattered;
  for (std::uint64_t page = 0; page < 70'000; page += 2) scattered.push_back({0, page, 1});
  BOOST_TEST((frames_of(scattered) == std::pair<std::uint64_t, std::uint64_t>(2, 35'000)));  // of zero pages: by their runs
  for (std::uint64_t page = 0, value = 1; page != 1000; ++page, ++value)
    std::memcpy(from.page(0, page), &value, sizeof value);
  BOOST_TEST((frames_of({{0, 0, 1000}}) == std::pair<std::uint64_t, std::uint64_t>(8, 1000)));  // 128 of data
}

BOOST_AUTO_TEST_CASE(a_wrong_byte_anywhere_in_a_payload_is_refused) {
  std::mt19937_64 random(5);
  const guarded_blocks from({12});
  for (std::uint64_t page = 0; page != 12; ++page) {
    std::memset(from.page(0, page), static_cast<int>(page % 5), page_bytes);
    if (page % 3 == 0)
      for (std::size_t i = 0; i < page_bytes; i += 32) from.page(0, page)[i] = static_cast<std::byte>(random());
  }
  packer tool;
  for (const auto how : {packing::none, packing::lz4, packing::zstd}) {
    page_packer packs(a_key());
    std::vector<page_run> runs{{0, 0, 12}};
    const auto good = on_the_wire(packs.next(runs, from.blocks), how, tool);
    BOOST_REQUIRE(!good.payload.empty());
    const auto step = 1 + good.payload.size() / 2000;
    for (std::size_t at = 0; at < good.payload.size(); at += step) {
      const guarded_blocks to({12});
      page_unpacker unpacks(a_key(), to.blocks);
      auto wrong = good;
      wrong.payload[at] ^= std::byte{0x10};
      const auto done = arrive(wrong, unpacks);
      // A byte that a packing does not look at changes nothing.
      if (done) BOOST_TEST(std::memcmp(to.page(0, 0), from.page(0, 0), 12 * page_bytes) == 0);
      if (how == packing::none) BOOST_TEST(done.has_error());
    }
  }
}

BOOST_AUTO_TEST_CASE(pages_that_do_not_fit_their_checksum_or_key_are_refused) {
  const guarded_blocks from({3});
  std::memset(from.page(0, 0), 9, page_bytes);
  std::memset(from.page(0, 2), 9, page_bytes);
  page_packer packs(a_key());
  std::vector<page_run> runs{{0, 0, 3}};
  const auto made = packs.next(runs, from.blocks);
  packer tool;
  const auto good = on_the_wire(made, packing::none, tool);
  const auto refused = [&](const sent_frame& sent, const page_key& key) {
    const guarded_blocks to({3});
    page_unpacker unpacks(key, to.blocks);
    return arrive(sent, unpacks).has_error();
  };
  BOOST_TEST(!refused(good, a_key()));
  auto other_key = a_key();
  other_key[100] ^= std::byte{1};
  BOOST_TEST(refused(good, other_key));
  auto other_origin = made;
  for (auto& run : other_origin.runs)
    if (run.kind == page_kind::repeated) run.from_page = 1;
  BOOST_TEST(refused(on_the_wire(other_origin, packing::none, tool), a_key()));
  auto left_out = made;
  std::erase_if(left_out.runs, [](const auto& run) { return run.kind == page_kind::repeated; });
  BOOST_TEST(refused(on_the_wire(left_out, packing::none, tool), a_key()));
}

BOOST_AUTO_TEST_CASE(memory_that_is_zero_already_is_not_touched) {
  const guarded_blocks to({4});
  BOOST_REQUIRE(mprotect(to.page(0, 0), 2 * page_bytes, PROT_READ) == 0);
  std::memset(to.page(0, 2), 3, page_bytes);
  page_unpacker unpacks(a_key(), to.blocks);
  sent_frame sent;
  sent.said.body =
      encode_pages({packing::none, 0, XXH3_64bits(nullptr, 0)}, std::vector<wire_run>{{0, page_kind::zero, 0, 4, 0, 0}});
  sent.said.head = make_head(frame_type::pages, 0, sent.said.body, 0);
  BOOST_TEST(arrive(sent, unpacks).has_value());
  BOOST_TEST((to.page(0, 2)[100] == std::byte{0}));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
