// SPDX-License-Identifier: Apache-2.0

#include "migrate/channel.hpp"

#include <algorithm>
#include <utility>

namespace tidemark::migrate {

using ring::task;

namespace {

error refusal_in(const frame& received) {
  const auto said = decode_object(received.body);
  const auto reason = said ? text_in(*said, "reason") : said.error();
  return make_error(operation::migrate, errc::protocol, {},
                    "the peer refused: " + (reason ? *reason : std::string("no reason given")));
}

}  // namespace

channel::channel(ring::loop& loop, std::unique_ptr<ring::byte_stream> stream, std::uint64_t bandwidth_bytes_per_s)
    : loop_(loop), stream_(std::move(stream)), bandwidth_bytes_per_s_(bandwidth_bytes_per_s), pace_(loop) {}

task<void> channel::await_turn(std::uint64_t bytes) {
  if (bandwidth_bytes_per_s_ == 0) co_return;
  const auto now = loop_.now();
  if (free_at_ > now) co_await pace_.until(free_at_);
  // What a late timer lost is made good by the next frames, for up to 10 ms: the average keeps to the limit, idle time is
  // not saved up.
  free_at_ = std::max(free_at_, now - std::chrono::milliseconds(10));
  free_at_ += std::chrono::nanoseconds(
      static_cast<std::int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(bandwidth_bytes_per_s_)));
}

task<result<void>> channel::send_frame(frame_type type, std::string body, std::vector<iovec> payload) {
  const auto turn = co_await sending_.lock();
  std::uint64_t payload_bytes = 0;
  for (const auto& part : payload) payload_bytes += part.iov_len;
  co_await await_turn(payload_bytes);
  auto head = make_head(type, sent_frames_++, body, payload_bytes);
  payload.insert(payload.begin(), {iovec{&head, sizeof head}, iovec{body.data(), body.size()}});
  co_return co_await stream_->write(payload);
}

task<result<void>> channel::send(frame_type type, std::string body) { return send_frame(type, std::move(body), {}); }

task<result<void>> channel::send_pages(std::vector<page_run> runs, const std::vector<ram_block>& blocks) {
  for (const auto& part : frames_of(runs))
    if (auto sent = co_await send_frame(frame_type::pages, encode_runs(part), parts_of(part, blocks)); !sent) co_return sent;
  co_return result<void>{};
}

task<result<frame>> channel::receive() {
  frame received;
  iovec head{&received.head, sizeof received.head};
  if (auto read = co_await stream_->read({&head, 1}); !read) co_return read.error();
  if (auto good = check_head(received.head, received_frames_++); !good) co_return good.error();
  received.body.resize(received.head.body_bytes);
  iovec body{received.body.data(), received.body.size()};
  if (!received.body.empty())
    if (auto read = co_await stream_->read({&body, 1}); !read) co_return read.error();
  if (auto good = check_body(received.head, received.body); !good) co_return good.error();
  co_return received;
}

task<result<void>> channel::receive_payload(std::vector<iovec> parts) { co_return co_await stream_->read(parts); }

task<error> channel::why_failed(error seen) {
  if (seen.code != make_error_code(errc::peer_closed)) co_return seen;
  const auto last = co_await receive();
  co_return last && last->head.type == frame_type::refusal ? refusal_in(*last) : seen;
}

task<result<frame>> channel::expect(frame_type type) {
  auto received = co_await receive();
  if (!received || received->head.type == type) co_return received;
  if (received->head.type == frame_type::refusal) co_return refusal_in(*received);
  co_return protocol_error("a " + std::string(name_of(received->head.type)) + " frame came where " +
                           std::string(name_of(type)) + " was due");
}

std::vector<iovec> parts_of(std::span<const page_run> runs, const std::vector<ram_block>& blocks) {
  std::vector<iovec> parts;
  parts.reserve(runs.size() + 2);  // the head and the body go in front
  for (const auto& run : runs)
    parts.push_back({blocks[run.block].host + run.first_page * page_bytes, run.pages * page_bytes});
  return parts;
}

}  // namespace tidemark::migrate
