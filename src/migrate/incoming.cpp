// SPDX-License-Identifier: Apache-2.0

#include "migrate/incoming.hpp"

#include <boost/asio/error.hpp>
#include <utility>

#include "ring/deadline.hpp"
#include "ring/executor.hpp"
#include "ring/task.hpp"

namespace tidemark::migrate {

using ring::task;

task<result<frame>> incoming::receive_by(ring::clock::time_point when) {
  bool late = false;
  const ring::resume_on here{loop_.get_executor()};
  auto received = co_await ring::with_deadline(loop_, when, here, channel_.receive(), [&] {
    late = true;
    channel_.close();
  });
  if (late && !received)
    co_return error{boost::asio::error::timed_out, operation::receive, {}, "the peer said nothing in time", {}};
  co_return received;
}

task<result<void>> incoming::take_in(const arrival_room& room) {
  page_unpacker unpacker(room.key, room.blocks);
  for (;;) {
    auto next = co_await channel_.receive();
    if (!next) co_return next.error();
    result<void> taken;
    switch (next->head.type) {
      case frame_type::pages:
        taken = co_await take_pages(*next, unpacker);
        break;
      case frame_type::device:
        taken = co_await take_device(*next, room);
        break;
      case frame_type::final:
        co_return result<void>{};
      case frame_type::refusal:
        co_return refusal_in(*next);
      default:
        co_return protocol_error("a " + std::string(name_of(next->head.type)) + " frame came where pages were due");
    }
    if (!taken) co_return taken;
  }
}

task<result<void>> incoming::take_pages(const frame& came, page_unpacker& into) {
  const auto said = decode_pages(came, into.blocks());
  if (!said) co_return said.error();
  if (came.head.payload_bytes != 0)
    if (auto read = co_await channel_.receive_payload(into.room_for(*said, came.head.payload_bytes)); !read) co_return read;
  if (auto put = into.put(*said, came.head.payload_bytes); !put) co_return put;
  std::uint64_t pages = 0;
  for (const auto& run : said->runs) pages += run.pages;
  received_bytes_ += pages * page_bytes;
  co_return co_await confirm(came, said->head.confirm != 0);
}

task<result<void>> incoming::take_device(const frame& came, const arrival_room& room) {
  const auto said = decode_device(came, room.device_count());
  if (!said) co_return said.error();
  device_bytes_.resize(came.head.payload_bytes);
  if (!device_bytes_.empty()) {
    std::vector<iovec> parts(1, iovec{device_bytes_.data(), device_bytes_.size()});
    if (auto read = co_await channel_.receive_payload(std::move(parts)); !read) co_return read;
  }
  if (XXH3_64bits(device_bytes_.data(), device_bytes_.size()) != said->checksum)
    co_return protocol_error("the checksum of a device's state is wrong");
  const auto file = device_files_.try_emplace(
      said->device, room.devices->file(said->device, {loop_.get_executor(), *room.threads, uring_}));
  if (auto put = co_await file.first->second.write(device_bytes_); !put) co_return put;
  co_return co_await confirm(came, said->confirm != 0);
}

task<result<void>> incoming::confirm(const frame& came, bool asked) {
  if (!asked) co_return result<void>{};
  co_return co_await say_and_listen(frame_type::taken, encode_taken(came.head.sequence));
}

task<result<void>> incoming::say(frame_type type, std::string body) {
  auto sent = co_await channel_.send(type, std::move(body));
  if (!sent) co_return sent.error();
  co_return result<void>{};
}

task<result<void>> incoming::say_and_listen(frame_type type, std::string body) {
  auto said = co_await say(type, std::move(body));
  if (!said && is_broken_connection(said.error())) co_return result<void>{};
  co_return said;
}

}  // namespace tidemark::migrate
