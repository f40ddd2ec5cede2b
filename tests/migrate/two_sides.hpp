// SPDX-License-Identifier: Apache-2.0
//
// A small guest at a source, a place for it at a destination, and one migration between them, with devices or without.
// Nothing in it is random but the pace of the network and of workers.
//
// Threading: one thread.

#pragma once

#include <sys/mman.h>

#include <boost/asio/post.hpp>
#include <boost/test/unit_test.hpp>

#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "migrate/channel.hpp"
#include "migrate/destination.hpp"
#include "migrate/device_states.hpp"
#include "migrate/network_target.hpp"
#include "migrate/source.hpp"
#include "migrate/streams.hpp"
#include "simulation/simulated_network.hpp"
#include "simulation/small_host.hpp"

namespace tidemark::migrate {

using simulation::connection;
using simulation::simulated_arrivals;
using simulation::simulated_network;
using simulation::small_host;

/// A guest that does what hooks say. A hook that answers an error fails the call. One with `on_throttle` can be slowed down.
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
    if (resumes_late)
      ring::start(answer_late(std::move(done), std::move(outcome)));
    else
      answer(std::move(done), std::move(outcome));
  }
  bool can_throttle() const noexcept override { return static_cast<bool>(on_throttle); }
  void start_throttle(unsigned percent, completion<void> done) override {
    on_throttle(percent);
    answer(std::move(done), {});
  }
  bool running() const noexcept { return running_; }

  hook on_pause;
  hook on_resume;
  std::function<void(unsigned percent)> on_throttle;
  /// When a resume has come to its end, as far as that takes time.
  std::function<ring::task<void>()> resumes_late;

 private:
  ring::task<> answer_late(completion<void> done, result<void> outcome) {
    co_await resumes_late();
    answer(std::move(done), std::move(outcome));
  }
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

/// Room for blocks.
class room {
 public:
  std::uint64_t limit_bytes = 1 << 20;

  result<std::vector<ram_block>> make(const std::vector<block_description>& wanted) {
    auto left = limit_bytes;
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
  bool made() const noexcept { return !memory_.empty(); }
  std::byte* first_byte() { return memory_.front().host(); }

 private:
  std::list<guarded_memory> memory_;
};

class two_sides {
 public:
  static constexpr std::uint64_t iova = 0x100000;

  explicit two_sides(const std::vector<std::uint64_t>& pages_of_blocks = {2, 1}, unsigned device_count = 1)
      : host(pages_of_blocks, device_count), vm(host.executor(), true), there(host.executor(), false) {
    host.add(iova, pages_of_blocks.front(), 0);
    mappings_ = host.model().mapping_count();
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

  /// Migrates over a network as `wire` says. `meanwhile` is called before each turn until the source is done.
  outcome migrate(const std::function<void(source&)>& meanwhile = {}) {
    simulated_arrivals listening(host.loop());
    simulated_network net(host.loop(), host.luck(), listening, tapped());
    network_target to(target_parts(net));
    destination receiver(destination_parts(listening, there));
    source sender(source_parts(to), options, on_progress);
    outcome ended;
    has_room = false;
    listens = &listening;
    over = &net;
    ring::start(into(receiver.run(), ended.destination));
    ring::start(into(sender.run(), ended.source));
    for (std::uint64_t turns = 0; !ended.source || !ended.destination; ++turns) {
      BOOST_REQUIRE_MESSAGE(turns < 10'000'000, "the migration hangs");
      if (meanwhile && !ended.source) meanwhile(sender);
      if (host.loop().run_next()) continue;
      // A destination that never understood who its source was goes on waiting for it; everything else ends by itself.
      BOOST_REQUIRE_MESSAGE(ended.source && !has_room, "the migration hangs: nothing happens any more");
      receiver.cancel();
    }
    host.loop().run();
    listens = nullptr;
    over = nullptr;
    return ended;
  }

  // What migrate() is made of, for those who put it together in another way.

  network_target::parts target_parts(network& net) {
    std::vector<std::string> names;
    for (std::size_t i = 0; devices && i != devices->size(); ++i) names.push_back(devices->name(i));
    return {host.executor(),         net,           host.space().blocks(), std::move(names), of, options.pages,
            options.recovery_window, host.threads()};
  }
  source::parts source_parts(target& to) {
    return {host.executor(), host.loop(), to, host.space(), *stream, vm, host.threads(), devices};
  }
  destination::parts destination_parts(arrivals& from, guest& taken_over_by) {
    return {host.executor(),
            host.loop(),
            from,
            taken_over_by,
            host.threads(),
            [this](const auto& wanted) {
              auto made = make_room(wanted);
              has_room = made.has_value();
              return made;
            },
            [this](const error& why) { strangers.push_back(why); },
            devices_there};
  }
  /// `wire`, with the taps at its ends.
  simulated_network::shape tapped() {
    auto how = wire;
    how.at_source = [this](auto below, std::size_t number) { return tap(std::move(below), at_source[number]); };
    how.at_destination = [this](auto below, std::size_t number) { return tap(std::move(below), at_destination[number]); };
    return how;
  }

  /// The invariants of source.hpp and destination.hpp, however it ended.
  void check(const outcome& ended) {
    BOOST_TEST(!(vm.running() && there.running()));
    BOOST_TEST(!host.tracking());
    BOOST_TEST(stream->dirty_pages() == 0u);
    BOOST_TEST(host.model().mapping_count() == mappings_);
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
  device_states* devices = nullptr;        ///< of the guest; none: it has none
  device_states* devices_there = nullptr;  ///< that take over their states
  room place;
  destination::make_room_call make_room;
  migration_options options{.recovery_window = std::chrono::milliseconds(0), .compare = true};
  simulated_network::shape wire;
  session of = a_session();
  source::progress_call on_progress;
  bool has_room = false;                        ///< the destination has, in the last migration
  simulated_arrivals* listens = nullptr;        ///< while migrate() is under way
  simulated_network* over = nullptr;            ///< the same
  std::vector<error> strangers;                 ///< whom the destination refused, and why
  std::map<std::size_t, tests::tap> at_source;  ///< of each connection
  std::map<std::size_t, tests::tap> at_destination;

  template <class T>
  static ring::task<> into(ring::task<T> side, std::optional<T>& ended) {
    ended.emplace(co_await std::move(side));
  }

 private:
  static std::unique_ptr<ring::byte_stream> tap(std::unique_ptr<ring::byte_stream> below, tests::tap& on) {
    return std::make_unique<tests::tapped_stream>(std::move(below), on);
  }
  /// The same in every run.
  static session a_session() {
    session made;
    for (std::size_t i = 0; i != made.id.size(); ++i) made.id[i] = static_cast<std::byte>(i + 1);
    for (std::size_t i = 0; i != made.key.size(); ++i) made.key[i] = static_cast<std::byte>(7 * i + 5);
    return made;
  }

  std::uint64_t mappings_ = 0;
};

/// One page, sent in the first round and again in the stop-and-copy.
struct two_sides_of_a_page : two_sides {
  two_sides_of_a_page() : two_sides({1}) {
    vm.on_pause = [this]() -> result<void> {
      host.write_by_device(iova);
      return {};
    };
  }
};

/// The first frame of a connection, without a payload.
inline tests::bytes frame_of(frame_type type, const std::string& body) {
  const auto head = make_head(type, 0, body, 0);
  tests::bytes said(sizeof head + body.size());
  std::memcpy(said.data(), &head, sizeof head);
  std::copy(body.begin(), body.end(), said.begin() + sizeof head);
  return said;
}

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

/// Where the first frame of this type begins.
inline std::size_t head_of(const tests::bytes& said, frame_type type) {
  for (const auto at : heads_in(said)) {
    frame_head head;
    std::memcpy(&head, said.data() + at, sizeof head);
    if (head.type == type) return at;
  }
  BOOST_FAIL("no " << name_of(type) << " was said");
  return 0;
}

inline bool says(const error& failure, const std::string& what) {
  const bool found = failure.message().find(what) != std::string::npos;
  if (!found) BOOST_TEST_MESSAGE("it says: " << failure.message());
  return found;
}

}  // namespace tidemark::migrate
