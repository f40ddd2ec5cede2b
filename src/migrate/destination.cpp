// SPDX-License-Identifier: Apache-2.0

#include "migrate/destination.hpp"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <utility>

#include "migrate/checksums.hpp"
#include "migrate/guest_calls.hpp"
#include "ring/executor.hpp"
#include "ring/offload.hpp"

namespace tidemark::migrate {

namespace json = boost::json;
using ring::task;

namespace {

bool fits(const std::vector<ram_block>& room, const std::vector<block_description>& wanted) {
  return std::equal(room.begin(), room.end(), wanted.begin(), wanted.end(),
                    [](const ram_block& a, const block_description& b) { return a.size == b.size; });
}

}  // namespace

destination::destination(channel& from, guest& vm, workers& threads, make_room_call make_room)
    : from_(from), vm_(vm), threads_(threads), make_room_(std::move(make_room)), executor_(from.loop().get_executor()) {}

task<result<std::uint64_t>> destination::run() {
  auto done = co_await take_in();
  if (done) co_return received_bytes_;
  auto failure = done.error();
  if (!running_) {
    if (failure.code != make_error_code(errc::peer_closed)) co_await refuse(failure);
    failure.undone = "the guest does not run here";
  }
  from_.close();
  co_return failure;
}

/// Tells the source why, if it still listens; it then goes on running the guest.
task<void> destination::refuse(const error& why) {
  json::object said;
  said["reason"] = why.message();
  (void)co_await from_.send(frame_type::refusal, json::serialize(said));
}

task<result<void>> destination::take_in() {
  if (auto done = co_await greet(); !done) co_return done;
  if (auto done = co_await receive_pages(); !done) co_return done;
  co_return result<void>{};
}

task<result<void>> destination::greet() {
  auto hello = co_await from_.expect(frame_type::hello);
  if (!hello) co_return hello.error();
  auto wanted = decode_hello(hello->body);
  if (!wanted) co_return wanted.error();
  auto room = make_room_(*wanted);
  if (!room) co_return room.error();
  if (!fits(*room, *wanted))
    co_return make_error(operation::migrate, errc::region_unknown, {},
                         "the room made is not one block of the same size for each of the source's");
  blocks_ = std::move(*room);
  co_return co_await from_.send(frame_type::welcome);
}

task<result<void>> destination::receive_pages() {
  for (;;) {
    auto next = co_await from_.receive();
    if (!next) co_return next.error();
    if (next->head.type == frame_type::final) co_return co_await take_over(*next);
    if (next->head.type != frame_type::pages)
      co_return protocol_error("a " + std::string(name_of(next->head.type)) + " frame came where pages were due");
    if (auto written = co_await write_pages(*next); !written) co_return written;
  }
}

task<result<void>> destination::write_pages(const frame& pages) {
  const auto runs = decode_runs(pages, blocks_);
  if (!runs) co_return runs.error();
  received_bytes_ += pages.head.payload_bytes;
  co_return co_await from_.receive_payload(parts_of(*runs, blocks_));
}

task<result<void>> destination::take_over(const frame& final) {
  const auto said = decode_object(final.body);
  const auto pages = said ? number_in(*said, "pages") : said.error();
  if (!pages) co_return pages.error();
  if (*pages != received_bytes_ / page_bytes)
    co_return protocol_error("the source sent " + std::to_string(*pages) + " pages, " +
                             std::to_string(received_bytes_ / page_bytes) + " came");
  if (auto sent = co_await from_.send(frame_type::ready); !sent) co_return sent;
  if (auto go = co_await from_.expect(frame_type::go); !go) co_return go.error();
  if (auto resumed = co_await resume_guest(vm_, {executor_}); !resumed) co_return resumed;
  running_ = true;
  if (auto sent = co_await from_.send(frame_type::running); !sent) co_return sent;
  co_return co_await compare();
}

task<result<void>> destination::compare() {
  auto asked = co_await from_.receive();
  if (!asked && asked.error().code == make_error_code(errc::peer_closed))
    co_return result<void>{};  // a source that does not compare leaves
  if (!asked) co_return asked.error();
  if (asked->head.type != frame_type::checksums)
    co_return protocol_error("a " + std::string(name_of(asked->head.type)) + " frame came where checksums were due");
  const auto theirs = decode_checksums(asked->body, blocks_.size());
  if (!theirs) co_return theirs.error();
  const auto ours = co_await ring::offload(threads_, executor_, [this] { return checksums_of(blocks_); });
  std::string differing;
  for (std::size_t i = 0; i < blocks_.size(); ++i)
    if (ours[i] != (*theirs)[i]) differing += (differing.empty() ? "" : ", ") + blocks_[i].name;
  json::object verdict;
  verdict["differing"] = differing;
  if (auto sent = co_await from_.send(frame_type::verdict, json::serialize(verdict)); !sent) co_return sent;
  if (!differing.empty())
    co_return make_error(operation::migrate, errc::not_identical, {}, "RAM blocks that differ: " + differing);
  co_return result<void>{};
}

}  // namespace tidemark::migrate
