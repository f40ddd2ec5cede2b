// SPDX-License-Identifier: Apache-2.0

#include "simulation/story.hpp"

#include <cstring>
#include <optional>

#include "migrate/destination.hpp"
#include "migrate/source.hpp"
#include "simulation/kernels.hpp"
#include "simulation/machine.hpp"

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
  bool destination_runs = false;
  bool same_memory = false;
  std::uint64_t pages_written = 0;  ///< by the source's guest meanwhile
};

struct chosen {
  connection wire;
  migration_options options;
  bool cancelled = false;
};

chosen choose(ring::loop& loop, chance& luck, bool may_break) {
  const auto forth = may_break && luck.one_in(2) ? 1 + luck.below(6'000'000) : connection::never;
  const auto back = may_break && luck.one_in(4) ? 1 + luck.below(500) : connection::never;
  chosen how{connect(loop, luck, forth, back), {}, false};
  how.options.bandwidth_bytes_per_s = luck.one_in(2) ? 0 : 20'000'000 + luck.below(1'000'000'000);
  how.options.downtime_target = std::chrono::milliseconds(1 + luck.below(20));
  how.options.rounds_max = static_cast<std::uint32_t>(1 + luck.below(12));
  how.options.compare = true;
  how.cancelled = may_break && luck.one_in(8);
  return how;
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
    auto how = choose(loop_, luck_, may_break);
    if (with_.destination_stream) how.wire.destination = with_.destination_stream(std::move(how.wire.destination));
    migrate::channel out(loop_, std::move(how.wire.source), how.options.bandwidth_bytes_per_s);
    migrate::channel in(loop_, std::move(how.wire.destination), 0);
    const any_io_executor executor = loop_.get_executor();
    place to(executor);
    const auto replaced_guest = with_.source_guest ? with_.source_guest(from, executor) : nullptr;
    guest& vm = replaced_guest ? *replaced_guest : from;
    migrate::destination receiver(in, to, threads_, [&](const auto& wanted) { return to.make_room(wanted); });
    migrate::source sender({executor, out, from.space(), from.stream(), vm, threads_}, how.options, {});

    attempt outcome;
    const auto written_before = from.pages_written();
    ring::latch both(2);
    ring::start(into(receiver.run(), outcome.destination, both));
    ring::start(into(sender.run(), outcome.source, both));
    if (how.cancelled) sender.cancel();
    co_await both;
    outcome.destination_runs = to.running();
    outcome.same_memory = to.same_memory(from.space().blocks());
    outcome.pages_written = from.pages_written() - written_before;
    co_return outcome;
  }

  template <class Result>
  static task<> into(task<Result> side, Result& outcome, ring::latch& done) {
    outcome = co_await std::move(side);
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
    promise(outcome.destination && *outcome.destination == done.sent_bytes, "what was sent is not what came");
    promise(sent >= from.pages(), "not every page was sent");
    promise(sent <= (done.rounds + 1) * from.pages(), "a page was sent twice in a round");
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
  for (std::uint64_t turns = 0; !told.ended() && turns < turns_max; ++turns) loop.run_next();
  const bool hangs = !told.ended();
  if (!hangs) loop.run();
  auto end = told.take();
  if (hangs) end.broken.emplace_back("the story hangs");
  return end;
}

}  // namespace tidemark::simulation
