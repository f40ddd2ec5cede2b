// SPDX-License-Identifier: Apache-2.0

#include "simulation/story.hpp"

#include <boost/asio/error.hpp>
#include <cstring>
#include <optional>

#include "migrate/destination.hpp"
#include "migrate/network_target.hpp"
#include "migrate/source.hpp"
#include "simulation/kernels.hpp"
#include "simulation/machine.hpp"
#include "simulation/simulated_network.hpp"

namespace tidemark::simulation {

namespace {

using ring::task;

/// Where the guest may be taken over: memory as the source describes it.
class place final : public guest {
 public:
  explicit place(any_io_executor executor) : executor_(std::move(executor)) {}

  void start_pause(completion<void>) override {}  // never called; a story in which it is hangs
  void start_resume(completion<void> done) override {
    running_ = true;
    boost::asio::post(executor_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
  }
  bool running() const noexcept { return running_; }
  bool is_empty() const noexcept { return memory_.empty(); }

  std::vector<ram_block> make_room(const std::vector<block_description>& wanted) {
    std::vector<ram_block> blocks;
    for (const auto& block : wanted) {
      const auto& bytes = memory_.emplace_back(block.size).bytes();
      blocks.push_back({block.name, bytes.data(), bytes.size()});
    }
    return blocks;
  }

  bool same_memory(const std::vector<ram_block>& blocks) const {
    if (blocks.size() != memory_.size()) return false;
    for (std::size_t i = 0; i < blocks.size(); ++i)
      if (std::memcmp(blocks[i].host, memory_[i].bytes().data(), blocks[i].size) != 0) return false;
    return true;
  }

 private:
  any_io_executor executor_;
  std::vector<memory> memory_;
  bool running_ = false;
};

struct attempt {
  result<migration_summary> source = make_error(operation::migrate, errc::closed);
  result<std::uint64_t> destination = make_error(operation::migrate, errc::closed);
  bool source_ended = false;
  bool destination_ended = false;
  bool destination_runs = false;
  bool same_memory = false;
  std::uint64_t pages_written = 0;  ///< by the source's guest meanwhile
};

struct chosen {
  simulated_network::shape wire;
  migration_options options;
  std::optional<std::chrono::nanoseconds> cancelled_after;
};

std::vector<simulated_network::cut> choose_cuts(chance& luck) {
  std::vector<simulated_network::cut> cuts(luck.below(8));
  for (auto& each : cuts) {
    if (luck.one_in(3)) each.forth = 1 + luck.below(luck.one_in(3) ? 2'000 : 2'000'000);
    if (luck.one_in(6)) each.back = 1 + luck.below(1'500);
  }
  return cuts;
}

chosen choose(chance& luck, bool may_break) {
  chosen how;
  how.wire.channels = 1 + static_cast<unsigned>(luck.below(4));
  how.options.bandwidth_bytes_per_s = luck.one_in(2) ? 0 : 20'000'000 + luck.below(1'000'000'000);
  how.options.downtime_target = std::chrono::milliseconds(1 + luck.below(20));
  how.options.rounds_max = static_cast<std::uint32_t>(1 + luck.below(12));
  how.options.pages = static_cast<compression>(luck.below(4));
  how.options.recovery_window = std::chrono::milliseconds(luck.one_in(2) ? 0 : 20 + luck.below(60));
  how.options.compare = true;
  if (!may_break) return how;
  how.wire.cuts = choose_cuts(luck);
  if (luck.one_in(8)) how.cancelled_after = luck.one_in(4) ? 0ns : luck.within(10ms);
  return how;
}

migrate::session a_session(chance& luck) {
  migrate::session made;
  for (auto& byte : made.id) byte = static_cast<std::byte>(luck.below(256));
  for (auto& byte : made.key) byte = static_cast<std::byte>(luck.below(256));
  return made;
}

class story {
 public:
  story(ring::loop& loop, std::uint64_t seed, const replacements& with)
      : loop_(loop), luck_(seed), with_(with), threads_(loop, luck_), watched_(model_, luck_) {
    if (with.kernel) replaced_kernel_ = with.kernel(watched_);
  }

  task<void> run() {
    {
      kernel::files& calls = replaced_kernel_ ? *replaced_kernel_ : static_cast<kernel::files&>(watched_);
      machine from(loop_, luck_, threads_, {calls, model_}, with_.cpu_source);
      co_await from.power_on();
      co_await migrate(from);
      co_await from.power_off();
      check_rest(from);
    }
    promise(model_.open_descriptors() == 0, "a descriptor outlives the machine");
    promise(model_.mapping_count() == 0, "a mapping outlives the machine");
    luck_.note(static_cast<std::uint64_t>(loop_.now().time_since_epoch().count()));
    ended_ = true;
  }

  bool ended() const noexcept { return ended_; }
  ending take() {
    end_.trace = luck_.trace();
    return std::move(end_);
  }

 private:
  task<void> migrate(machine& from) {
    auto outcome = co_await migrate_once(from, true);
    check(outcome, from);
    if (outcome.source || !from.running()) {
      end_.what = outcome.source ? ending::kind::good : ending::kind::undecided;
      co_return;
    }
    end_.what = ending::kind::failed_then_good;
    outcome = co_await migrate_once(from, false);
    check(outcome, from);
    promise(outcome.source.has_value(), "a migration fails though nothing broke");
  }

  /// One migration of `from`; the connection may be cut.
  task<attempt> migrate_once(machine& from, bool may_break) {
    auto how = choose(luck_, may_break);
    if (with_.destination_stream)
      how.wire.at_destination = [this](auto below, std::size_t) { return with_.destination_stream(std::move(below)); };
    simulated_arrivals listening(loop_);
    simulated_network net(loop_, luck_, listening, how.wire);
    const any_io_executor executor = loop_.get_executor();
    place to(executor);
    const auto replaced_guest = with_.source_guest ? with_.source_guest(from, executor) : nullptr;
    guest& vm = replaced_guest ? *replaced_guest : from;
    migrate::destination receiver(
        {executor, loop_, listening, to, threads_, [&](const auto& wanted) { return to.make_room(wanted); }});
    migrate::network_target target(
        {executor, net, from.space().blocks(), {}, a_session(luck_), how.options.pages, how.options.recovery_window});
    migrate::source sender({executor, loop_, target, from.space(), from.stream(), vm, threads_}, how.options, {});

    attempt outcome;
    const auto written_before = from.pages_written();
    ring::latch all(4);
    ring::start(into(receiver.run(), outcome.destination, outcome.destination_ended, all));
    ring::start(into(sender.run(), outcome.source, outcome.source_ended, all));
    ring::start(cancel_after(sender, how.cancelled_after, all));
    ring::start(give_up_waiting(receiver, outcome, all));
    co_await all;
    const bool gave_up =
        outcome.destination.has_error() &&
        outcome.destination.error().code == boost::system::error_code(boost::asio::error::operation_aborted);
    promise(!gave_up || to.is_empty(), "a destination that knows its source waits for ever");
    outcome.destination_runs = to.running();
    outcome.same_memory = to.same_memory(from.space().blocks());
    outcome.pages_written = from.pages_written() - written_before;
    co_return outcome;
  }

  template <class Result>
  static task<> into(task<Result> side, Result& outcome, bool& ended, ring::latch& done) {
    outcome = co_await std::move(side);
    ended = true;
    done.count_down();
  }

  /// At once, later, or not at all; a migration that has ended meanwhile does not mind.
  task<> cancel_after(migrate::source& sender, std::optional<std::chrono::nanoseconds> time, ring::latch& done) {
    ring::timer pause(loop_);
    if (time && *time != 0ns) co_await pause.until(loop_.now() + *time);
    if (time) sender.cancel();
    done.count_down();
  }

  /// A destination that never understood who its source was goes on waiting for it, until somebody ends that.
  task<> give_up_waiting(migrate::destination& receiver, const attempt& outcome, ring::latch& done) {
    ring::timer pause(loop_);
    while (!outcome.source_ended) co_await pause.until(loop_.now() + 1ms);
    for (int more = 0; more != 200 && !outcome.destination_ended; ++more) co_await pause.until(loop_.now() + 1ms);
    if (!outcome.destination_ended) receiver.cancel();
    done.count_down();
  }

  /// The invariants of a migration that ended in whatever way.
  void check(const attempt& outcome, machine& from) {
    luck_.note(outcome.source.has_value() * 4u + outcome.destination.has_value() * 2u + outcome.destination_runs);
    promise(!(from.running() && outcome.destination_runs), "both sides run");
    promise(watched_.tracking_files() == 0, "tracking is on after the migration");
    promise(from.stream().dirty_pages() == 0, "the stream holds pages after the migration");
    promise(from.memory_is_what_was_written(), "the source's memory is not what its guest wrote");
    if (outcome.destination_runs) promise(outcome.same_memory, "the destination runs with other memory");
    if (outcome.source) {
      promise(outcome.destination_runs, "a good migration, and the destination does not run");
      promise(outcome.source->compared, "not compared");
      check_sent(outcome, from);
    } else if (outcome.source.error().code == make_error_code(errc::undecided)) {
      promise(!from.running(), "undecided, and the source runs");
    } else if (!outcome.destination_runs) {
      promise(from.running(), "a failed migration, and nobody runs");
    }
  }

  void check_sent(const attempt& outcome, const machine& from) {
    const auto& done = *outcome.source;
    const auto sent = done.sent_bytes / page_bytes;
    luck_.note(sent);
    end_.recoveries += done.recoveries;
    // What came is sent again where a connection broke before the answer.
    promise(outcome.destination && *outcome.destination >= done.sent_bytes, "what was sent did not come");
    if (done.recoveries == 0) promise(*outcome.destination == done.sent_bytes, "what was sent is not what came");
    promise(sent >= from.pages(), "not every page was sent");
    promise(sent <= (done.rounds + done.recoveries + 1) * from.pages(), "a page was sent twice in a round");
    promise(sent <= from.pages() + outcome.pages_written, "pages were sent again that nobody wrote");
  }

  void check_rest(const machine& from) {
    promise(from.mappings_agree(), "the kernel's mappings are not the address space's regions");
    promise(from.regions_agree(), "the regions are not what the events' answers said");
    promise(from.memory_is_what_was_written(), "the source's memory is not what its guest wrote");
    promise(from.steps() > 0, "the machine did nothing");
  }

  void promise(bool kept, const char* what) {
    if (!kept) end_.broken.emplace_back(what);
  }

  ring::loop& loop_;
  chance luck_;
  const replacements& with_;
  turn_workers threads_;
  kernel::model model_{groups_apart(luck_.one_in(2))};
  watched_kernel watched_;
  std::unique_ptr<kernel::files> replaced_kernel_;
  ending end_;
  bool ended_ = false;
};

}  // namespace

ending tell(std::uint64_t seed, const replacements& with, std::uint64_t turns_max) {
  tests::manual_loop loop;
  story told(loop, seed, with);
  ring::start(told.run());
  for (std::uint64_t turns = 0; !told.ended() && turns < turns_max; ++turns)
    if (!loop.run_next()) break;
  const bool hangs = !told.ended();
  if (!hangs) loop.run();
  auto end = told.take();
  if (hangs) end.broken.emplace_back("the story hangs");
  return end;
}

}  // namespace tidemark::simulation
