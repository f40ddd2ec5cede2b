// SPDX-License-Identifier: Apache-2.0

#include "migrate/wire.hpp"

#include <sys/random.h>
#include <xxhash.h>

#include <bit>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <set>

namespace tidemark::migrate {

namespace json = boost::json;

namespace {

static_assert(std::endian::native == std::endian::little,
              "the wire is little-endian, and this code writes numbers as they are");

constexpr std::uint32_t wire_magic = 0x4b524d54;  // "TMRK"
constexpr std::uint16_t wire_version = 2;
constexpr std::size_t blocks_max = 4096;

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
  return block_description{std::move(*name), *size, -1};
}

result<void> decode_blocks(const json::object& from, std::vector<block_description>& blocks) {
  const auto* list = from.if_contains("blocks");
  if (!list || !list->is_array()) return protocol_error("hello has no list of RAM blocks");
  if (list->get_array().size() > blocks_max) return protocol_error("hello has too many RAM blocks");
  std::set<std::string> names;
  for (const auto& item : list->get_array()) {
    auto block = decode_block(item);
    if (!block) return block.error();
    if (!names.insert(block->name).second) return protocol_error("two RAM blocks have the name " + block->name);
    blocks.push_back(std::move(*block));
  }
  return {};
}

result<void> decode_devices(const json::object& from, std::vector<std::string>& names) {
  const auto* list = from.if_contains("devices");
  if (!list || !list->is_array()) return protocol_error("hello has no list of devices");
  if (list->get_array().size() > devices_max) return protocol_error("hello has too many devices");
  for (const auto& item : list->get_array()) {
    if (!item.is_string()) return protocol_error("a device's name is not text");
    names.emplace_back(item.get_string());
  }
  return {};
}

std::string hexadecimal(std::span<const std::byte> bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const auto byte : bytes) {
    text += digits[std::to_integer<unsigned>(byte) >> 4];
    text += digits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

result<void> bytes_in(const json::object& from, std::string_view name, std::span<std::byte> bytes) {
  const auto text = text_in(from, name);
  if (!text) return text.error();
  bool good = text->size() == 2 * bytes.size();
  for (std::size_t i = 0; good && i != bytes.size(); ++i) {
    std::uint8_t value = 0;
    const auto* digits = text->data() + 2 * i;
    const auto [end, failed] = std::from_chars(digits, digits + 2, value, 16);
    good = failed == std::errc{} && end == digits + 2;
    bytes[i] = std::byte{value};
  }
  if (!good)
    return protocol_error("'" + std::string(name) + "' is not " + std::to_string(bytes.size()) + " bytes in hexadecimal");
  return {};
}

result<void> check_range(std::uint64_t block, std::uint64_t first_page, std::uint64_t pages,
                         std::span<const ram_block> blocks) {
  if (block >= blocks.size()) return protocol_error("pages of an unknown RAM block");
  const auto limit = blocks[block].pages();
  if (pages == 0 || first_page > limit || pages > limit - first_page)
    return protocol_error("pages outside RAM block " + blocks[block].name);
  return {};
}

result<void> check_run(const wire_run& run, std::span<const ram_block> blocks) {
  if (run.kind > page_kind::repeated) return protocol_error("pages of an unknown kind");
  if (auto good = check_range(run.block, run.first_page, run.pages, blocks); !good) return good;
  if (run.kind != page_kind::repeated) return {};
  return check_range(run.from_block, run.from_page, run.pages, blocks);
}

result<void> check_payload(const pages_body& said, std::uint64_t payload_bytes) {
  const auto data_bytes = said.data_pages * page_bytes;
  const bool good = said.head.how == packing::none ? payload_bytes == data_bytes : payload_bytes < data_bytes;
  if (!good) return protocol_error("a frame's page runs are not its payload");
  return {};
}

}  // namespace

error protocol_error(std::string why) { return make_error(operation::receive, errc::protocol, {}, std::move(why)); }

std::string_view name_of(frame_type type) noexcept {
  constexpr std::array<std::string_view, 14> names{"?",     "hello",   "welcome",   "refusal", "join",
                                                   "pages", "device",  "taken",     "final",   "ready",
                                                   "go",    "running", "checksums", "verdict"};
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
  const bool carries = head.type == frame_type::pages || head.type == frame_type::device;
  const auto payload_allowed = carries ? payload_bytes_max : 0;
  if (head.payload_bytes > payload_allowed) return protocol_error("a frame's payload is over its bound");
  return {};
}

result<void> check_body(const frame_head& head, std::string_view body) {
  if (checksum_of(body) != head.body_checksum) return protocol_error("the checksum of a frame's body is wrong");
  return {};
}

std::string encode_pages(const pages_head& head, std::span<const wire_run> runs) {
  std::string body(sizeof head + runs.size_bytes(), '\0');
  std::memcpy(body.data(), &head, sizeof head);
  if (!runs.empty()) std::memcpy(body.data() + sizeof head, runs.data(), runs.size_bytes());
  return body;
}

result<pages_body> decode_pages(const frame& from, std::span<const ram_block> blocks) {
  const auto& body = from.body;
  if (body.size() < sizeof(pages_head) || (body.size() - sizeof(pages_head)) % sizeof(wire_run) != 0)
    return protocol_error("a list of page runs is cut off");
  pages_body said;
  std::memcpy(&said.head, body.data(), sizeof said.head);
  if (said.head.how > packing::zstd)
    return protocol_error("pages packed in an unknown way, " + std::to_string(static_cast<std::uint32_t>(said.head.how)));
  said.runs.resize((body.size() - sizeof(pages_head)) / sizeof(wire_run));
  if (!said.runs.empty())
    std::memcpy(said.runs.data(), body.data() + sizeof(pages_head), said.runs.size() * sizeof(wire_run));
  std::uint64_t summed_pages = 0;
  for (const auto& run : said.runs) {
    if (auto good = check_run(run, blocks); !good) return good.error();
    if (run.kind == page_kind::data) said.data_pages += run.pages;
    if (run.kind != page_kind::zero) summed_pages += run.pages;
    if (said.data_pages > frame_pages_max || summed_pages > frame_runs_max)
      return protocol_error("more pages in a frame than its bound allows");
  }
  if (auto good = check_payload(said, from.head.payload_bytes); !good) return good.error();
  return said;
}

std::string encode_device(const device_head& head) {
  std::string body(sizeof head, '\0');
  std::memcpy(body.data(), &head, sizeof head);
  return body;
}

result<device_head> decode_device(const frame& from, std::size_t devices) {
  device_head said;
  if (from.body.size() != sizeof said) return protocol_error("a device frame's body has the wrong length");
  std::memcpy(&said, from.body.data(), sizeof said);
  if (said.device >= devices) return protocol_error("the state of an unknown device, " + std::to_string(said.device));
  return said;
}

session session::random() {
  session made;
  // The descriptor-free source of the kernel: it answers whole up to 256 bytes once it is seeded.
  if (getrandom(made.id.data(), made.id.size(), 0) != static_cast<ssize_t>(made.id.size()) ||
      getrandom(made.key.data(), made.key.size(), 0) != static_cast<ssize_t>(made.key.size()))
    std::abort();
  return made;
}

std::string encode_hello(const hello& said) {
  json::array blocks;
  for (const auto& block : said.blocks) blocks.push_back(json::object{{"name", block.name}, {"size", block.size}});
  json::array devices;
  for (const auto& name : said.devices) devices.push_back(json::string(name));
  return json::serialize(json::object{{"session", hexadecimal(said.of.id)},
                                      {"key", hexadecimal(said.of.key)},
                                      {"page_bytes", page_bytes},
                                      {"channels", said.channels},
                                      {"attempt", said.attempt},
                                      {"recovery_window_ms", said.recovery_window_ms},
                                      {"descriptors", said.descriptors},
                                      {"handed_over", said.handed_over},
                                      {"blocks", std::move(blocks)},
                                      {"devices", std::move(devices)}});
}

result<hello> decode_hello(std::string_view body) {
  const auto object = decode_object(body);
  if (!object) return object.error();
  const auto size = number_in(*object, "page_bytes");
  if (!size) return size.error();
  if (*size != page_bytes) return protocol_error("the source's pages have " + std::to_string(*size) + " bytes");
  hello said;
  if (auto done = bytes_in(*object, "session", said.of.id); !done) return done.error();
  if (auto done = bytes_in(*object, "key", said.of.key); !done) return done.error();
  const auto channels = number_in(*object, "channels");
  if (!channels) return channels.error();
  if (*channels == 0 || *channels > channels_max)
    return protocol_error(std::to_string(*channels) + " channels; allowed: 1 to " + std::to_string(channels_max));
  said.channels = static_cast<unsigned>(*channels);
  const auto attempt = number_in(*object, "attempt");
  if (!attempt) return attempt.error();
  if (*attempt == 0) return protocol_error("attempts count from 1");
  said.attempt = *attempt;
  const auto window = number_in(*object, "recovery_window_ms");
  if (!window) return window.error();
  said.recovery_window_ms = *window;
  const auto* descriptors = object->if_contains("descriptors");
  if (!descriptors || !descriptors->is_bool()) return protocol_error("hello does not say whether descriptors follow");
  said.descriptors = descriptors->get_bool();
  const auto* handed_over = object->if_contains("handed_over");
  if (!handed_over || !handed_over->is_bool()) return protocol_error("hello does not say whether the guest was handed over");
  said.handed_over = handed_over->get_bool();
  if (auto done = decode_blocks(*object, said.blocks); !done) return done.error();
  if (auto done = decode_devices(*object, said.devices); !done) return done.error();
  return said;
}

std::string encode_join(const join& said) {
  return json::serialize(
      json::object{{"session", hexadecimal(said.id)}, {"attempt", said.attempt}, {"channel", said.channel}});
}

result<join> decode_join(std::string_view body) {
  const auto object = decode_object(body);
  if (!object) return object.error();
  join said;
  if (auto done = bytes_in(*object, "session", said.id); !done) return done.error();
  const auto attempt = number_in(*object, "attempt");
  if (!attempt) return attempt.error();
  said.attempt = *attempt;
  const auto channel = number_in(*object, "channel");
  if (!channel) return channel.error();
  if (*channel == 0 || *channel >= channels_max)
    return protocol_error("no channel has the number " + std::to_string(*channel));
  said.channel = static_cast<unsigned>(*channel);
  return said;
}

std::string encode_welcome(const welcome& said) {
  return json::serialize(json::object{{"resumed", said.resumed}, {"running", said.running}});
}

result<welcome> decode_welcome(std::string_view body) {
  const auto object = decode_object(body);
  if (!object) return object.error();
  const auto* resumed = object->if_contains("resumed");
  const auto* running = object->if_contains("running");
  if (!resumed || !resumed->is_bool() || !running || !running->is_bool())
    return protocol_error("a welcome does not say whether it is resumed and running");
  return welcome{resumed->get_bool(), running->get_bool()};
}

std::string encode_taken(std::uint64_t sequence) {
  std::string body(sizeof sequence, '\0');
  std::memcpy(body.data(), &sequence, sizeof sequence);
  return body;
}

result<std::uint64_t> decode_taken(std::string_view body) {
  std::uint64_t sequence = 0;
  if (body.size() != sizeof sequence) return protocol_error("a taken frame's body has the wrong length");
  std::memcpy(&sequence, body.data(), sizeof sequence);
  return sequence;
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
