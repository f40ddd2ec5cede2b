// SPDX-License-Identifier: Apache-2.0
//
// What the two sides of a migration say to each other, version 2; docs/wire.md tells it to those who write a peer. A frame
// is a head of 48 bytes, a body (what is said), and for some a payload. Numbers are little-endian.
//
//   source                                  destination
//   hello {session, channels, blocks ...} ►  makes room, or refusal {reason}
//              ◄───────  welcome {resumed, running}
//   join {session, channel}     ───────►    on each other channel, before anything else
//   pages, device ...           ───────►    written to its RAM blocks and devices; on any channel
//              ◄───────  taken {sequence}    where that was asked for: all up to there is in place
//   final                       ───────►    on each channel: all is sent; the guest is paused
//              ◄───────  ready               on channel 0: everything is in place
//   go                          ───────►    from here on the source never runs the guest again
//              ◄───────  running
//   checksums {blocks}          ───────►
//              ◄───────  verdict {differing}
//
// Every head carries a sequence number (of its channel and direction), a checksum of its own and one of the body (XXH3, 64
// bits); bodies and payloads have bounds; payloads have checksums in the body.
//
// Pure: bytes in, values out. A frame that breaks a rule is errc::protocol with the reason.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>
#include <tidemark/page_run.hpp>

#include <array>
#include <boost/json/object.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark::migrate {

enum class frame_type : std::uint16_t {
  hello = 1,
  welcome,
  refusal,
  join,
  pages,
  device,
  taken,
  final,
  ready,
  go,
  running,
  checksums,
  verdict
};

struct frame_head {
  std::uint32_t magic = 0;
  std::uint16_t version = 0;
  frame_type type{};
  std::uint64_t sequence = 0;  ///< from 0, one more for each frame of a direction
  std::uint64_t body_bytes = 0;
  std::uint64_t payload_bytes = 0;  ///< of `pages` and `device` only
  std::uint64_t body_checksum = 0;  ///< XXH3 of the body
  std::uint64_t checksum = 0;       ///< XXH3 of the head up to here: no length is believed before it is checked
};
static_assert(sizeof(frame_head) == 48);

inline constexpr std::uint64_t body_bytes_max = 1 << 20;
inline constexpr std::uint64_t payload_bytes_max = 1 << 20;
inline constexpr unsigned channels_max = 64;
inline constexpr std::size_t devices_max = 256;

struct frame {
  frame_head head;
  std::string body;
};

frame_head make_head(frame_type type, std::uint64_t sequence, std::string_view body, std::uint64_t payload_bytes) noexcept;

/// The head alone: magic, version, checksum, order and bounds, before anything is allocated or awaited for it.
result<void> check_head(const frame_head& head, std::uint64_t sequence_expected);
/// The body that came with a checked head.
result<void> check_body(const frame_head& head, std::string_view body);

// --- pages ---

enum class page_kind : std::uint32_t {
  data = 0,      ///< in the payload, in the order of the runs
  zero = 1,      ///< every byte is 0
  repeated = 2,  ///< the same as other pages that the destination has
};

/// Pages [first_page, first_page + pages) of a block, and where they come from.
struct wire_run {
  std::uint32_t block = 0;
  page_kind kind = page_kind::data;
  std::uint64_t first_page = 0;
  std::uint32_t pages = 0;
  std::uint32_t from_block = 0;  ///< repeated: the first of the others, which came on the same channel in the same round
  std::uint64_t from_page = 0;

  friend bool operator==(const wire_run&, const wire_run&) = default;
};
static_assert(sizeof(wire_run) == 32);

enum class packing : std::uint32_t { none = 0, lz4 = 1, zstd = 2 };

struct pages_head {
  packing how = packing::none;
  std::uint32_t confirm = 0;   ///< 1: answered with `taken`
  std::uint64_t checksum = 0;  ///< XXH3 of the checksums (keyed XXH3, 128 bits) of all pages that are data or repeated, in
                               ///< their order
};
static_assert(sizeof(pages_head) == 16);

/// What one `pages` frame may carry: this many data pages, and this many runs.
inline constexpr std::uint64_t frame_pages_max = payload_bytes_max / page_bytes;
inline constexpr std::size_t frame_runs_max = (body_bytes_max - sizeof(pages_head)) / sizeof(wire_run);

struct pages_body {
  pages_head head;
  std::vector<wire_run> runs;
  std::uint64_t data_pages = 0;
};

std::string encode_pages(const pages_head& head, std::span<const wire_run> runs);
/// Runs that lie inside `blocks`, and whose data is the payload announced.
result<pages_body> decode_pages(const frame& from, std::span<const ram_block> blocks);

// --- devices ---

struct device_head {
  std::uint32_t device = 0;    ///< its place in hello's list
  std::uint32_t confirm = 0;   ///< 1: answered with `taken`
  std::uint64_t checksum = 0;  ///< XXH3 of the payload
};
static_assert(sizeof(device_head) == 16);

std::string encode_device(const device_head& head);
result<device_head> decode_device(const frame& from, std::size_t devices);

// --- what is said ---

/// What makes one migration: its name, under which a broken one is taken up again, and the key of its pages' checksums,
/// without which nobody can make two pages look alike.
struct session {
  std::array<std::byte, 16> id{};
  std::array<std::byte, 192> key{};

  /// From the system's random numbers.
  static session random();
  friend bool operator==(const session&, const session&) = default;
};

struct hello {
  session of;
  unsigned channels = 1;
  std::uint64_t attempt =
      0;  ///< from 1; a session that is taken up again counts on: a join belongs to the hello of its attempt
  std::uint64_t recovery_window_ms = 0;  ///< how long a broken one is waited for
  bool descriptors = false;              ///< the blocks' memory files follow, in their order: no pages come
  std::vector<block_description> blocks;
  std::vector<std::string> devices;  ///< names
  bool handed_over = false;          ///< `go` was said: nothing is sent again, what was in place by `ready` is to be kept
};

std::string encode_hello(const hello& said);
/// Block sizes that are whole pages, no name twice.
result<hello> decode_hello(std::string_view body);

struct join {
  std::array<std::byte, 16> id{};
  std::uint64_t attempt = 0;
  unsigned channel = 0;
};

std::string encode_join(const join& said);
result<join> decode_join(std::string_view body);

struct welcome {
  bool resumed = false;  ///< a session that broke goes on; what had been taken is here
  bool running = false;  ///< the guest runs here already
};

std::string encode_welcome(const welcome& said);
result<welcome> decode_welcome(std::string_view body);

std::string encode_taken(std::uint64_t sequence);
result<std::uint64_t> decode_taken(std::string_view body);

// --- bodies that are JSON objects ---

result<boost::json::object> decode_object(std::string_view body);
result<std::uint64_t> number_in(const boost::json::object& from, std::string_view name);
result<std::string> text_in(const boost::json::object& from, std::string_view name);

std::string_view name_of(frame_type type) noexcept;
error protocol_error(std::string why);

}  // namespace tidemark::migrate
