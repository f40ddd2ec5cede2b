// SPDX-License-Identifier: Apache-2.0

#include "migrate/packing.hpp"

#include <boost/test/unit_test.hpp>

#include <random>
#include <vector>

namespace tidemark::migrate {

namespace {

using memory = std::vector<std::byte>;
constexpr packing ways[] = {packing::lz4, packing::zstd};

/// Bytes of which so many of 256 are random, the others the same.
memory bytes_of(std::size_t size, unsigned random_of_256, std::mt19937_64& random) {
  memory made(size, std::byte{7});
  for (auto& byte : made)
    if (random() % 256 < random_of_256) byte = static_cast<std::byte>(random());
  return made;
}

/// Packs into memory of exactly the room that packing is given, so that a sanitizer sees a byte too many.
memory packed(packer& with, packing how, const memory& from, std::size_t room) {
  memory into(room);
  into.resize(with.pack(how, from, into));
  into.shrink_to_fit();
  return into;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(packings)

BOOST_AUTO_TEST_CASE(what_is_packed_comes_back_and_is_smaller) {
  std::mt19937_64 random(1);
  packer one;
  for (const auto how : ways)
    for (const std::size_t size : {page_bytes, 3 * page_bytes, 128 * page_bytes, payload_bytes_max})
      for (const unsigned of_256 : {0U, 1U, 20U, 100U}) {
        const auto from = bytes_of(size, of_256, random);
        const auto small = packed(one, how, from, size - 1);
        BOOST_REQUIRE(!small.empty());
        memory back(size);
        BOOST_TEST(one.unpack(how, small, back).has_value());
        BOOST_TEST((back == from));
      }
}

BOOST_AUTO_TEST_CASE(what_does_not_become_smaller_than_its_room_is_not_packed) {
  std::mt19937_64 random(2);
  packer one;
  for (const auto how : ways) {
    const auto from = bytes_of(16 * page_bytes, 256, random);
    BOOST_TEST(packed(one, how, from, from.size() - 1).empty());
    const auto easy = bytes_of(16 * page_bytes, 20, random);
    const auto small = packed(one, how, easy, easy.size() - 1);
    BOOST_TEST(packed(one, how, easy, small.size() / 2).empty());
    BOOST_TEST(packed(one, how, easy, 1).empty());
  }
}

BOOST_AUTO_TEST_CASE(what_unpacks_to_more_or_less_than_was_announced_is_refused) {
  std::mt19937_64 random(3);
  packer one;
  for (const auto how : ways) {
    const auto from = bytes_of(4 * page_bytes, 20, random);
    const auto small = packed(one, how, from, from.size() - 1);
    for (const std::size_t size : {page_bytes, 4 * page_bytes - 1, 4 * page_bytes + 1, 8 * page_bytes}) {
      memory back(size);
      const auto done = one.unpack(how, small, back);
      BOOST_REQUIRE(done.has_error());
      BOOST_TEST(done.error().code == make_error_code(errc::protocol));
      BOOST_TEST(done.error().detail.find(name_of(how)) != std::string::npos);
    }
  }
}

BOOST_AUTO_TEST_CASE(cut_off_and_spoilt_input_is_refused_or_fills_what_it_was_given) {
  std::mt19937_64 random(4);
  packer one;
  for (const auto how : ways) {
    const auto from = bytes_of(2 * page_bytes, 40, random);
    const auto small = packed(one, how, from, from.size() - 1);
    memory back(from.size());
    for (std::size_t size = 0; size != small.size(); ++size)
      BOOST_TEST(
          one.unpack(how, memory(small.begin(), small.begin() + static_cast<std::ptrdiff_t>(size)), back).has_error());
    unsigned refused = 0;
    for (int round = 0; round != 3000; ++round) {
      auto spoilt = small;
      for (auto flips = 1 + random() % 4; flips != 0; --flips)
        spoilt[random() % spoilt.size()] ^= static_cast<std::byte>(1 + random() % 255);
      refused += one.unpack(how, spoilt, back).has_error();
    }
    BOOST_TEST(refused > 0u);
    for (int round = 0; round != 3000; ++round) (void)one.unpack(how, bytes_of(random() % 300, 256, random), back);
    BOOST_TEST(one.unpack(how, small, back).has_value());  // and it is none the worse for it
    BOOST_TEST((back == from));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
