// SPDX-License-Identifier: Apache-2.0

#include "migrate/network_target.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "migrate/checksums.hpp"

namespace tidemark::migrate {

using ring::task;

namespace {

/// Pages of one stretch take the same channel.
constexpr std::uint64_t stretch_pages = (2 << 20) / page_bytes;

/// On the channel's loop.
task<result<void>> exchange_on(outgoing& to, frame_type said, std::string body, frame_type answer, frame* into,
                               std::vector<int> descriptors = {}) {
  if (auto sent = co_await to.say(said, std::move(body)); !sent) co_return sent;
  if (!descriptors.empty())
    if (auto sent = co_await to.wire().send_descriptors(std::move(descriptors)); !sent) co_return sent;
  auto answered = co_await to.expect(answer);
  if (!answered) co_return answered.error();
  if (into) *into = std::move(*answered);
  co_return result<void>{};
}

}  // namespace

network_target::network_target(parts with) : with_(std::move(with)) {}
network_target::~network_target() = default;

task<result<welcome>> network_target::open() {
  cut_ = false;
  broken_.reset();
  co_await end_all();
  for (unsigned channel = 0; channel != channels(); ++channel) links_.push_back(std::make_shared<link>());
  if (auto done = co_await connect(0); !done) co_return done.error();
  hello said{with_.of,       channels(), ++attempts_,   static_cast<std::uint64_t>(with_.recovery_window.count()),
             !takes_pages(), {},         with_.devices, handed_over_};
  for (const auto& block : with_.blocks) said.blocks.push_back({block.name, block.size, -1});
  std::vector<int> descriptors;
  for (const auto& block : with_.blocks)
    if (with_.hand_over) descriptors.push_back(block.memory_file);
  frame answer;
  if (auto done = co_await on_channel(0, exchange_on(at(0), frame_type::hello, encode_hello(said), frame_type::welcome,
                                                     &answer, std::move(descriptors)));
      !done)
    co_return done.error();
  auto answered = decode_welcome(answer.body);
  if (!answered) co_return answered.error();
  for (unsigned channel = 1; channel != channels() && !answered->running; ++channel) {
    if (auto done = co_await connect(channel); !done) co_return done.error();
    auto joined =
        co_await on_channel(channel, at(channel).say(frame_type::join, encode_join({with_.of.id, attempts_, channel})));
    if (!joined) co_return joined.error();
  }
  set_bandwidth(bandwidth_bytes_per_s_);
  co_return *answered;
}

task<result<void>> network_target::connect(unsigned channel) {
  if (cut_) co_return make_error(operation::connect_peer, errc::closed);
  auto& made = *links_[channel];
  auto done = co_await on_channel(channel, connect_on(with_, made, channel));
  made.connected = done.has_value();
  // Who was to be cut when there was nothing to cut is not spoken to.
  if (done && cut_) co_return make_error(operation::connect_peer, errc::closed);
  co_return done;
}

/// On the channel's loop.
task<result<void>> network_target::connect_on(const parts& with, link& to, unsigned channel) {
  auto stream = co_await with.net.connect(channel);
  if (!stream) co_return stream.error();
  to.at = std::make_unique<outgoing>(with.net.loop(channel), std::move(*stream), with.of.key, with.pages);
  ring::start([](link& receiving) -> task<> {
    co_await receiving.at->run();
    receiving.ended = true;
    receiving.gone.notify();
  }(to));
  co_return result<void>{};
}

/// On the channel's loop.
task<void> network_target::end(link& one) {
  one.at->wire().close();
  while (!one.ended || one.has_last_words) co_await one.gone.wait();
}

task<void> network_target::end_all() {
  for (unsigned channel = 0; channel != links_.size(); ++channel) {
    if (!links_[channel]->connected) continue;
    co_await ring::run_on(
        with_.net.loop(channel).get_executor(),
        [](link& one) -> task<bool> {
          co_await end(one);
          co_return true;
        }(*links_[channel]),
        ring::resume_on{with_.executor});
    earlier_wire_bytes_ += at(channel).wire().wire_bytes();
  }
  links_.clear();
}

task<result<void>> network_target::exchange(unsigned channel, frame_type said, std::string body, frame_type answer,
                                            frame* into) {
  auto done = co_await on_channel(channel, exchange_on(at(channel), said, std::move(body), answer, into));
  if (!done) co_return cause(done.error());
  co_return done;
}

task<result<void>> network_target::on_all(std::function<task<result<void>>(unsigned)> work) {
  std::optional<error> failure;
  ring::latch all(channels());
  for (unsigned channel = 0; channel != channels(); ++channel)
    ring::start([](network_target& self, task<result<void>> piece, unsigned on, std::optional<error>& failed,
                   ring::latch& done) -> task<> {
      auto ended = co_await self.on_channel(on, std::move(piece));
      if (!ended && !failed) {
        failed = self.cause(ended.error());
        self.cut(is_broken_connection(*failed) ? nullptr : &*failed);
      }
      done.count_down();
    }(*this, work(channel), channel, failure, all));
  co_await all;
  if (failure) co_return *failure;
  co_return result<void>{};
}

error network_target::cause(error failure) {
  if (broken_ && failure.code == make_error_code(errc::closed)) return *broken_;
  if (!broken_) broken_ = failure;
  return failure;
}

task<void> network_target::begin_round() {
  (void)co_await on_all([this](unsigned channel) -> task<result<void>> {
    at(channel).begin_round();
    co_return result<void>{};
  });
}

std::vector<std::vector<page_run>> network_target::share(std::span<const page_run> runs) const {
  std::vector<std::vector<page_run>> shares(channels());
  if (channels() == 1) {
    shares[0].assign(runs.begin(), runs.end());
    return shares;
  }
  for (auto run : runs)
    while (run.pages != 0) {
      const auto stretch = run.first_page / stretch_pages;
      const auto here = std::min(run.pages, (stretch + 1) * stretch_pages - run.first_page);
      shares[(run.block + stretch) % channels()].push_back({run.block, run.first_page, here});
      run.first_page += here;
      run.pages -= here;
    }
  return shares;
}

task<result<delivery>> network_target::send(std::span<const page_run> runs) {
  auto shares = share(runs);
  std::vector<delivery> delivered(channels());
  auto done = co_await on_all([this, &shares, &delivered](unsigned channel) -> task<result<void>> {
    if (shares[channel].empty()) co_return result<void>{};
    auto sent = co_await at(channel).send_pages(std::move(shares[channel]), with_.blocks);
    if (!sent) co_return sent.error();
    delivered[channel] = *sent;
    co_return result<void>{};
  });
  if (!done) co_return done.error();
  delivery all;
  for (const auto& each : delivered) {
    all.zero_pages += each.zero_pages;
    all.repeated_pages += each.repeated_pages;
  }
  co_return all;
}

task<result<std::uint64_t>> network_target::send_device(unsigned device, const device_states& of) {
  const auto channel = device % channels();
  const state_place place{with_.net.loop(channel).get_executor(), with_.threads, with_.net.uring(channel)};
  auto sent = co_await on_channel(channel, at(channel).send_device(device, of.file(device, place)));
  if (!sent) co_return cause(sent.error());
  co_return sent;
}

task<result<void>> network_target::touch() {
  auto done = co_await on_channel(0, at(0).touch());
  if (!done) co_return cause(done.error());
  co_return done;
}

task<result<void>> network_target::finish() {
  auto said = co_await on_all([this](unsigned channel) { return at(channel).say(frame_type::final); });
  if (!said) co_return said;
  auto ready = co_await on_channel(0, at(0).expect(frame_type::ready));
  if (!ready) co_return cause(ready.error());
  co_return result<void>{};
}

task<result<void>> network_target::hand_over() {
  handed_over_ = true;
  co_return co_await exchange(0, frame_type::go, {}, frame_type::running, nullptr);
}

task<result<std::string>> network_target::compare(std::vector<std::string> sums) {
  frame answer;
  auto done = co_await exchange(0, frame_type::checksums, encode_checksums(sums), frame_type::verdict, &answer);
  if (!done) co_return done.error();
  const auto said = decode_object(answer.body);
  if (!said) co_return said.error();
  co_return text_in(*said, "differing");
}

task<void> network_target::leave(const error* why) {
  if (why && !cut_) cut(why);
  co_await end_all();
}

/// On the channel's loop.
task<> network_target::refuse(shared_link one, error why) {
  if (one->ended || std::exchange(one->has_last_words, true)) co_return;
  co_await one->at->refuse(std::move(why));
  one->has_last_words = false;
  one->gone.notify();
}

// It is told on each channel, for it may see first that another one was closed.
void network_target::cut(const error* why) noexcept {
  cut_ = true;
  const auto words = why ? std::optional(*why) : std::nullopt;
  for (unsigned channel = 0; channel != links_.size(); ++channel)
    boost::asio::post(with_.net.loop(channel).get_executor(), [one = links_[channel], words, channel, &net = with_.net] {
      net.cut(channel);
      if (!one->at) return;
      if (words) {
        ring::start(refuse(one, *words));
      } else {
        one->at->wire().close();
      }
    });
}

void network_target::set_bandwidth(std::uint64_t bytes_per_s) noexcept {
  bandwidth_bytes_per_s_ = bytes_per_s;
  const auto each = bytes_per_s == 0 ? 0 : std::max<std::uint64_t>(bytes_per_s / channels(), 1);
  for (const auto& one : links_)
    if (one->connected) one->at->wire().set_bandwidth(each);
}

std::uint64_t network_target::wire_bytes() const noexcept {
  auto all = earlier_wire_bytes_;
  for (const auto& one : links_)
    if (one->connected) all += one->at->wire().wire_bytes();
  return all;
}

}  // namespace tidemark::migrate
