// SPDX-License-Identifier: Apache-2.0

#include "migrate/wire.hpp"

#include <xxhash.h>

#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstring>

#include "migrate/checksums.hpp"

namespace tidemark::migrate {

namespace {

template <class Result>
bool refused(const Result& outcome, const std::string& why) {
  if (outcome) return false;
  const auto& failure = outcome.error();
  const bool said = failure.detail.find(why) != std::string::npos;
  if (!said) BOOST_TEST_MESSAGE("it says: " << failure.detail);
  return said && failure.code == make_error_code(errc::protocol);
}

frame_head good_head() { return make_head(frame_type::pages, 7, "body", page_bytes); }

/// A head with one member changed, and its checksum good again: magic and version come before it.
template <class Change>
result<void> check_changed(Change change) {
  auto head = good_head();
  change(head);
  head.checksum = XXH3_64bits(&head, offsetof(frame_head, checksum));
  return check_head(head, 7);
}

std::vector<ram_block> blocks_of(const std::vector<std::uint64_t>& pages) {
  std::vector<ram_block> blocks;
  for (const auto count : pages) blocks.push_back({"ram" + std::to_string(blocks.size()), nullptr, count * page_bytes});
  return blocks;
}

struct raw_run {
  std::uint64_t block, first_page, pages;
};

result<std::vector<page_run>> decode(const std::vector<raw_run>& runs, std::uint64_t payload_pages,
                                     const std::vector<std::uint64_t>& blocks) {
  frame received;
  received.body.assign(reinterpret_cast<const char*>(runs.data()), runs.size() * sizeof(raw_run));
  received.head = make_head(frame_type::pages, 0, received.body, payload_pages * page_bytes);
  return decode_runs(received, blocks_of(blocks));
}

constexpr std::uint64_t huge = ~std::uint64_t{0};

std::string hello(const std::string& blocks) { return R"({"page_bytes":4096,"blocks":[)" + blocks + "]}"; }

}  // namespace

BOOST_AUTO_TEST_CASE(a_head_is_what_the_wire_says) {
  const auto head = good_head();
  BOOST_TEST(std::memcmp(&head, "TMRK\x01\0\x04\0\x07\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0", 32) == 0);
  BOOST_TEST(check_head(head, 7).has_value());
  BOOST_TEST(check_body(head, "body").has_value());
}

BOOST_AUTO_TEST_CASE(a_head_that_breaks_a_rule_is_refused_with_the_rule) {
  BOOST_TEST(refused(check_changed([](auto& head) { head.magic ^= 1; }), "not a Tidemark migration stream"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.version = 2; }), "version 2 of the protocol, this is version 1"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.type = frame_type{0}; }), "unknown type 0"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.type = frame_type{11}; }), "unknown type 11"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.type = frame_type{0xffff}; }), "unknown type 65535"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.sequence = 6; }), "frame 6 came where 7 was due"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.sequence = 8; }), "frame 8 came where 7 was due"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.body_bytes = body_bytes_max + 1; }), "body is over its bound"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.body_bytes = huge; }), "body is over its bound"));
  BOOST_TEST(
      refused(check_changed([](auto& head) { head.payload_bytes = payload_bytes_max + 1; }), "payload is over its bound"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.type = frame_type::final; }),
                     "payload is over its bound"));  // only pages have one
  BOOST_TEST(check_changed([](auto& head) { head.body_bytes = body_bytes_max; }).has_value());
  BOOST_TEST(check_changed([](auto& head) { head.payload_bytes = payload_bytes_max; }).has_value());
}

BOOST_AUTO_TEST_CASE(every_bit_of_head_and_body_is_under_the_checksum) {
  const auto good = good_head();
  for (std::size_t bit = 8 * offsetof(frame_head, type); bit < sizeof good * 8; ++bit) {
    auto head = good;
    reinterpret_cast<unsigned char*>(&head)[bit / 8] ^= static_cast<unsigned char>(1u << (bit % 8));
    BOOST_TEST(refused(check_head(head, 7), "checksum"));
  }
  BOOST_TEST(refused(check_body(good, "bodx"), "checksum"));
  BOOST_TEST(refused(check_body(good, "bod"), "checksum"));
  BOOST_TEST(refused(check_body(good, ""), "checksum"));
}

BOOST_AUTO_TEST_CASE(runs_come_back_as_they_went) {
  const std::vector<page_run> runs{{0, 0, 3}, {1, 4, 1}, {0, 9, 1}};
  frame sent;
  sent.body = encode_runs(runs);
  sent.head = make_head(frame_type::pages, 0, sent.body, 5 * page_bytes);
  const auto got = decode_runs(sent, blocks_of({10, 5}));
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST((*got == runs));
}

BOOST_AUTO_TEST_CASE(runs_that_leave_their_block_are_refused) {
  BOOST_TEST(decode({{0, 9, 1}}, 1, {10}).has_value());
  BOOST_TEST(refused(decode({{0, 10, 1}}, 1, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({{0, 9, 2}}, 2, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({{0, 11, 1}}, 1, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({{0, 3, 0}}, 0, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({{0, huge, 1}}, 1, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({{0, 1, huge}}, 0, {10}), "outside RAM block ram0"));        // first + pages is 0
  BOOST_TEST(refused(decode({{0, huge, 2}}, 2, {10}), "outside RAM block ram0"));        // first + pages is 1
  BOOST_TEST(refused(decode({{0, 1, huge >> 11}}, 1, {10}), "outside RAM block ram0"));  // bytes overflow
  BOOST_TEST(refused(decode({{1, 0, 1}}, 1, {10}), "unknown RAM block"));
  BOOST_TEST(refused(decode({{std::uint64_t{1} << 32, 0, 1}}, 1, {10}), "unknown RAM block"));
  BOOST_TEST(refused(decode({{0, 0, 1}}, 1, {}), "unknown RAM block"));
}

BOOST_AUTO_TEST_CASE(runs_that_are_not_the_payload_are_refused) {
  BOOST_TEST(refused(decode({{0, 0, 2}}, 1, {10}), "not its payload"));
  BOOST_TEST(refused(decode({{0, 0, 2}}, 3, {10}), "not its payload"));
  BOOST_TEST(refused(decode({}, 1, {10}), "not its payload"));
  BOOST_TEST(decode({}, 0, {10}).has_value());
  const auto most = payload_bytes_max / page_bytes;
  BOOST_TEST(decode({{0, 0, most}}, most, {most + 1}).has_value());
  BOOST_TEST(refused(decode({{0, 0, most}, {0, most, 1}}, most, {most + 1}), "more pages in a frame"));
  frame cut;
  cut.body.assign(25, '\0');
  BOOST_TEST(refused(decode_runs(cut, blocks_of({1})), "cut off"));
}

BOOST_AUTO_TEST_CASE(a_hello_comes_back_as_it_went) {
  std::vector<ram_block> blocks{{"pc.ram", nullptr, 1 << 20}, {"vga \"quoted\" \xc3\xa9", nullptr, page_bytes}};
  const auto got = decode_hello(encode_hello(blocks));
  BOOST_REQUIRE(got.has_value());
  BOOST_REQUIRE(got->size() == 2u);
  BOOST_TEST((*got)[0].name == "pc.ram");
  BOOST_TEST((*got)[0].size == std::uint64_t{1} << 20);
  BOOST_TEST((*got)[1].name == blocks[1].name);
}

BOOST_AUTO_TEST_CASE(a_hello_that_breaks_a_rule_is_refused) {
  BOOST_TEST(decode_hello(hello("")).has_value());
  BOOST_TEST(refused(decode_hello(""), "not a JSON object"));
  BOOST_TEST(refused(decode_hello("{"), "not a JSON object"));
  BOOST_TEST(refused(decode_hello("[]"), "not a JSON object"));
  BOOST_TEST(refused(decode_hello("{} {}"), "not a JSON object"));
  BOOST_TEST(refused(decode_hello(std::string(100'000, '[')), "not a JSON object"));
  BOOST_TEST(refused(decode_hello(R"({"blocks":[]})"), "lacks the number 'page_bytes'"));
  BOOST_TEST(refused(decode_hello(R"({"page_bytes":"4096","blocks":[]})"), "lacks the number 'page_bytes'"));
  BOOST_TEST(refused(decode_hello(R"({"page_bytes":-4096,"blocks":[]})"), "lacks the number 'page_bytes'"));
  BOOST_TEST(refused(decode_hello(R"({"page_bytes":16384,"blocks":[]})"), "pages have 16384 bytes"));
  BOOST_TEST(refused(decode_hello(R"({"page_bytes":4096})"), "no list of RAM blocks"));
  BOOST_TEST(refused(decode_hello(R"({"page_bytes":4096,"blocks":{}})"), "no list of RAM blocks"));
  BOOST_TEST(refused(decode_hello(hello("1")), "not an object"));
  BOOST_TEST(refused(decode_hello(hello(R"({"size":4096})")), "lacks the text 'name'"));
  BOOST_TEST(refused(decode_hello(hello(R"({"name":1,"size":4096})")), "lacks the text 'name'"));
  BOOST_TEST(refused(decode_hello(hello(R"({"name":"a"})")), "lacks the number 'size'"));
  BOOST_TEST(refused(decode_hello(hello(R"({"name":"a","size":1e30})")), "lacks the number 'size'"));
  BOOST_TEST(refused(decode_hello(hello(R"({"name":"a","size":0})")), "not whole pages"));
  BOOST_TEST(refused(decode_hello(hello(R"({"name":"a","size":4097})")), "not whole pages"));
  BOOST_TEST(refused(decode_hello(hello(R"({"name":"a","size":4096},{"name":"b","size":4096},{"name":"a","size":8192})")),
                     "two RAM blocks"));
}

BOOST_AUTO_TEST_CASE(a_hello_has_a_bounded_number_of_blocks) {
  std::string blocks;
  for (int i = 0; i < 4096; ++i) blocks += (i ? "," : "") + (R"({"name":"b)" + std::to_string(i) + R"(","size":4096})");
  BOOST_TEST(decode_hello(hello(blocks)).has_value());
  BOOST_TEST(refused(decode_hello(hello(blocks + R"(,{"name":"c","size":4096})")), "too many"));
}

BOOST_AUTO_TEST_CASE(checksums_come_back_as_they_went_and_number_as_the_blocks) {
  const std::vector<std::string> sums{"00", "ff"};
  const auto got = decode_checksums(encode_checksums(sums), 2);
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST(*got == sums, boost::test_tools::per_element());
  BOOST_TEST(refused(decode_checksums(encode_checksums(sums), 1), "one for each"));
  BOOST_TEST(refused(decode_checksums(encode_checksums(sums), 3), "one for each"));
  BOOST_TEST(refused(decode_checksums("{}", 0), "one for each"));
  BOOST_TEST(refused(decode_checksums(R"({"blocks":7})", 1), "one for each"));
  BOOST_TEST(refused(decode_checksums(R"({"blocks":[7]})", 1), "not text"));
  BOOST_TEST(refused(decode_checksums("nonsense", 1), "not a JSON object"));
}

BOOST_AUTO_TEST_CASE(a_checksum_knows_every_byte_of_a_block) {
  std::vector<std::byte> memory(3 * page_bytes);
  const std::vector<ram_block> blocks{{"ram", memory.data(), memory.size()}};
  const auto before = checksums_of(blocks);
  BOOST_TEST(before.front().size() == 32u);
  memory.back() ^= std::byte{1};
  BOOST_TEST(checksums_of(blocks) != before);
}

}  // namespace tidemark::migrate
