// SPDX-License-Identifier: Apache-2.0

#include "migrate/destination.hpp"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "migrate/checksums.hpp"
#include "migrate/guest_calls.hpp"
#include "ring/offload.hpp"
#include "ring/sleep.hpp"

namespace tidemark::migrate {

namespace json = boost::json;
using ring::task;
using namespace std::chrono_literals;

namespace {

constexpr auto first_words_within = 10s;
constexpr auto window_max = std::chrono::milliseconds(1h);
constexpr std::size_t connections_max = 4 * std::size_t{channels_max};  ///< and farewells, of two attempts

bool fits(const std::vector<ram_block>& room, const std::vector<block_description>& wanted) {
  return std::equal(room.begin(), room.end(), wanted.begin(), wanted.end(),
                    [](const ram_block& a, const block_description& b) { return a.size == b.size; });
}

bool same_session(const hello& a, const hello& b) {
  return a.of == b.of && a.channels == b.channels && a.devices == b.devices &&
         std::equal(a.blocks.begin(), a.blocks.end(), b.blocks.begin(), b.blocks.end(),
                    [](const auto& x, const auto& y) { return x.name == y.name && x.size == y.size; });
}

/// On the connection's loop. `why` outlives it.
task<bool> close_on(const std::shared_ptr<incoming>& dropped, const error* why) {
  if (why) co_await dropped->wire().refuse(*why);
  dropped->wire().close();
  co_return true;
}

}  // namespace

destination::destination(parts with) : with_(std::move(with)) {}

task<result<std::uint64_t>> destination::run() {
  ring::start(accept_all());
  while (!outcome_) co_await changed_.wait();
  with_.from.close();
  drop_connections(last_words());
  while (serving_ != 0) co_await changed_.wait();
  if (std::exchange(devices_load_, false)) (void)co_await with_.devices->give_up();
  if (*outcome_ || running_) co_return *outcome_;
  auto why = outcome_->error();
  if (why.undone.empty()) why.undone = "the guest does not run here";
  co_return why;
}

std::optional<error> destination::last_words() const {
  if (!outcome_ || *outcome_ || running_) return std::nullopt;
  return outcome_->error();
}

void destination::cancel() {
  if (running_) return;
  end(error{boost::asio::error::operation_aborted, operation::migrate, {}, "the migration was cancelled", {}});
}

void destination::end(result<std::uint64_t> outcome) {
  if (!outcome_) outcome_ = std::move(outcome);
  changed_.notify();
}

/// What is under way on them fails. The source hears `why` on each of them, whichever it listens to.
void destination::drop_connections(const std::optional<error>& why) {
  for (const auto& one : std::exchange(connected_, {})) ring::start(drop(one, why));
}

task<void> destination::drop(connection one, std::optional<error> why) {
  ++serving_;
  auto leaving = close_on(one, why ? &*why : nullptr);
  co_await on(one, std::move(leaving));
  --serving_;
  changed_.notify();
}

task<void> destination::accept_all() {
  ++serving_;
  while (!outcome_) {
    auto came = co_await with_.from.next();
    if (!came) {
      if (came.error().code != make_error_code(errc::closed)) end(came.error());
      break;
    }
    if (serving_ > connections_max) continue;
    ring::start(serve(std::make_shared<incoming>(std::move(*came))));
  }
  --serving_;
  changed_.notify();
}

task<void> destination::serve(connection from) {
  ++serving_;
  connected_.push_back(from);
  auto first = co_await on(from, from->receive_by(with_.clock.now() + first_words_within));
  if (!first) {
    co_await refuse_stranger(from, first.error());
  } else if (outcome_) {
    auto why = make_error(operation::receive, errc::closed);
    if (outcome_->has_error()) why = outcome_->error();
    co_await refuse_stranger(from, std::move(why));
  } else if (first->head.type == frame_type::hello) {
    co_await greet(from, *first);
  } else if (first->head.type == frame_type::join) {
    co_await serve_data(from, *first);
  } else if (first->head.type == frame_type::refusal) {
    co_await refuse_stranger(from, refusal_in(*first));
  } else {
    co_await refuse_stranger(
        from, protocol_error("a " + std::string(name_of(first->head.type)) + " frame came where hello was due"));
  }
  if (std::erase(connected_, from) != 0) {
    auto leaving = drop(from, last_words());
    co_await std::move(leaving);
  }
  --serving_;
  changed_.notify();
}

task<void> destination::refuse_stranger(const connection& from, error why) {
  if (!outcome_) with_.stranger(why);
  std::erase(connected_, from);
  std::optional<error> told;
  if (!is_broken_connection(why)) told = std::move(why);  // a line that failed is no reason to give up
  auto leaving = drop(from, std::move(told));
  co_await std::move(leaving);
}

task<void> destination::greet(connection from, const frame& first) {
  const auto said = decode_hello(first.body);
  if (!said) {
    co_await refuse_stranger(from, said.error());
    co_return;
  }
  if (session_ && !same_session(*session_, *said)) {
    co_await refuse_stranger(from, kernel_error(operation::migrate, EBUSY, {}, "another migration is under way here"));
    co_return;
  }
  bool resumed = false;
  auto begun = co_await begin(from, *said, resumed);
  if (!begun && !session_) end(begun.error());
  if (outcome_) co_return;  // which the source hears as it is left: it is no stranger
  if (!begun) {
    co_await refuse_stranger(from, begun.error());
    co_return;
  }
  co_await serve_control(from, said->attempt, resumed);
}

/// A new session, or a new attempt at the one there is: then whoever writes for the last one has to be gone first.
task<result<void>> destination::begin(const connection& from, const hello& said, bool& resumed) {
  if (!session_) {
    if (auto made = co_await make_room(from, said); !made) co_return made;
    session_ = said;
  } else if (said.attempt <= attempt_) {
    co_return protocol_error("this attempt of the migration is over");
  } else {
    resumed = true;
  }
  attempt_ = said.attempt;
  finals_ = 0;
  joined_.assign(said.channels, false);
  joined_[0] = true;
  std::erase(connected_, from);
  drop_connections(std::nullopt);
  connected_.push_back(from);
  changed_.notify();
  while (taking_in_ != 0 || devices_change_) co_await changed_.wait();
  if (attempt_ != said.attempt) co_return protocol_error("this attempt of the migration is over");
  auto changing = start_devices(resumed, said.handed_over);
  auto started = co_await change_devices(std::move(changing));
  if (!started && attempt_ == said.attempt) end(started.error());
  co_return started;
}

task<result<void>> destination::make_room(const connection& from, const hello& said) {
  const auto devices = with_.devices ? with_.devices->size() : 0;
  if (said.devices.size() != devices)
    co_return make_error(operation::migrate, errc::not_migratable, {},
                         "the source's guest has " + std::to_string(said.devices.size()) + " devices, the one here has " +
                             std::to_string(devices));
  auto wanted = said.blocks;
  std::vector<ring::descriptor> files;
  if (said.descriptors) {
    auto came = co_await on(from, from->wire().receive_descriptors(wanted.size()));
    if (!came) co_return came.error();
    files = std::move(*came);
    for (std::size_t i = 0; i != files.size(); ++i) wanted[i].memory_file = files[i].get();
  }
  auto room = with_.make_room(wanted);
  if (!room) co_return room.error();
  if (!fits(*room, wanted))
    co_return make_error(operation::migrate, errc::region_unknown, {},
                         "the room made is not one block of the same size for each of the source's");
  room_ = std::make_shared<arrival_room>(arrival_room{said.of.key, std::move(*room), with_.devices, &with_.threads});
  co_return result<void>{};
}

/// What came of their states in an attempt that broke is of no use, unless it was all: a source that said `go` has read its
/// devices to their ends, and can not say it again.
task<result<void>> destination::start_devices(bool again, bool handed_over) {
  if (running_) co_return result<void>{};
  if (again && handed_over && in_place_) co_return result<void>{};
  if (again && handed_over) co_return protocol_error("the guest was handed over, but not all of it is here");
  in_place_ = false;
  if (!with_.devices) co_return result<void>{};
  if (again)
    if (auto reset = co_await with_.devices->give_up(); !reset) co_return reset;
  devices_load_ = true;
  co_return co_await with_.devices->start_resuming();
}

/// One change at a time: an attempt that begins waits for that of the one before.
task<result<void>> destination::change_devices(task<result<void>> change) {
  devices_change_ = true;
  auto changed = co_await std::move(change);
  devices_change_ = false;
  changed_.notify();
  co_return changed;
}

task<void> destination::serve_control(connection from, std::uint64_t attempt, bool resumed) {
  while (resuming_) co_await changed_.wait();  // whether it runs here is known then
  if (attempt != attempt_ || outcome_) co_return;
  auto done = co_await on(from, from->say_and_listen(frame_type::welcome, encode_welcome({resumed, running_})));
  if (done && !running_) {
    done = co_await take_in(from);
    if (done) done = co_await finish(from, attempt);
  }
  if (done) done = co_await compare(from);
  if (done) {
    end(received_bytes_);
  } else {
    co_await lost(attempt, done.error());
  }
}

task<void> destination::serve_data(connection from, const frame& first) {
  const auto said = decode_join(first.body);
  const bool known = said && session_ && said->id == session_->of.id && said->attempt == attempt_ && !running_ &&
                     said->channel < session_->channels && !joined_[said->channel];
  if (!known) {
    auto why = protocol_error("this channel belongs to no migration that is under way here");
    if (!said) why = said.error();
    co_await refuse_stranger(from, std::move(why));
    co_return;
  }
  joined_[said->channel] = true;
  auto done = co_await take_in(from);
  if (!done) {
    co_await lost(said->attempt, done.error());
    co_return;
  }
  // The source may still have to be told why another channel failed; it closes this one.
  while (attempt_ == said->attempt && !outcome_ && !running_) co_await changed_.wait();
}

task<result<void>> destination::take_in(const connection& from) {
  ++taking_in_;
  const auto attempt = attempt_;
  auto done = co_await on(from, from->take_in(*room_));
  received_bytes_ += from->received_bytes();
  --taking_in_;
  if (done && attempt == attempt_) ++finals_;
  changed_.notify();
  co_return done;
}

/// A channel may join behind the last word of another, but not never.
task<result<void>> destination::all_joined(std::uint64_t attempt) {
  const auto until = with_.clock.now() + first_words_within;
  while (std::find(joined_.begin(), joined_.end(), false) != joined_.end() && attempt == attempt_ && !outcome_) {
    if (with_.clock.now() >= until) co_return protocol_error("not every channel that was announced has come");
    co_await ring::sleep(with_.clock, 20ms, {with_.executor});
  }
  co_return result<void>{};
}

/// All has come on this channel: waits for the others, then takes the guest over.
task<result<void>> destination::finish(const connection& control, std::uint64_t attempt) {
  if (auto joined = co_await all_joined(attempt); !joined) co_return joined;
  while (finals_ != session_->channels && attempt == attempt_ && !outcome_) co_await changed_.wait();
  if (attempt != attempt_ || outcome_) co_return make_error(operation::receive, errc::closed);
  if (with_.devices && !in_place_) {
    auto loading = with_.devices->load();
    if (auto loaded = co_await change_devices(std::move(loading)); !loaded) co_return loaded;
    if (attempt != attempt_ || outcome_) co_return make_error(operation::receive, errc::closed);
  }
  in_place_ = true;
  if (auto sent = co_await on(control, control->say_and_listen(frame_type::ready)); !sent) co_return sent;
  auto go = co_await on(control, control->wire().expect(frame_type::go));
  if (!go) co_return go.error();
  if (attempt != attempt_ || outcome_) co_return make_error(operation::receive, errc::closed);
  running_ = resuming_ = true;  // from here on nobody is told otherwise
  auto runs = co_await run_guest();
  resuming_ = false;
  if (!runs) {
    running_ = false;
    end(runs.error());
    co_return runs;
  }
  changed_.notify();
  co_return co_await on(control, control->say_and_listen(frame_type::running));
}

task<result<void>> destination::run_guest() {
  if (with_.devices) {
    if (auto run = co_await with_.devices->finish(); !run) co_return run;
    devices_load_ = false;
  }
  co_return co_await resume_guest(with_.vm, {with_.executor});
}

task<result<void>> destination::compare(const connection& control) {
  auto asked = co_await on(control, control->wire().expect(frame_type::checksums));
  if (!asked) co_return asked.error();
  const auto theirs = decode_checksums(asked->body, room_->blocks.size());
  if (!theirs) co_return theirs.error();
  std::vector<std::string> ours;
  if (!theirs->empty())
    ours = co_await ring::offload(with_.threads, with_.executor, [this] { return checksums_of(room_->blocks); });
  json::object verdict;
  const auto names = differing(*theirs, ours);
  verdict["differing"] = names;
  if (!names.empty()) differs_ = make_error(operation::migrate, errc::not_identical, {}, "RAM blocks that differ: " + names);
  auto sent = co_await on(control, control->say(frame_type::verdict, json::serialize(verdict)));
  if (!sent && !theirs->empty()) co_return sent;  // it will ask again
  if (differs_) co_return *differs_;
  co_return result<void>{};
}

std::string destination::differing(const std::vector<std::string>& theirs, const std::vector<std::string>& ours) const {
  std::string names;
  for (std::size_t i = 0; i != theirs.size(); ++i)
    if (ours[i] != theirs[i]) names += (names.empty() ? "" : ", ") + room_->blocks[i].name;
  return names;
}

/// A connection of an attempt that is over says nothing new.
task<void> destination::lost(std::uint64_t attempt, error why) {
  if (attempt != attempt_ || outcome_) co_return;
  const bool broken = is_broken_connection(why) || why.code == make_error_code(errc::closed);
  if (!broken) {
    if (running_) why.undone = "the guest runs here";
    end(std::move(why));
    co_return;
  }
  drop_connections(std::nullopt);  // this one, too: the source may not have seen yet that it is broken
  co_await wait_for_source(attempt, std::move(why));
}

/// One wait an attempt, however many of its connections broke.
task<void> destination::wait_for_source(std::uint64_t attempt, error why) {
  if (std::exchange(waited_for_, attempt) == attempt) co_return;
  const auto said_ms = std::min<std::uint64_t>(session_->recovery_window_ms, window_max.count());
  const auto window = std::chrono::milliseconds(static_cast<std::int64_t>(said_ms));
  const auto until = with_.clock.now() + window;
  const auto waits = [&] { return attempt == attempt_ && !outcome_; };
  while (waits() && with_.clock.now() < until) co_await ring::sleep(with_.clock, 20ms, {with_.executor});
  if (!waits()) co_return;
  if (running_ && differs_) {
    end(*differs_);
  } else if (running_) {
    end(received_bytes_);
  } else {
    end(std::move(why));
  }
}

}  // namespace tidemark::migrate
