// SPDX-License-Identifier: Apache-2.0

#include "migrate/wire.hpp"

#include <xxhash.h>

#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstring>
#include <map>
#include <string>
#include <vector>

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

/// A `pages` frame as a peer may send it.
frame pages_frame(const pages_head& head, const std::vector<wire_run>& runs, std::uint64_t payload_bytes) {
  frame made;
  made.body = encode_pages(head, runs);
  made.head = make_head(frame_type::pages, 0, made.body, payload_bytes);
  return made;
}

result<pages_body> decode(const std::vector<wire_run>& runs, std::uint64_t payload_pages,
                          const std::vector<std::uint64_t>& blocks) {
  return decode_pages(pages_frame({}, runs, payload_pages * page_bytes), blocks_of(blocks));
}

wire_run data(std::uint32_t block, std::uint64_t first_page, std::uint32_t pages) {
  return {block, page_kind::data, first_page, pages, 0, 0};
}
wire_run zero(std::uint32_t block, std::uint64_t first_page, std::uint32_t pages) {
  return {block, page_kind::zero, first_page, pages, 0, 0};
}
wire_run repeated(std::uint32_t block, std::uint64_t first_page, std::uint32_t pages, std::uint32_t from_block,
                  std::uint64_t from_page) {
  return {block, page_kind::repeated, first_page, pages, from_block, from_page};
}

constexpr std::uint64_t huge = ~std::uint64_t{0};

using members = std::map<std::string, std::string>;

members good_hello() {
  return {{"session", '"' + std::string(32, 'a') + '"'},
          {"key", '"' + std::string(384, '5') + '"'},
          {"page_bytes", "4096"},
          {"channels", "2"},
          {"attempt", "1"},
          {"recovery_window_ms", "10000"},
          {"descriptors", "false"},
          {"handed_over", "false"},
          {"blocks", "[]"},
          {"devices", "[]"}};
}
members good_join() { return {{"session", '"' + std::string(32, 'a') + '"'}, {"attempt", "3"}, {"channel", "1"}}; }

/// The object, with one member changed; an empty value leaves it out.
std::string with(members object, const std::string& name, const std::string& value) {
  object[name] = value;
  std::string text;
  for (const auto& [key, said] : object)
    if (!said.empty()) text += (text.empty() ? "{\"" : ",\"") + key + "\":" + said;
  return text + "}";
}
std::string hello_with(const std::string& name, const std::string& value) { return with(good_hello(), name, value); }
std::string hello_of(const std::string& blocks) { return hello_with("blocks", "[" + blocks + "]"); }

}  // namespace

BOOST_AUTO_TEST_CASE(a_head_is_what_the_wire_says) {
  const auto head = good_head();
  BOOST_TEST(std::memcmp(&head, "TMRK\x02\0\x05\0\x07\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0", 32) == 0);
  BOOST_TEST(check_head(head, 7).has_value());
  BOOST_TEST(check_body(head, "body").has_value());
}

BOOST_AUTO_TEST_CASE(a_head_that_breaks_a_rule_is_refused_with_the_rule) {
  BOOST_TEST(refused(check_changed([](auto& head) { head.magic ^= 1; }), "not a Tidemark migration stream"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.version = 1; }), "version 1 of the protocol, this is version 2"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.type = frame_type{0}; }), "unknown type 0"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.type = frame_type{14}; }), "unknown type 14"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.type = frame_type{0xffff}; }), "unknown type 65535"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.sequence = 6; }), "frame 6 came where 7 was due"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.sequence = 8; }), "frame 8 came where 7 was due"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.body_bytes = body_bytes_max + 1; }), "body is over its bound"));
  BOOST_TEST(refused(check_changed([](auto& head) { head.body_bytes = huge; }), "body is over its bound"));
  BOOST_TEST(
      refused(check_changed([](auto& head) { head.payload_bytes = payload_bytes_max + 1; }), "payload is over its bound"));
  for (std::uint16_t type = 1; type != 14; ++type) {  // only pages and devices' state have one
    const bool carries = frame_type{type} == frame_type::pages || frame_type{type} == frame_type::device;
    const auto checked = check_changed([&](auto& head) { head.type = frame_type{type}; });
    BOOST_TEST((carries ? checked.has_value() : refused(checked, "payload is over its bound")), name_of(frame_type{type}));
  }
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
  const std::vector<wire_run> runs{data(0, 0, 3), zero(1, 4, 1), repeated(0, 3, 2, 1, 0), data(0, 9, 1)};
  const pages_head head{packing::none, 1, 0x1234'5678'9abc'def0};
  const auto got = decode_pages(pages_frame(head, runs, 4 * page_bytes), blocks_of({10, 5}));
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST((got->runs == runs));
  BOOST_TEST(got->data_pages == 4u);
  BOOST_TEST((got->head.how == packing::none));
  BOOST_TEST(got->head.confirm == 1u);
  BOOST_TEST(got->head.checksum == head.checksum);
}

BOOST_AUTO_TEST_CASE(a_run_is_what_the_wire_says) {
  const auto body = encode_pages({packing::zstd, 1, 2}, std::vector<wire_run>{repeated(3, 4, 5, 6, 7)});
  BOOST_REQUIRE(body.size() == 48u);
  BOOST_TEST(std::memcmp(body.data(),
                         "\x02\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0"
                         "\x03\0\0\0\x02\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\x06\0\0\0\x07\0\0\0\0\0\0\0",
                         48) == 0);
}

BOOST_AUTO_TEST_CASE(runs_that_leave_their_block_are_refused) {
  constexpr std::uint32_t most = ~std::uint32_t{0};
  BOOST_TEST(decode({data(0, 9, 1)}, 1, {10}).has_value());
  BOOST_TEST(refused(decode({data(0, 10, 1)}, 1, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({data(0, 9, 2)}, 2, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({data(0, 11, 1)}, 1, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({data(0, 3, 0)}, 0, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({data(0, huge, 1)}, 1, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({data(0, huge, 2)}, 2, {10}), "outside RAM block ram0"));  // first + pages is 1
  BOOST_TEST(refused(decode({data(0, 1, most)}, 0, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({data(0, huge >> 12, 1)}, 1, {10}), "outside RAM block ram0"));  // bytes overflow
  BOOST_TEST(refused(decode({data(1, 0, 1)}, 1, {10}), "unknown RAM block"));
  BOOST_TEST(refused(decode({data(most, 0, 1)}, 1, {10}), "unknown RAM block"));
  BOOST_TEST(refused(decode({data(0, 0, 1)}, 1, {}), "unknown RAM block"));
  BOOST_TEST(decode({zero(0, 0, 10)}, 0, {10}).has_value());
  BOOST_TEST(refused(decode({zero(0, 0, 11)}, 0, {10}), "outside RAM block ram0"));
  BOOST_TEST(refused(decode({zero(1, 0, 1)}, 0, {10}), "unknown RAM block"));
}

BOOST_AUTO_TEST_CASE(origins_outside_their_block_are_refused) {
  BOOST_TEST(decode({repeated(0, 0, 5, 1, 3)}, 0, {10, 8}).has_value());
  BOOST_TEST(refused(decode({repeated(0, 0, 5, 1, 4)}, 0, {10, 8}), "outside RAM block ram1"));
  BOOST_TEST(refused(decode({repeated(0, 0, 5, 1, huge)}, 0, {10, 8}), "outside RAM block ram1"));
  BOOST_TEST(refused(decode({repeated(0, 0, 5, 2, 0)}, 0, {10, 8}), "unknown RAM block"));
  BOOST_TEST(refused(decode({repeated(0, 8, 5, 1, 0)}, 0, {10, 8}), "outside RAM block ram0"));
}

BOOST_AUTO_TEST_CASE(runs_of_an_unknown_kind_and_unknown_packings_are_refused) {
  BOOST_TEST(refused(decode({{0, page_kind{3}, 0, 1, 0, 0}}, 0, {10}), "unknown kind"));
  BOOST_TEST(refused(decode({{0, page_kind{~0U}, 0, 1, 0, 0}}, 0, {10}), "unknown kind"));
  BOOST_TEST(refused(decode_pages(pages_frame({packing{3}, 0, 0}, {data(0, 0, 1)}, 1), blocks_of({10})), "unknown way, 3"));
}

BOOST_AUTO_TEST_CASE(runs_that_are_not_the_payload_are_refused) {
  BOOST_TEST(refused(decode({data(0, 0, 2)}, 1, {10}), "not its payload"));
  BOOST_TEST(refused(decode({data(0, 0, 2)}, 3, {10}), "not its payload"));
  BOOST_TEST(refused(decode({zero(0, 0, 2)}, 2, {10}), "not its payload"));
  BOOST_TEST(refused(decode({repeated(0, 0, 2, 0, 4)}, 2, {10}), "not its payload"));
  BOOST_TEST(refused(decode({}, 1, {10}), "not its payload"));
  BOOST_TEST(decode({}, 0, {10}).has_value());
  frame cut;
  for (const std::size_t bytes : {0u, 15u, 17u, 47u, 49u}) {
    cut.body.assign(bytes, '\0');
    BOOST_TEST(refused(decode_pages(cut, blocks_of({1})), "cut off"));
  }
}

BOOST_AUTO_TEST_CASE(packed_pages_are_fewer_bytes_than_pages) {
  const auto packed = [](packing how, std::uint64_t payload_bytes) {
    return decode_pages(pages_frame({how, 0, 0}, {data(0, 0, 2)}, payload_bytes), blocks_of({10}));
  };
  for (const auto how : {packing::lz4, packing::zstd}) {
    BOOST_TEST(packed(how, 1).has_value());
    BOOST_TEST(packed(how, 2 * page_bytes - 1).has_value());
    BOOST_TEST(refused(packed(how, 2 * page_bytes), "not its payload"));
    BOOST_TEST(refused(decode_pages(pages_frame({how, 0, 0}, {zero(0, 0, 2)}, 0), blocks_of({10})), "not its payload"));
  }
}

BOOST_AUTO_TEST_CASE(a_frame_carries_no_more_than_its_bounds) {
  BOOST_TEST(decode({data(0, 0, frame_pages_max)}, frame_pages_max, {frame_pages_max + 1}).has_value());
  BOOST_TEST(
      refused(decode({data(0, 0, frame_pages_max), data(0, frame_pages_max, 1)}, frame_pages_max, {frame_pages_max + 1}),
              "more pages in a frame"));
  const auto summed = static_cast<std::uint32_t>(frame_runs_max);
  BOOST_TEST(decode({repeated(0, 0, summed, 0, 0)}, 0, {summed}).has_value());
  BOOST_TEST(refused(decode({repeated(0, 0, summed, 0, 0), repeated(0, 0, 1, 0, 0)}, 0, {summed}), "more pages in a frame"));
  const std::vector<wire_run> runs(frame_runs_max, zero(0, 0, 1));
  BOOST_TEST(encode_pages({}, runs).size() <= body_bytes_max);
  BOOST_TEST(encode_pages({}, runs).size() + sizeof(wire_run) > body_bytes_max);
  BOOST_TEST(decode(runs, 0, {1}).has_value());
}

BOOST_AUTO_TEST_CASE(the_head_of_a_devices_state_comes_back_as_it_went) {
  frame sent;
  sent.body = encode_device({3, 1, 77});
  BOOST_TEST(sent.body.size() == 16u);
  const auto got = decode_device(sent, 4);
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST(got->device == 3u);
  BOOST_TEST(got->confirm == 1u);
  BOOST_TEST(got->checksum == 77u);
  BOOST_TEST(refused(decode_device(sent, 3), "unknown device, 3"));
  sent.body += ' ';
  BOOST_TEST(refused(decode_device(sent, 4), "wrong length"));
  sent.body.clear();
  BOOST_TEST(refused(decode_device(sent, 4), "wrong length"));
}

BOOST_AUTO_TEST_CASE(a_hello_comes_back_as_it_went) {
  const hello said{session::random(),
                   7,
                   3,
                   12'345,
                   false,
                   {{"pc.ram", 1 << 20}, {"vga \"quoted\" \xc3\xa9", page_bytes}},
                   {"0000:01:00.0", "mdev \"x\""}};
  const auto got = decode_hello(encode_hello(said));
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST((got->of == said.of));
  BOOST_TEST(got->channels == 7u);
  BOOST_TEST(got->attempt == 3u);
  BOOST_TEST(got->recovery_window_ms == 12'345u);
  BOOST_REQUIRE(got->blocks.size() == 2u);
  for (std::size_t i = 0; i != 2; ++i) {
    BOOST_TEST(got->blocks[i].name == said.blocks[i].name);
    BOOST_TEST(got->blocks[i].size == said.blocks[i].size);
  }
  BOOST_TEST(got->devices == said.devices, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(two_sessions_are_never_the_same) {
  const auto one = session::random();
  const auto other = session::random();
  BOOST_TEST((one.id != other.id));
  BOOST_TEST((one.key != other.key));
}

BOOST_AUTO_TEST_CASE(a_hello_that_breaks_a_rule_is_refused) {
  BOOST_TEST(decode_hello(hello_of("")).has_value());
  for (const std::string body : {"", "{", "[]", "{} {}", "\"hello\""})
    BOOST_TEST(refused(decode_hello(body), "not a JSON object"), body);
  BOOST_TEST(refused(decode_hello(std::string(100'000, '[')), "not a JSON object"));
  for (const std::string name : {"page_bytes", "channels", "attempt", "recovery_window_ms"})
    for (const std::string value : {"", "\"4096\"", "-4096", "0.5", "1e30", "null", "[1]"})
      BOOST_TEST(refused(decode_hello(hello_with(name, value)), "lacks the number '" + name + "'"), name << " " << value);
  BOOST_TEST(refused(decode_hello(hello_with("page_bytes", "16384")), "pages have 16384 bytes"));
  BOOST_TEST(refused(decode_hello(hello_with("channels", "0")), "0 channels; allowed: 1 to 64"));
  BOOST_TEST(refused(decode_hello(hello_with("channels", "65")), "65 channels; allowed: 1 to 64"));
  BOOST_TEST(refused(decode_hello(hello_with("channels", "4294967297")), "4294967297 channels"));
  BOOST_TEST(decode_hello(hello_with("channels", "64")).has_value());
  BOOST_TEST(refused(decode_hello(hello_with("attempt", "0")), "attempts count from 1"));
  for (const std::string name : {"session", "key"}) {
    BOOST_TEST(refused(decode_hello(hello_with(name, "")), "lacks the text '" + name + "'"));
    BOOST_TEST(refused(decode_hello(hello_with(name, "7")), "lacks the text '" + name + "'"));
    for (const std::size_t digits : {0u, 30u, 31u, 33u, 383u, 385u, 1000u})
      BOOST_TEST(refused(decode_hello(hello_with(name, '"' + std::string(digits, 'a') + '"')), "bytes in hexadecimal"));
    auto text = good_hello()[name];
    for (const char wrong : {'g', ' ', '-', '+', 'x'}) {
      text[5] = wrong;
      BOOST_TEST(refused(decode_hello(hello_with(name, text)), "bytes in hexadecimal"), text);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_blocks_and_devices_of_a_hello_that_break_a_rule_are_refused) {
  BOOST_TEST(refused(decode_hello(hello_with("blocks", "")), "no list of RAM blocks"));
  BOOST_TEST(refused(decode_hello(hello_with("blocks", "{}")), "no list of RAM blocks"));
  BOOST_TEST(refused(decode_hello(hello_of("1")), "not an object"));
  BOOST_TEST(refused(decode_hello(hello_of(R"({"size":4096})")), "lacks the text 'name'"));
  BOOST_TEST(refused(decode_hello(hello_of(R"({"name":1,"size":4096})")), "lacks the text 'name'"));
  BOOST_TEST(refused(decode_hello(hello_of(R"({"name":"a"})")), "lacks the number 'size'"));
  BOOST_TEST(refused(decode_hello(hello_of(R"({"name":"a","size":1e30})")), "lacks the number 'size'"));
  BOOST_TEST(refused(decode_hello(hello_of(R"({"name":"a","size":0})")), "not whole pages"));
  BOOST_TEST(refused(decode_hello(hello_of(R"({"name":"a","size":4097})")), "not whole pages"));
  BOOST_TEST(refused(decode_hello(hello_of(R"({"name":"a","size":4096},{"name":"b","size":4096},{"name":"a","size":8192})")),
                     "two RAM blocks"));
  for (const std::string value : {"", "0", "\"no\""})
    BOOST_TEST(refused(decode_hello(hello_with("descriptors", value)), "whether descriptors follow"));
  for (const std::string value : {"", "0", "\"no\""})
    BOOST_TEST(refused(decode_hello(hello_with("handed_over", value)), "whether the guest was handed over"));
  BOOST_TEST(refused(decode_hello(hello_with("devices", "")), "no list of devices"));
  BOOST_TEST(refused(decode_hello(hello_with("devices", "{}")), "no list of devices"));
  BOOST_TEST(refused(decode_hello(hello_with("devices", "[1]")), "not text"));
}

BOOST_AUTO_TEST_CASE(a_hello_has_a_bounded_number_of_blocks_and_devices) {
  std::string blocks;
  for (int i = 0; i < 4096; ++i) blocks += (i ? "," : "") + (R"({"name":"b)" + std::to_string(i) + R"(","size":4096})");
  BOOST_TEST(decode_hello(hello_of(blocks)).has_value());
  BOOST_TEST(refused(decode_hello(hello_of(blocks + R"(,{"name":"c","size":4096})")), "too many RAM blocks"));
  std::string devices;
  for (int i = 0; i < 256; ++i) devices += (i ? ",\"" : "\"") + std::to_string(i) + "\"";
  BOOST_TEST(decode_hello(hello_with("devices", "[" + devices + "]")).has_value());
  BOOST_TEST(refused(decode_hello(hello_with("devices", "[" + devices + ",\"x\"]")), "too many devices"));
}

BOOST_AUTO_TEST_CASE(a_join_comes_back_as_it_went_or_is_refused) {
  const auto of = session::random();
  const auto got = decode_join(encode_join({of.id, 9, 63}));
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST((got->id == of.id));
  BOOST_TEST(got->attempt == 9u);
  BOOST_TEST(got->channel == 63u);
  BOOST_TEST(refused(decode_join("x"), "not a JSON object"));
  BOOST_TEST(refused(decode_join(with(good_join(), "session", "\"ab\"")), "16 bytes in hexadecimal"));
  BOOST_TEST(refused(decode_join(with(good_join(), "attempt", "")), "lacks the number 'attempt'"));
  BOOST_TEST(refused(decode_join(with(good_join(), "channel", "")), "lacks the number 'channel'"));
  for (const std::string channel : {"0", "64", "4294967297"})
    BOOST_TEST(refused(decode_join(with(good_join(), "channel", channel)), "no channel has the number " + channel));
}

BOOST_AUTO_TEST_CASE(a_welcome_comes_back_as_it_went_or_is_refused) {
  for (const bool resumed : {false, true})
    for (const bool running : {false, true}) {
      const auto got = decode_welcome(encode_welcome({resumed, running}));
      BOOST_REQUIRE(got.has_value());
      BOOST_TEST(got->resumed == resumed);
      BOOST_TEST(got->running == running);
    }
  for (const std::string body : {"{}", R"({"resumed":true})", R"({"running":true})", R"({"resumed":1,"running":true})"})
    BOOST_TEST(refused(decode_welcome(body), "does not say whether"), body);
  BOOST_TEST(refused(decode_welcome(""), "not a JSON object"));
}

BOOST_AUTO_TEST_CASE(a_taken_comes_back_as_it_went_or_is_refused) {
  BOOST_TEST(encode_taken(5) == std::string("\x05\0\0\0\0\0\0\0", 8));
  const auto got = decode_taken(encode_taken(huge - 1));
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST(*got == huge - 1);
  for (const std::size_t bytes : {0u, 7u, 9u}) BOOST_TEST(refused(decode_taken(std::string(bytes, '\0')), "wrong length"));
}

BOOST_AUTO_TEST_CASE(checksums_come_back_as_they_went_and_number_as_the_blocks) {
  const std::vector<std::string> sums{"00", "ff"};
  const auto got = decode_checksums(encode_checksums(sums), 2);
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST(*got == sums, boost::test_tools::per_element());
  BOOST_TEST(refused(decode_checksums(encode_checksums(sums), 1), "one for each"));
  BOOST_TEST(refused(decode_checksums(encode_checksums(sums), 3), "one for each"));
  const auto none = decode_checksums(encode_checksums({}), 2);  // nothing is to be compared
  BOOST_REQUIRE(none.has_value());
  BOOST_TEST(none->empty());
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
