// SPDX-License-Identifier: Apache-2.0

#include "migrate/outgoing.hpp"

#include <utility>

namespace tidemark::migrate {

using ring::task;

outgoing::outgoing(ring::loop& loop, std::unique_ptr<ring::byte_stream> stream, const page_key& key, compression pages)
    : channel_(loop, std::move(stream)), packer_(key), choice_(pages) {}

task<void> outgoing::run() {
  while (!ended_) {
    auto received = co_await channel_.receive();
    if (!received) {
      end(received.error());
    } else if (received->head.type == frame_type::refusal) {
      end(refusal_in(*received));
    } else if (received->head.type == frame_type::taken) {
      const auto sequence = decode_taken(received->body);
      if (sequence) taken_frames_ = *sequence + 1;
      if (!sequence) end(sequence.error());
    } else {
      said_.push_back(std::move(*received));
    }
    changed_.notify();
  }
  channel_.close();
}

task<void> outgoing::refuse(error why) {
  if (ended_) co_return;
  end(make_error(operation::send, errc::closed));
  changed_.notify();
  co_await channel_.refuse(why);
}

void outgoing::end(error why) {
  if (!ended_) ended_ = std::move(why);
}

/// Whoever sends sees a broken connection first; a peer that refused has said why before.
task<error> outgoing::why(error seen) {
  if (!is_broken_connection(seen)) channel_.close();
  while (!ended_) co_await changed_.wait();
  const bool said_more = is_broken_connection(seen) || seen.code == make_error_code(errc::closed);
  co_return said_more ? *ended_ : seen;
}

task<result<void>> outgoing::until_taken(result<std::uint64_t> sent) {
  if (!sent) co_return co_await why(sent.error());
  while (!ended_ && taken_frames_ <= *sent) co_await changed_.wait();
  if (taken_frames_ > *sent) co_return result<void>{};
  co_return *ended_;
}

task<result<delivery>> outgoing::send_pages(std::vector<page_run> runs, const std::vector<ram_block>& blocks) {
  delivery all;
  result<std::uint64_t> sent = 0;
  {
    const auto turn = co_await packing_.lock();
    while (sent && !runs.empty()) {
      if (ended_) co_return *ended_;
      auto made = packer_.next(runs, blocks);
      all.zero_pages += made.zero_pages;
      all.repeated_pages += made.repeated_pages;
      sent = co_await send_frame(std::move(made), runs.empty());
    }
  }
  if (auto taken = co_await until_taken(std::move(sent)); !taken) co_return taken.error();
  co_return all;
}

task<result<std::uint64_t>> outgoing::send_frame(page_packer::packed_frame&& made, bool last) {
  auto how = made.data.empty() ? packing::none : choice_.next();
  auto payload = made.data;
  const auto began = channel_.loop().now();
  if (how != packing::none) {
    packed_.resize(payload_bytes_max);
    const auto bytes = tool_.pack(how, made.data, std::span(packed_).first(made.data.size() - 1));
    if (bytes != 0) payload = std::span(packed_).first(bytes);
  }
  const auto tried = how;
  if (payload.data() == made.data.data()) how = packing::none;
  const auto packed_at = channel_.loop().now();
  auto body = encode_pages({how, last ? 1U : 0U, made.checksum}, made.runs);
  std::vector<iovec> parts;
  // The stream reads it only.
  if (!payload.empty()) parts.push_back({const_cast<std::byte*>(payload.data()), payload.size()});
  auto sent = co_await channel_.send(frame_type::pages, std::move(body), std::move(parts));
  if (!made.data.empty())
    choice_.note(tried, made.data.size(), payload.size(), packed_at - began, channel_.loop().now() - packed_at);
  co_return sent;
}

task<result<std::uint64_t>> outgoing::send_device(unsigned device, state_file from) {
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(payload_bytes_max);  // of which most devices fill little
  std::uint64_t bytes = 0;
  for (;;) {
    if (ended_) co_return *ended_;
    auto got = co_await from.read(std::span(buffer.get(), payload_bytes_max));
    if (!got) co_return got.error();
    const auto piece = std::span(buffer.get(), got->bytes);
    const bool last = piece.empty();  // an empty one, for its answer
    std::vector<iovec> parts;
    if (!last) parts.push_back({piece.data(), piece.size()});
    const device_head head{device, last ? 1U : 0U, XXH3_64bits(piece.data(), piece.size())};
    auto sent = co_await channel_.send(frame_type::device, encode_device(head), std::move(parts));
    if (sent && !last) {
      bytes += piece.size();
      continue;
    }
    if (auto taken = co_await until_taken(std::move(sent)); !taken) co_return taken.error();
    co_return bytes;
  }
}

task<result<void>> outgoing::touch() {
  auto sent = co_await channel_.send(frame_type::pages, encode_pages({packing::none, 1, XXH3_64bits(nullptr, 0)}, {}));
  co_return co_await until_taken(std::move(sent));
}

task<result<void>> outgoing::say(frame_type type, std::string body) {
  auto sent = co_await channel_.send(type, std::move(body));
  if (!sent) co_return co_await why(sent.error());
  co_return result<void>{};
}

task<result<frame>> outgoing::expect(frame_type type) {
  while (said_.empty() && !ended_) co_await changed_.wait();
  if (said_.empty()) co_return *ended_;
  auto said = std::move(said_.front());
  said_.pop_front();
  if (said.head.type == type) co_return said;
  co_return protocol_error("a " + std::string(name_of(said.head.type)) + " frame came where " + std::string(name_of(type)) +
                           " was due");
}

}  // namespace tidemark::migrate
