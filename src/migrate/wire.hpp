// SPDX-License-Identifier: Apache-2.0
//
// What the two sides of a migration say to each other, version 1. A frame is a head of 48 bytes, a body (what is said), and
// for `pages` the payload: the pages themselves, in the order of the body's runs. Numbers are little-endian.
//
//   source                                destination
//   hello {page_bytes, blocks}  ───────►  makes room, or refusal {reason}
//              ◄───────  welcome
//   pages (runs, payload) ...   ───────►  written to its RAM blocks
//   final {pages}               ───────►  all sent; the guest is paused
//              ◄───────  ready            every page is in place
//   go                          ───────►  from here on the source never runs the guest again
//              ◄───────  running
//   checksums {blocks}          ───────►
//              ◄───────  verdict {identical, ...}
//
// Every head carries a sequence number, a checksum of its own and one of the body (XXH3, 64 bits); bodies and payloads have
// bounds. Pages change while they are sent, so what they became is compared at the end, by the checksum of each block.
//
// Pure: bytes in, values out. A frame that breaks a rule is errc::protocol with the reason.

#pragma once

#include <tidemark/dirty_stream.hpp>
#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>

#include <array>
#include <boost/json/object.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark::migrate {

enum class frame_type : std::uint16_t { hello = 1, welcome, refusal, pages, final, ready, go, running, checksums, verdict };

struct frame_head {
  std::uint32_t magic = 0;
  std::uint16_t version = 0;
  frame_type type{};
  std::uint64_t sequence = 0;  ///< from 0, one more for each frame of a direction
  std::uint64_t body_bytes = 0;
  std::uint64_t payload_bytes = 0;  ///< of `pages` only
  std::uint64_t body_checksum = 0;  ///< XXH3 of the body
  std::uint64_t checksum = 0;       ///< XXH3 of the head up to here: no length is believed before it is checked
};
static_assert(sizeof(frame_head) == 48);

inline constexpr std::uint64_t body_bytes_max = 1 << 20;
inline constexpr std::uint64_t payload_bytes_max = 1 << 30;

/// What one `pages` frame may carry.
inline constexpr std::uint64_t frame_pages_max = payload_bytes_max / page_bytes;
inline constexpr std::size_t frame_runs_max = body_bytes_max / (3 * sizeof(std::uint64_t));

struct frame {
  frame_head head;
  std::string body;
};

frame_head make_head(frame_type type, std::uint64_t sequence, std::string_view body, std::uint64_t payload_bytes) noexcept;

/// The head alone: magic, version, checksum, order and bounds, before anything is allocated or awaited for it.
result<void> check_head(const frame_head& head, std::uint64_t sequence_expected);
/// The body that came with a checked head.
result<void> check_body(const frame_head& head, std::string_view body);

std::string encode_runs(std::span<const page_run> runs);
/// The same pages in the same order, as runs for one frame each; a run that is too long goes in parts.
std::vector<std::vector<page_run>> frames_of(std::span<const page_run> runs);
/// Runs that lie inside `blocks` and together are the payload announced.
result<std::vector<page_run>> decode_runs(const frame& from, std::span<const ram_block> blocks);

/// Names are unique.
std::string encode_hello(std::span<const ram_block> blocks);
result<std::vector<block_description>> decode_hello(std::string_view body);

/// A body of one JSON object, and one of its members.
result<boost::json::object> decode_object(std::string_view body);
result<std::uint64_t> number_in(const boost::json::object& from, std::string_view name);
result<std::string> text_in(const boost::json::object& from, std::string_view name);

error protocol_error(std::string why);
std::string_view name_of(frame_type type) noexcept;

}  // namespace tidemark::migrate
