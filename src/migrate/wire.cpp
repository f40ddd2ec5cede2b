// SPDX-License-Identifier: Apache-2.0

#include "migrate/wire.hpp"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cstddef>
#include <cstring>
#include <set>

namespace tidemark::migrate {

namespace json = boost::json;

namespace {

static_assert(std::endian::native == std::endian::little,
              "the wire is little-endian, and this code writes numbers as they are");

constexpr std::uint32_t wire_magic = 0x4b524d54;  // "TMRK"
constexpr std::uint16_t wire_version = 1;
constexpr std::size_t blocks_max = 4096;

/// A page_run as it travels.
struct wire_run {
  std::uint64_t block;
  std::uint64_t first_page;
  std::uint64_t pages;
};
static_assert(frame_runs_max * sizeof(wire_run) <= body_bytes_max);

std::uint64_t checksum_of(const frame_head& head) noexcept { return XXH3_64bits(&head, offsetof(frame_head, checksum)); }
std::uint64_t checksum_of(std::string_view body) noexcept { return XXH3_64bits(body.data(), body.size()); }

result<block_description> decode_block(const json::value& from) {
  const auto* object = from.if_object();
  if (!object) return protocol_error("a RAM block is not an object");
  auto name = text_in(*object, "name");
  if (!name) return name.error();
  const auto size = number_in(*object, "size");
  if (!size) return size.error();
  if (*size == 0 || *size % page_bytes != 0) return protocol_error("the size of RAM block " + *name + " is not whole pages");
  return block_description{std::move(*name), *size};
}

}  // namespace

error protocol_error(std::string why) { return make_error(operation::receive, errc::protocol, {}, std::move(why)); }

std::string_view name_of(frame_type type) noexcept {
  constexpr std::array<std::string_view, 11> names{"?",     "hello", "welcome", "refusal",   "pages",  "final",
                                                   "ready", "go",    "running", "checksums", "verdict"};
  const auto index = static_cast<std::size_t>(type);
  return index < names.size() ? names[index] : names[0];
}

frame_head make_head(frame_type type, std::uint64_t sequence, std::string_view body, std::uint64_t payload_bytes) noexcept {
  frame_head head{wire_magic, wire_version, type, sequence, body.size(), payload_bytes, checksum_of(body), 0};
  head.checksum = checksum_of(head);
  return head;
}

result<void> check_head(const frame_head& head, std::uint64_t sequence_expected) {
  if (head.magic != wire_magic) return protocol_error("not a Tidemark migration stream");
  if (head.version != wire_version)
    return protocol_error("the peer speaks version " + std::to_string(head.version) + " of the protocol, this is version " +
                          std::to_string(wire_version));
  if (checksum_of(head) != head.checksum) return protocol_error("the checksum of a frame's head is wrong");
  if (name_of(head.type) == "?")
    return protocol_error("a frame of unknown type " + std::to_string(static_cast<unsigned>(head.type)));
  if (head.sequence != sequence_expected)
    return protocol_error("frame " + std::to_string(head.sequence) + " came where " + std::to_string(sequence_expected) +
                          " was due");
  if (head.body_bytes > body_bytes_max) return protocol_error("a frame's body is over its bound");
  const auto payload_allowed = head.type == frame_type::pages ? payload_bytes_max : 0;
  if (head.payload_bytes > payload_allowed) return protocol_error("a frame's payload is over its bound");
  return {};
}

result<void> check_body(const frame_head& head, std::string_view body) {
  if (checksum_of(body) != head.body_checksum) return protocol_error("the checksum of a frame's body is wrong");
  return {};
}

std::string encode_runs(std::span<const page_run> runs) {
  std::string body(runs.size() * sizeof(wire_run), '\0');
  std::size_t at = 0;
  for (const auto& run : runs) {
    const wire_run out{run.block, run.first_page, run.pages};
    std::memcpy(body.data() + at, &out, sizeof out);
    at += sizeof out;
  }
  return body;
}

std::vector<std::vector<page_run>> frames_of(std::span<const page_run> runs) {
  std::vector<std::vector<page_run>> frames;
  std::uint64_t room = 0;
  for (auto left : runs)
    while (left.pages != 0) {
      if (room == 0 || frames.back().size() == frame_runs_max) {
        frames.emplace_back();
        room = frame_pages_max;
      }
      const auto here = std::min(left.pages, room);
      frames.back().push_back({left.block, left.first_page, here});
      room -= here;
      left.first_page += here;
      left.pages -= here;
    }
  return frames;
}

result<std::vector<page_run>> decode_runs(const frame& from, std::span<const ram_block> blocks) {
  if (from.body.size() % sizeof(wire_run) != 0) return protocol_error("a list of page runs is cut off");
  std::vector<page_run> runs;
  runs.reserve(from.body.size() / sizeof(wire_run));
  std::uint64_t pages = 0;
  for (std::size_t at = 0; at != from.body.size(); at += sizeof(wire_run)) {
    wire_run run;
    std::memcpy(&run, from.body.data() + at, sizeof run);
    if (run.block >= blocks.size()) return protocol_error("pages of an unknown RAM block");
    const auto limit = blocks[run.block].pages();
    if (run.pages == 0 || run.first_page > limit || run.pages > limit - run.first_page)
      return protocol_error("pages outside RAM block " + blocks[run.block].name);
    pages += run.pages;
    if (pages > frame_pages_max) return protocol_error("more pages in a frame than its bound allows");
    runs.push_back({static_cast<block_index>(run.block), run.first_page, run.pages});
  }
  if (pages * page_bytes != from.head.payload_bytes) return protocol_error("a frame's page runs are not its payload");
  return runs;
}

std::string encode_hello(std::span<const ram_block> blocks) {
  json::array list;
  for (const auto& block : blocks) list.push_back(json::object{{"name", block.name}, {"size", block.size}});
  return json::serialize(json::object{{"page_bytes", page_bytes}, {"blocks", std::move(list)}});
}

result<std::vector<block_description>> decode_hello(std::string_view body) {
  const auto object = decode_object(body);
  if (!object) return object.error();
  const auto size = number_in(*object, "page_bytes");
  if (!size) return size.error();
  if (*size != page_bytes) return protocol_error("the source's pages have " + std::to_string(*size) + " bytes");
  const auto* list = object->if_contains("blocks");
  if (!list || !list->is_array()) return protocol_error("hello has no list of RAM blocks");
  if (list->get_array().size() > blocks_max) return protocol_error("hello has too many RAM blocks");
  std::vector<block_description> blocks;
  std::set<std::string> names;
  for (const auto& item : list->get_array()) {
    auto block = decode_block(item);
    if (!block) return block.error();
    if (!names.insert(block->name).second) return protocol_error("two RAM blocks have the name " + block->name);
    blocks.push_back(std::move(*block));
  }
  return blocks;
}

result<json::object> decode_object(std::string_view body) {
  boost::system::error_code failed;
  auto value = json::parse({body.data(), body.size()}, failed);
  if (failed || !value.is_object()) return protocol_error("a frame's body is not a JSON object");
  return std::move(value.get_object());
}

result<std::uint64_t> number_in(const json::object& from, std::string_view name) {
  const auto* value = from.if_contains({name.data(), name.size()});
  boost::system::error_code failed;
  if (value) {
    const auto number = value->to_number<std::uint64_t>(failed);
    if (!failed) return number;
  }
  return protocol_error("a frame lacks the number '" + std::string(name) + "'");
}

result<std::string> text_in(const json::object& from, std::string_view name) {
  const auto* value = from.if_contains({name.data(), name.size()});
  if (!value || !value->is_string()) return protocol_error("a frame lacks the text '" + std::string(name) + "'");
  return std::string(value->get_string());
}

}  // namespace tidemark::migrate
