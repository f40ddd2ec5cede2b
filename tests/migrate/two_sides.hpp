// SPDX-License-Identifier: Apache-2.0
//
// A small guest at a source, a place for it at a destination, and one migration between them. Nothing in it is random but
// the pace of the network.
//
// Threading: one thread.

#pragma once

#include <sys/mman.h>

#include <boost/asio/post.hpp>
#include <boost/test/unit_test.hpp>

#include <cstring>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "migrate/destination.hpp"
#include "migrate/source.hpp"
#include "migrate/streams.hpp"
#include "simulation/small_host.hpp"

namespace tidemark::migrate {

using simulation::connection;
using simulation::small_host;

/// A guest that does what hooks say. A hook that answers an error fails the call.
class hooked_guest final : public guest {
 public:
  using hook = std::function<result<void>()>;

  hooked_guest(any_io_executor executor, bool runs) : running_(runs), executor_(std::move(executor)) {}

  void start_pause(completion<void> done) override {
    auto outcome = on_pause ? on_pause() : result<void>{};
    if (outcome) running_ = false;
    answer(std::move(done), std::move(outcome));
  }
  void start_resume(completion<void> done) override {
    auto outcome = on_resume ? on_resume() : result<void>{};
    if (outcome) running_ = true;
    answer(std::move(done), std::move(outcome));
  }
  bool running() const noexcept { return running_; }

  hook on_pause;
  hook on_resume;

 private:
  void answer(completion<void> done, result<void> outcome) {
    boost::asio::post(executor_, [done = std::move(done), outcome = std::move(outcome)]() mutable {
      std::move(done)(std::move(outcome));
    });
  }

  bool running_;
  any_io_executor executor_;
};

/// Memory between two pages that nobody may touch.
class guarded_memory {
 public:
  explicit guarded_memory(std::uint64_t size)
      : size_(size),
        all_(static_cast<std::byte*>(mmap(nullptr, size + 2 * page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    BOOST_REQUIRE(mprotect(host(), size, PROT_READ | PROT_WRITE) == 0);
  }
  guarded_memory(const guarded_memory&) = delete;
  ~guarded_memory() { munmap(all_, size_ + 2 * page_bytes); }

  std::byte* host() const noexcept { return all_ + page_bytes; }
  std::uint64_t size() const noexcept { return size_; }

 private:
  std::uint64_t size_;
  std::byte* all_;
};

/// Room for blocks, up to 1 MiB.
class room {
 public:
  result<std::vector<ram_block>> make(const std::vector<block_description>& wanted) {
    std::uint64_t left = 1 << 20;
    std::vector<ram_block> blocks;
    for (const auto& block : wanted) {
      if (block.size > left) return kernel_error(operation::add_region, ENOMEM, {}, "no room for " + block.name);
      left -= block.size;
      blocks.push_back({block.name, memory_.emplace_back(block.size).host(), block.size});
    }
    return blocks;
  }

  bool same_as(const std::vector<ram_block>& blocks) const {
    return std::equal(blocks.begin(), blocks.end(), memory_.begin(), memory_.end(), [](const ram_block& a, const auto& b) {
      return a.size == b.size() && std::memcmp(a.host, b.host(), a.size) == 0;
    });
  }
  std::byte* first_byte() { return memory_.front().host(); }

 private:
  std::list<guarded_memory> memory_;
};

class two_sides {
 public:
  static constexpr std::uint64_t iova = 0x100000;

  explicit two_sides(const std::vector<std::uint64_t>& pages_of_blocks = {2, 1})
      : host(pages_of_blocks), vm(host.executor(), true), there(host.executor(), false) {
    host.add(iova, pages_of_blocks.front(), 0);
    stream.emplace(host.space(), std::vector<cpu_dirty_source*>{&host.log()}, dirty_stream_options{.batch_pages_max = 4});
    make_room = [this](const auto& wanted) { return place.make(wanted); };
    vm.on_pause = [this]() -> result<void> {  // what is dirtied at the last moment goes with the stop-and-copy
      host.write_by_cpu(0, 1, 77);
      host.write_by_device(iova);
      return {};
    };
  }

  struct outcome {
    std::optional<result<migration_summary>> source;
    std::optional<result<std::uint64_t>> destination;
  };

  /// Migrates over a network that is cut after so many bytes each way. `meanwhile` is called before each turn until both
  /// sides are done.
  outcome migrate(std::uint64_t cut_forth = connection::never, std::uint64_t cut_back = connection::never,
                  const std::function<void(source&)>& meanwhile = {}) {
    auto wire = simulation::connect(host.loop(), host.luck(), cut_forth, cut_back);
    channel out(host.loop(), std::make_unique<tests::tapped_stream>(std::move(wire.source), at_source),
                options.bandwidth_bytes_per_s);
    channel in(host.loop(), std::make_unique<tests::tapped_stream>(std::move(wire.destination), at_destination), 0);
    destination receiver(in, there, host.threads(), make_room);
    source sender({host.executor(), out, host.space(), *stream, vm, host.threads()}, options, on_progress);
    outcome ended;
    ring::start(into(receiver.run(), ended.destination));
    ring::start(into(sender.run(), ended.source));
    for (std::uint64_t turns = 0; !ended.source || !ended.destination; ++turns) {
      BOOST_REQUIRE_MESSAGE(turns < 10'000'000, "the migration hangs");
      if (ended.source) out.close();  // it leaves
      if (meanwhile && !ended.source) meanwhile(sender);
      BOOST_REQUIRE(host.loop().run_next());
    }
    host.loop().run();  // the wire's ends must not be waited for when they go
    return ended;
  }

  /// The invariants of source.hpp and destination.hpp, however it ended.
  void check(const outcome& ended) {
    BOOST_TEST(!(vm.running() && there.running()));
    BOOST_TEST(!host.tracking());
    BOOST_TEST(stream->dirty_pages() == 0u);
    BOOST_TEST(host.model().mapping_count() == 1u);
    BOOST_TEST(host.space().regions().size() == 1u);
    if (*ended.source) {
      BOOST_TEST(there.running());
      BOOST_TEST(!vm.running());
    } else if (ended.source->error().code == make_error_code(errc::undecided)) {
      BOOST_TEST(!vm.running());
    } else if (!there.running()) {
      BOOST_TEST(vm.running());
    }
  }
  bool same_memory() { return place.same_as(host.space().blocks()); }

  small_host host;
  std::optional<dirty_stream> stream;
  hooked_guest vm;
  hooked_guest there;
  room place;
  destination::make_room_call make_room;
  migration_options options{.compare = true};
  source::progress_call on_progress;
  tests::tap at_source;
  tests::tap at_destination;

 private:
  template <class T>
  static ring::task<> into(ring::task<T> side, std::optional<T>& ended) {
    ended.emplace(co_await std::move(side));
  }
};

/// Where each head begins in what was said.
inline std::vector<std::size_t> heads_in(const tests::bytes& said) {
  std::vector<std::size_t> heads;
  for (std::size_t at = 0; at != said.size();) {
    heads.push_back(at);
    frame_head head;
    std::memcpy(&head, said.data() + at, sizeof head);
    at += sizeof head + head.body_bytes + head.payload_bytes;
  }
  return heads;
}

inline bool says(const error& failure, const std::string& what) {
  const bool found = failure.message().find(what) != std::string::npos;
  if (!found) BOOST_TEST_MESSAGE("it says: " << failure.message());
  return found;
}

}  // namespace tidemark::migrate
