// SPDX-License-Identifier: Apache-2.0
//
// Snapshots that were good once, changed: the reader refuses them, or the page's read says so, or the bytes are still right.
// Never wrong data, and never a byte out of bounds (the address sanitizer looks on in that preset).

#include <fcntl.h>
#include <unistd.h>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <limits>

#include "migrate/snapshots.hpp"

namespace tidemark::migrate {

using namespace tests;

namespace {

/// A small snapshot that has everything, and its file.
struct subject {
  subject() {
    std::mt19937_64 random(1);
    guest.scribble(0, 1, 2, random);
    guest.scribble(1, 0, 1, random);
    states = {{"nic", random_bytes(700, random)}, {"gpu", random_bytes(90, random)}, {"none", {}}};
    take_snapshot(*loop, path, guest, states);
    expected = guest.copy();
    good = text_of(path);
    file = snapshot_file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    std::memcpy(&trailer, good.data() + good.size() - sizeof trailer, sizeof trailer);
  }

  void put(std::size_t at, std::string_view text) const {
    BOOST_TEST_REQUIRE(::pwrite(file.fd(), text.data(), text.size(), static_cast<off_t>(at)) ==
                       static_cast<ssize_t>(text.size()));
  }

  /// Reads all there is. True if something was amiss; what was read without a complaint must be what was written.
  bool is_noticed() const {
    auto opened = open_snapshot(*loop, path);
    if (!opened) return true;
    bool noticed = false;
    auto& reader = **opened;
    BOOST_TEST_REQUIRE(reader.blocks().size() == 2u);
    for (block_index block = 0; block < 2; ++block)
      for (std::uint64_t page = 0; page < guest.blocks[block].pages(); ++page) {
        bytes read(page_bytes);
        if (!await(*loop, reader.read(block, page, read)))
          noticed = true;
        else
          BOOST_TEST(std::equal(read.begin(), read.end(),
                                expected[block].begin() + static_cast<std::ptrdiff_t>(page * page_bytes)));
      }
    BOOST_TEST_REQUIRE(reader.devices().size() == states.size());
    for (std::size_t i = 0; i < states.size(); ++i) {
      BOOST_TEST(reader.devices()[i].name == states[i].first);
      bytes read(reader.devices()[i].bytes);
      if (!await(*loop, reader.read_device(i, 0, read)))
        noticed = true;
      else
        BOOST_TEST((read == states[i].second));
    }
    return noticed;
  }

  /// Whether a byte says anything: what fills the parts up to whole pages does not, nor do pages that are not stored.
  bool says_something(std::size_t at) const {
    const auto layout = snapshot_layout::of(trailer.pages, trailer.blocks_bytes);
    const auto within = [at](std::uint64_t offset, std::uint64_t size) { return at >= offset && at < offset + size; };
    for (const auto page : std::array<std::uint64_t, 3>{1, 2, 5})
      if (within(snapshot_layout::page_offset(page), page_bytes) || within(layout.checksum_offset(page), 8)) return true;
    return within(0, sizeof(snapshot_header)) || within(layout.bitmap_offset, 8) ||
           within(layout.blocks_offset, trailer.blocks_bytes) || within(layout.states_offset, trailer.states_bytes) ||
           within(layout.devices_offset(trailer.states_bytes), trailer.devices_bytes) ||
           within(good.size() - sizeof trailer, sizeof trailer);
  }

  /// Sealed again, with the tables' checksums: a file that lies, not a disk that fails.
  void put_lie(snapshot_trailer lie, const std::string& blocks, const std::string& devices) const {
    const auto layout = snapshot_layout::of(trailer.pages, trailer.blocks_bytes);
    lie.blocks_checksum = snapshot_checksum(std::as_bytes(std::span(blocks)));
    lie.devices_checksum = snapshot_checksum(std::as_bytes(std::span(devices)));
    lie = sealed(lie);
    put(layout.blocks_offset, blocks);
    put(layout.devices_offset(trailer.states_bytes), devices);
    put(good.size() - sizeof lie, {reinterpret_cast<const char*>(&lie), sizeof lie});
  }

  std::unique_ptr<ring::uring_loop> loop = ring::uring_loop::make().value();
  folder home;
  std::string path = home.file("guest");
  snapshot_guest guest{{5, 3}};
  std::vector<std::pair<std::string, bytes>> states;
  std::vector<bytes> expected;
  std::string good;
  snapshot_file file;
  snapshot_trailer trailer;
};

void spoil(std::string& text, std::mt19937_64& random) {
  for (auto flips = 1 + random() % 3; flips != 0 && !text.empty(); --flips)
    text[random() % text.size()] ^= static_cast<char>(1 + random() % 255);
}

/// One of the trailer's numbers, but for its magic and its own checksum.
void spoil(snapshot_trailer& trailer, std::mt19937_64& random) {
  constexpr std::size_t numbers = sizeof trailer / sizeof(std::uint64_t);
  auto* const number = reinterpret_cast<char*>(&trailer) + sizeof(std::uint64_t) * (1 + random() % (numbers - 2));
  std::uint64_t value = 0;
  std::memcpy(&value, number, sizeof value);
  const std::uint64_t kinds[]{value + 1,
                              value - 1,
                              value * 2,
                              0,
                              std::numeric_limits<std::uint64_t>::max(),
                              random(),
                              value + 4096,
                              std::uint64_t{1} << (random() % 64)};
  std::memcpy(number, &kinds[random() % std::size(kinds)], sizeof value);
}

/// Whatever a file says, reading all that it announces stays in bounds.
void read_all(ring::uring_loop& loop, const std::string& path) {
  auto opened = open_snapshot(loop, path);
  if (!opened) return;
  auto& reader = **opened;
  for (block_index block = 0; block < reader.blocks().size(); ++block) {
    bytes read(std::min<std::uint64_t>(reader.blocks()[block].size, 64 * page_bytes));
    (void)await(loop, reader.read(block, 0, read));
  }
  for (std::size_t i = 0; i < reader.devices().size(); ++i) {
    bytes read(reader.devices()[i].bytes);
    (void)await(loop, reader.read_device(i, 0, read));
  }
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(snapshot_mutation_suite, subject)

BOOST_AUTO_TEST_CASE(what_was_not_changed_is_read) { BOOST_TEST(!is_noticed()); }

BOOST_AUTO_TEST_CASE(any_byte_that_is_flipped_is_noticed_or_means_nothing) {
  std::mt19937_64 random(2);
  for (std::size_t at = 0; at < good.size(); at += 1 + random() % (says_something(at) && at >= 9 * page_bytes ? 1 : 5)) {
    const char spoilt = static_cast<char>(good[at] ^ static_cast<char>(1 + random() % 255));
    put(at, {&spoilt, 1});
    BOOST_TEST(is_noticed() == says_something(at), "byte " << at);
    put(at, {&good[at], 1});
  }
  BOOST_TEST(!is_noticed());
}

BOOST_AUTO_TEST_CASE(a_file_that_is_cut_anywhere_is_refused) {
  std::mt19937_64 random(3);
  for (std::size_t length = good.size() - 1; length != 0; length -= std::min<std::size_t>(length, 1 + random() % 300)) {
    BOOST_TEST_REQUIRE(::ftruncate(file.fd(), static_cast<off_t>(length)) == 0);
    BOOST_TEST(open_snapshot(*loop, path).has_error(), length << " bytes");
  }
  put(0, good + "x");
  BOOST_TEST(open_snapshot(*loop, path).has_error());
}

BOOST_AUTO_TEST_CASE(a_file_that_is_cut_while_it_is_open_is_no_wrong_data) {
  const auto reader = open_snapshot(*loop, path).value();
  BOOST_TEST_REQUIRE(::ftruncate(file.fd(), 2 * page_bytes + 100) == 0);
  bytes page(page_bytes);
  const auto answer = await(*loop, reader->read(0, 1, page));
  BOOST_TEST_REQUIRE(answer.has_error());
  BOOST_TEST((answer.error().code == errc::snapshot_damaged));
  bytes state(700);
  BOOST_TEST(await(*loop, reader->read_device(0, 0, state)).has_error());
}

BOOST_AUTO_TEST_CASE(a_page_in_the_place_of_another_is_noticed) {
  const auto layout = snapshot_layout::of(trailer.pages, trailer.blocks_bytes);
  put(snapshot_layout::page_offset(1), std::string_view(good).substr(snapshot_layout::page_offset(2), page_bytes));
  put(layout.checksum_offset(1), std::string_view(good).substr(layout.checksum_offset(2), 8));
  const auto reader = open_snapshot(*loop, path).value();
  bytes page(page_bytes);
  const auto answer = await(*loop, reader->read(0, 1, page));
  BOOST_TEST_REQUIRE(answer.has_error());
  BOOST_TEST(says(answer.error(), path + ": page 1 of RAM block ram0 differs from its checksum"));
  BOOST_TEST((page == bytes(page_bytes)));
  require(await(*loop, reader->read(0, 2, page)));
  BOOST_TEST(await(*loop, reader->restore(guest.blocks, snapshot_reader::memory::fresh)).has_error());
}

// As many pages as the trailer announces, but others: a page of data would read as zeros.
BOOST_AUTO_TEST_CASE(a_bit_that_moved_is_noticed) {
  const auto layout = snapshot_layout::of(trailer.pages, trailer.blocks_bytes);
  const char moved = (1 << 1) | (1 << 3) | (1 << 5);
  put(layout.bitmap_offset, {&moved, 1});
  BOOST_TEST(says(open_snapshot(*loop, path).error(), "the bitmap of pages differs from its checksum"));
}

BOOST_AUTO_TEST_CASE(parts_that_disagree_are_refused) {
  const auto layout = snapshot_layout::of(trailer.pages, trailer.blocks_bytes);
  const auto blocks = good.substr(layout.blocks_offset, trailer.blocks_bytes);
  const auto devices = good.substr(layout.devices_offset(trailer.states_bytes), trailer.devices_bytes);
  const auto piece = devices.size() - 2 * sizeof(snapshot_piece);
  const auto refused = [&](const snapshot_trailer& lie, std::string lying_blocks, std::string lying_devices,
                           const std::string& words) {
    put_lie(lie, lying_blocks, lying_devices);
    const auto opened = open_snapshot(*loop, path);
    BOOST_TEST_REQUIRE(opened.has_error(), words);
    BOOST_TEST((opened.error().code == errc::snapshot_damaged));
    BOOST_TEST(says(opened.error(), words), opened.error().message());
  };
  const auto with = [](std::string text, std::size_t at, char value) {
    text[at] = value;
    return text;
  };
  auto more = trailer;
  ++more.stored_pages;
  refused(more, blocks, devices, "not as many pages");
  refused(trailer, with(blocks, 1, 0x20), devices, "the RAM blocks are not those");  // three pages less
  refused(trailer, with(blocks, 0, 1), devices, "not whole pages");
  refused(trailer, with(blocks, 8, 0), devices, "a name of no length");
  refused(trailer, with(blocks, blocks.size() - 5, '0'), devices, "two RAM blocks have the name ram0");
  refused(trailer, blocks, with(devices, piece, 3), "of no device");
  refused(trailer, blocks, with(devices, piece + 4, 1), "the devices' states are not those");
  refused(trailer, blocks, with(devices, piece + 7, 1), "not of 1 byte to 512 KiB");
  auto fewer = trailer;
  --fewer.device_pieces;
  refused(fewer, blocks, devices, "the devices' states are not those");
  auto far = trailer;
  far.pages = snapshot_pages_max + 1;
  refused(far, blocks, devices, "more than a snapshot may hold");
  far.pages = trailer.pages + 1;
  refused(far, blocks, devices, "do not end at the trailer");
}

BOOST_AUTO_TEST_CASE(lies_with_good_checksums_stay_in_bounds) {
  const auto layout = snapshot_layout::of(trailer.pages, trailer.blocks_bytes);
  const auto blocks = good.substr(layout.blocks_offset, trailer.blocks_bytes);
  const auto devices = good.substr(layout.devices_offset(trailer.states_bytes), trailer.devices_bytes);
  std::mt19937_64 random(4);
  for (int round = 0; round < 4000; ++round) {
    auto lie = trailer;
    auto lying_blocks = blocks;
    auto lying_devices = devices;
    const auto which = random() % 3;
    if (which == 0) spoil(lie, random);
    if (which == 1) spoil(lying_blocks, random);
    if (which == 2) spoil(lying_devices, random);
    put_lie(lie, lying_blocks, lying_devices);
    read_all(*loop, path);
  }
  put(0, good);
  BOOST_TEST(!is_noticed());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
