// SPDX-License-Identifier: Apache-2.0

#include "migrate/channel.hpp"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <chrono>
#include <utility>

#include "ring/deadline.hpp"

namespace tidemark::migrate {

using ring::task;

error refusal_in(const frame& received) {
  const auto said = decode_object(received.body);
  const auto reason = said ? text_in(*said, "reason") : said.error();
  return make_error(operation::migrate, errc::protocol, {},
                    "the peer refused: " + (reason ? *reason : std::string("no reason given")));
}

std::string encode_refusal(const error& why) {
  return boost::json::serialize(boost::json::object{{"reason", why.message()}});
}

bool is_broken_connection(const error& failure) noexcept {
  if (failure.what == operation::write_snapshot) return false;  // a file that is not there is nobody to wait for
  if (failure.code == make_error_code(errc::peer_closed)) return true;
  if (failure.code.category() != boost::system::system_category()) return false;
  switch (failure.code.value()) {
    case ECONNRESET:
    case ECONNREFUSED:
    case ECONNABORTED:
    case EPIPE:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case ENOENT:  // a UNIX socket's file
      return true;
    default:
      return false;
  }
}

namespace {

constexpr auto last_words_within = std::chrono::seconds(1);
constexpr std::size_t thrown_away_bytes = 1 << 16;

error closed_here(operation what) { return make_error(what, errc::closed, {}, "this side ended the migration"); }

}  // namespace

channel::channel(ring::loop& loop, std::unique_ptr<ring::byte_stream> stream)
    : loop_(loop), stream_(std::move(stream)), limit_(loop) {}

task<result<std::uint64_t>> channel::send(frame_type type, std::string body, std::vector<iovec> payload) {
  const auto turn = co_await sending_.lock();
  if (refused_) co_return closed_here(operation::send);
  std::uint64_t payload_bytes = 0;
  for (const auto& part : payload) payload_bytes += part.iov_len;
  if (payload_bytes != 0) co_await limit_.await_turn(payload_bytes);
  const auto sequence = sent_frames_++;
  auto head = make_head(type, sequence, body, payload_bytes);
  payload.insert(payload.begin(), {iovec{&head, sizeof head}, iovec{body.data(), body.size()}});
  if (auto sent = co_await stream_->write(payload); !sent) co_return sent.error();
  wire_bytes_ += sizeof head + body.size() + payload_bytes;
  co_return sequence;
}

task<result<frame>> channel::receive() {
  const auto turn = co_await receiving_.lock();
  if (refused_) co_return closed_here(operation::receive);
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

task<void> channel::refuse(const error& why) {
  if (std::exchange(refuses_, true)) co_return;
  limit_.lift();  // a frame that waits for its turn would have the words wait, too
  const ring::resume_on here{loop_.get_executor()};
  (void)co_await ring::with_deadline(loop_, loop_.now() + last_words_within, here, say_last(why),
                                     [this] { stream_->close(); });
  stream_->close();
}

task<bool> channel::say_last(const error& why) {
  const auto sent = co_await send(frame_type::refusal, encode_refusal(why));
  if (!sent) co_return false;
  refused_ = true;
  stream_->end_writing();
  const auto turn = co_await receiving_.lock();
  std::vector<std::byte> thrown_away(thrown_away_bytes);
  for (;;) {
    const auto came = co_await stream_->read_some(thrown_away);
    if (!came) co_return true;
  }
}

task<result<void>> channel::receive_payload(std::vector<iovec> parts) {
  const auto turn = co_await receiving_.lock();
  if (refused_) co_return closed_here(operation::receive);
  co_return co_await stream_->read(parts);
}

namespace {

error no_descriptors() {
  return make_error(operation::migrate, errc::protocol, {},
                    "memory is handed over within one host only; use fd:PATH at both sides");
}

}  // namespace

task<result<void>> channel::send_descriptors(std::vector<int> those) {
  auto* stream = dynamic_cast<ring::descriptor_stream*>(stream_.get());
  if (!stream) co_return no_descriptors();
  const auto turn = co_await sending_.lock();
  if (refused_) co_return closed_here(operation::send);
  for (std::span<const int> left = those; !left.empty();) {
    const auto now = left.first(std::min(left.size(), ring::descriptor_stream::descriptors_max));
    left = left.subspan(now.size());
    if (auto sent = co_await stream->send_descriptors(now); !sent) co_return sent;
  }
  co_return result<void>{};
}

task<result<std::vector<ring::descriptor>>> channel::receive_descriptors(std::size_t count) {
  auto* stream = dynamic_cast<ring::descriptor_stream*>(stream_.get());
  if (!stream) co_return no_descriptors();
  const auto turn = co_await receiving_.lock();
  if (refused_) co_return closed_here(operation::receive);
  std::vector<ring::descriptor> all;
  while (all.size() != count) {
    auto some = co_await stream->receive_descriptors(std::min(count - all.size(), ring::descriptor_stream::descriptors_max));
    if (!some) co_return some.error();
    for (auto& one : *some) all.push_back(std::move(one));
  }
  co_return all;
}

task<result<frame>> channel::expect(frame_type type) {
  auto received = co_await receive();
  if (!received || received->head.type == type) co_return received;
  if (received->head.type == frame_type::refusal) co_return refusal_in(*received);
  co_return protocol_error("a " + std::string(name_of(received->head.type)) + " frame came where " +
                           std::string(name_of(type)) + " was due");
}

}  // namespace tidemark::migrate
