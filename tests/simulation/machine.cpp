// SPDX-License-Identifier: Apache-2.0

#include "simulation/machine.hpp"

#include <linux/vfio.h>
#include <sys/mman.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <set>

#include "ring/offload.hpp"

namespace tidemark::simulation {

using ring::resume_on;
using ring::task;

kernel::model_options groups_apart(bool log_dma) {
  kernel::model_options options;
  for (auto& group : options.groups) {
    group.shares_container = false;
    group.logs_dma = log_dma;
  }
  return options;
}

memory::memory(std::uint64_t bytes)
    : bytes_(static_cast<std::byte*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
             bytes) {}

memory::~memory() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

machine::machine(ring::loop& loop, chance& luck, turn_workers& threads, kernels on, const log_wrapper& wrap_log)
    : loop_(loop),
      luck_(luck),
      kernel_(on),
      executor_(loop.get_executor()),
      host_(on.calls, threads),
      space_(executor_, host_) {
  const auto blocks = 1 + luck_.below(3);
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const auto& bytes = memory_.emplace_back((1 + luck_.below(120)) * page_bytes).bytes();
    BOOST_REQUIRE(space_.add_block({"ram" + std::to_string(i), bytes.data(), bytes.size()}));
    for (std::size_t at = 0; at < bytes.size(); at += 512) bytes[at] = static_cast<std::byte>(luck_.below(256));
    expected_.emplace_back(bytes.begin(), bytes.end());
  }
  if (luck_.one_in(4)) pace_ = 500;
  log_ = std::make_unique<dirty_log>(space_.blocks());
  if (wrap_log) wrapped_log_ = wrap_log(*log_);
  auto* source = wrapped_log_ ? wrapped_log_.get() : log_.get();
  stream_ = std::make_unique<dirty_stream>(space_, std::vector<cpu_dirty_source*>{source},
                                           dirty_stream_options{.batch_pages_max = 1 + luck_.below(40)});
}

machine::~machine() = default;

task<void> machine::power_on() {
  const auto containers = 1 + luck_.below(2);
  for (unsigned group = 0; group < containers; ++group) {
    const auto path = "/sys/bus/platform/devices/tidemark-test." + std::to_string(group);
    auto attached = co_await space_.async_attach(path, resume_on{executor_});
    BOOST_REQUIRE(attached.has_value());
    devices_.push_back(std::move(*attached));
  }
  running_ = on_ = true;
  ring::start(act(30us * pace_, [this]() -> task<void> {
    cpu_step();
    co_return;
  }));
  ring::start(act(40us * pace_, [this]() -> task<void> {
    device_step();
    co_return;
  }));
  ring::start(act(400us, [this] { return region_step(); }));
}

template <class Step>
task<void> machine::act(std::chrono::nanoseconds longest_pause, Step step) {
  ++actors_;
  ring::timer pause(loop_);
  while (on_) {
    co_await pause.until(loop_.now() + luck_.within(longest_pause));
    if (on_) co_await step();
  }
  --actors_;
}

task<void> machine::power_off() {
  on_ = running_ = false;
  ring::timer pause(loop_);
  while (actors_ != 0) co_await pause.until(loop_.now() + 1ms);
}

void machine::cpu_step() {
  if (!running_) return;
  const auto block = static_cast<block_index>(luck_.below(memory_.size()));
  const auto bytes = memory_[block].bytes();
  const auto at = luck_.below(bytes.size());
  bytes[at] = expected_[block][at] = static_cast<std::byte>(luck_.below(256));
  log_->record(block, at / page_bytes, 1);
  ++cpu_writes_;
  ++pages_written_;
}

/// Rings a doorbell somewhere; where nothing is mapped the device is refused, as hardware would fault.
void machine::device_step() {
  if (!running_) return;
  const auto which = luck_.below(devices_.size());
  const tidemark_test_doorbell bell{luck_.below(slots) * slot_bytes + luck_.below(64 * page_bytes),
                                    8 * (1 + luck_.below(1200)), luck_.below(~0ULL)};
  expect_doorbell(which, bell);
  const auto rung = kernel_.calls.write(devices_[which].file(), &bell, sizeof bell);
  BOOST_REQUIRE(rung == sizeof bell || rung == -EINVAL || rung == -EPERM);
  ++device_writes_;
}

/// What the doorbell will write, found through the kernel's mappings: forward page by page, up to the first it must not
/// write.
void machine::expect_doorbell(std::size_t container, const tidemark_test_doorbell& bell) {
  const auto mappings = kernel_.facts.mappings();
  for (std::uint64_t done = 0; done < bell.length;) {
    const auto at = bell.iova + done;
    const auto holds = [&](const auto& m) { return m.container == container && at >= m.iova && at - m.iova < m.size; };
    const auto mapped = std::find_if(mappings.begin(), mappings.end(), holds);
    if (mapped == mappings.end() || !mapped->writable) return;
    auto* to = expected_at(mapped->vaddr + (at - mapped->iova));
    const auto now = std::min(bell.length - done, page_bytes - at % page_bytes);
    for (std::uint64_t i = 0; i < now; ++i) to[i] = static_cast<std::byte>(bell.value >> (8 * ((done + i) % 8)));
    done += now;
    ++pages_written_;
  }
}

std::byte* machine::expected_at(std::uint64_t host) {
  for (std::size_t block = 0; block < memory_.size(); ++block) {
    const auto begin = reinterpret_cast<std::uintptr_t>(memory_[block].bytes().data());
    if (host >= begin && host - begin < expected_[block].size()) return expected_[block].data() + (host - begin);
  }
  BOOST_FAIL("the kernel maps memory that is not the machine's");
  return nullptr;
}

/// Adds or removes a region; one in three has another event right behind it, not awaited in between.
task<void> machine::region_step() {
  const auto slot = luck_.below(slots);
  const auto block = static_cast<block_index>(luck_.below(memory_.size()));
  const auto block_pages = space_.blocks()[block].pages();
  const auto offset = luck_.below(block_pages);
  const region added{{slot * slot_bytes, (1 + luck_.below(block_pages - offset)) * page_bytes},
                     block,
                     offset * page_bytes,
                     !luck_.one_in(8)};
  const auto before = space_.regions();
  for (const auto& there : before)
    if (there.at.iova == added.at.iova) {
      if (luck_.one_in(3))
        ring::start(remove(there));
      else
        co_await remove(there);
    }
  co_await add(added);
  ++region_changes_;
}

task<void> machine::add(region added) {
  const auto outcome = co_await space_.async_add(added, resume_on{executor_});
  luck_.note(outcome.has_value());
  if (outcome) expected_regions_[added.at.iova] = added;
}

task<void> machine::remove(region there) {
  ++actors_;
  const auto outcome = co_await space_.async_remove(there.at, resume_on{executor_});
  luck_.note(outcome.has_value());
  if (outcome) expected_regions_.erase(there.at.iova);
  --actors_;
}

void machine::answer(completion<void> done) {
  boost::asio::post(executor_, [done = std::move(done)]() mutable { std::move(done)(result<void>{}); });
}

void machine::start_pause(completion<void> done) {
  running_ = false;
  answer(std::move(done));
}

void machine::start_resume(completion<void> done) {
  running_ = true;
  answer(std::move(done));
}

bool machine::mappings_agree() const {
  std::set<std::array<std::uint64_t, 5>> expected;
  for (std::size_t in = 0; in < devices_.size(); ++in)
    for (const auto& shown : space_.regions())
      expected.insert({in, shown.at.iova, shown.at.size,
                       reinterpret_cast<std::uintptr_t>(space_.blocks()[shown.block].host + shown.offset), shown.writable});
  std::set<std::array<std::uint64_t, 5>> held;
  for (const auto& mapped : kernel_.facts.mappings())
    held.insert({mapped.container, mapped.iova, mapped.size, mapped.vaddr, mapped.writable});
  return held == expected;
}

bool machine::regions_agree() const {
  const auto same = [](const region& a, const region& b) {
    return a.at == b.at && a.block == b.block && a.offset == b.offset && a.writable == b.writable;
  };
  const auto shown = space_.regions();
  return std::equal(shown.begin(), shown.end(), expected_regions_.begin(), expected_regions_.end(),
                    [&](const region& a, const auto& b) { return same(a, b.second); });
}

bool machine::memory_is_what_was_written() const {
  for (std::size_t block = 0; block < memory_.size(); ++block)
    if (std::memcmp(memory_[block].bytes().data(), expected_[block].data(), expected_[block].size()) != 0) return false;
  return true;
}

std::uint64_t machine::pages() const {
  std::uint64_t sum = 0;
  for (const auto& block : space_.blocks()) sum += block.pages();
  return sum;
}

}  // namespace tidemark::simulation
