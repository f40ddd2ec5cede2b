// SPDX-License-Identifier: Apache-2.0

#include "cli/map_bench_engine.hpp"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "ring/await.hpp"
#include "ring/executor.hpp"

namespace tidemark::cli {

using ring::resume_on;
using ring::task;

namespace {

/// The clients of one phase. Handlers refer to it, and have the container's executor: it lives until all clients are done.
class clients {
 public:
  clients(any_io_executor here, container& space, const script& of, const phase& what, std::byte* memory, measured& into)
      : here_(std::move(here)), space_(space), of_(of), what_(what), memory_(memory), into_(into) {}

  task<result<void>> run() {
    if (what_.in_one_call) co_return co_await run_in_one_call();
    const auto count = std::min(what_.in_flight, what_.visits.size());
    const bool beside = what_.beside.size != 0;
    ring::latch left(count + (beside ? 1 : 0));
    left_ = &left;
    began_ = ended_ = ring::clock::now();
    if (beside) map_beside();
    std::vector<client> all(count);
    for (std::size_t i = 0; i < count; ++i) {
      all[i] = {i, began_};
      make_visit(all[i]);
    }
    co_await left;
    into_.elapsed += ended_ - began_;
    if (failure_) co_return *failure_;
    co_return result<void>{};
  }

 private:
  task<result<void>> run_in_one_call() {
    const auto began = ring::clock::now();
    std::vector<change> all;
    all.reserve(what_.visits.size());
    for (const auto& one : what_.visits) all.emplace_back(mapping_of(one.at));
    auto mapped = co_await space_.async_apply(std::move(all), resume_on{here_});
    const nanoseconds elapsed(ring::clock::now() - began);
    into_.elapsed += elapsed;
    into_.operations += what_.visits.size();
    into_.latency_ns.insert(into_.latency_ns.end(), what_.visits.size(), static_cast<std::uint64_t>(elapsed.count()));
    co_return mapped;
  }

  struct client {
    std::size_t visit = 0;
    ring::clock::time_point since{};
  };

  mapping mapping_of(iova_range at) const {
    mapping made;
    made.at = at;
    made.host = memory_ + (at.iova - bench_iova);
    made.unit = of_.unit;
    made.resident = of_.resident;
    return made;
  }

  void make_visit(client& one) { what_.visits[one.visit].what == visit::kind::unmap ? unmap(one) : map(one); }

  void map(client& one) {
    space_.async_map(mapping_of(what_.visits[one.visit].at), [this, &one](const result<void>& outcome) {
      if (!done(one, outcome)) return;
      what_.visits[one.visit].what == visit::kind::both ? unmap(one) : go_on(one);
    });
  }

  void unmap(client& one) {
    space_.async_unmap(what_.visits[one.visit].at, [this, &one](const result<std::uint64_t>& outcome) {
      if (done(one, outcome)) go_on(one);
    });
  }

  void map_beside() {
    space_.async_map(mapping_of(what_.beside), [this](const result<void>& outcome) {
      if (!outcome) failure_ = outcome.error();
      ++into_.operations;
      ended_ = ring::clock::now();
      left_->count_down();
    });
  }

  /// Notes an answer. False: the client has ended, for it failed.
  template <class Outcome>
  bool done(client& one, const Outcome& outcome) {
    const auto now = ring::clock::now();
    into_.latency_ns.push_back(static_cast<std::uint64_t>(nanoseconds(now - one.since).count()));
    one.since = ended_ = now;
    ++into_.operations;
    if (outcome) return true;
    failure_ = outcome.error();
    left_->count_down();
    return false;
  }

  void go_on(client& one) {
    one.visit += what_.in_flight;
    one.visit < what_.visits.size() ? make_visit(one) : left_->count_down();
  }

  any_io_executor here_;
  container& space_;
  const script& of_;
  const phase& what_;
  std::byte* memory_;
  measured& into_;
  ring::latch* left_ = nullptr;
  ring::clock::time_point began_{};
  ring::clock::time_point ended_{};
  std::optional<error> failure_;
};

}  // namespace

engine_side::engine_side(ring::uring_loop& loop, counting_kernel& kernel, backend::device_place device)
    : here_(loop.get_executor()), kernel_(kernel), place_(std::move(device)), space_(here_, kernel, thread_workers()) {}

task<result<void>> engine_side::open() {
  auto connected = co_await space_.async_connect(place_.group, resume_on{here_});
  if (!connected) co_return connected.error();
  auto opened = co_await space_.async_open_device(place_.group, place_.name, resume_on{here_});
  if (!opened) co_return opened.error();
  device_ = std::move(*opened);
  co_return result<void>{};
}

task<result<void>> engine_side::close() {
  auto closed = co_await space_.async_close_device(*device_, resume_on{here_});
  if (!closed) co_return closed;
  co_return co_await space_.async_disconnect(place_.group, resume_on{here_});
}

task<result<measured>> engine_side::play(const script& what, std::byte* memory) {
  measured timed;
  measured untimed;
  for (const auto& part : what.phases) {
    const auto before = kernel_.map_ioctls();
    auto& into = part.timed ? timed : untimed;
    into.latency_ns.reserve(into.latency_ns.size() + 2 * part.visits.size());
    clients all(here_, space_, what, part, memory, into);
    auto done = co_await all.run();
    if (!done) co_return done.error();
    into.ioctls += kernel_.map_ioctls() - before;
  }
  co_return timed;
}

}  // namespace tidemark::cli
