// SPDX-License-Identifier: Apache-2.0

#include "dirty_bench_stream.hpp"

#include <malloc.h>
#include <unistd.h>
#include <tidemark/dirty_log.hpp>
#include <tidemark/dirty_stream.hpp>
#include <tidemark/kernel.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "dirty_bench_scan.hpp"

namespace tidemark::bench {

namespace {

using boost::asio::awaitable;
using boost::asio::use_awaitable;

constexpr std::uint64_t guest_bytes = tebibyte_pages * page_bytes;
constexpr std::uint64_t granule_bytes = std::uint64_t{64} << 20;

/// The value, or the end of the program.
template <class T>
T wanted(result<T> outcome) {
  if (!outcome) throw std::runtime_error(outcome.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(*outcome);
}

/// An address space with a guest of 1 TiB, whose memory nobody reads.
class guest {
 public:
  guest() { wanted(space_.add_block({"ram0", reinterpret_cast<std::byte*>(std::uint64_t{1} << 44), guest_bytes})); }

  address_space& space() noexcept { return space_; }
  void run(awaitable<void> work) {
    boost::asio::co_spawn(loop_, std::move(work), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    loop_.run();
    loop_.restart();
  }

 private:
  boost::asio::io_context loop_{1};
  host host_{kernel::host_kernel()};
  address_space space_{loop_.get_executor(), host_};
};

awaitable<void> take_all(dirty_stream& stream) {
  for (;;) {
    auto batch = wanted(co_await stream.async_next(use_awaitable));
    if (batch.empty()) co_return;
    batch.acknowledge();
  }
}

// --- memory ---

struct memory_use {
  double allocated_bytes = 0;
  double resident_bytes = 0;
};

memory_use memory_now() {
  const auto heap = mallinfo2();
  std::uint64_t all = 0;
  std::uint64_t resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return {static_cast<double>(heap.uordblks + heap.hblkhd),
          static_cast<double>(resident) * static_cast<double>(getpagesize())};
}

// Inlined, g++ 12 takes the frame's operator delete for one that does not go with its operator new.
[[gnu::noinline]] awaitable<void> use_all_bitmaps(guest& in, tracking_memory& told) {
  region all{{0, guest_bytes}, 0, 0, true};
  all.granule = granule_bytes;
  wanted(co_await in.space().async_add(all, use_awaitable));
  wanted(co_await in.space().async_populate(all.at, use_awaitable));

  const auto before = memory_now();
  dirty_log log(in.space().blocks());
  dirty_stream stream(in.space(), {&log});
  wanted(co_await stream.async_start(use_awaitable));
  log.record(0, 0, tebibyte_pages);
  if (wanted(co_await stream.async_begin_round(use_awaitable)).dirty_pages != tebibyte_pages)
    throw std::runtime_error("not every page is dirty");
  for (std::uint64_t at = 0; at < guest_bytes; at += 2 * granule_bytes)
    wanted(co_await in.space().async_discard({at, granule_bytes}, use_awaitable));
  const auto batch = wanted(co_await stream.async_next(use_awaitable));
  const auto after = memory_now();

  constexpr auto pages = static_cast<double>(tebibyte_pages);
  told.allocated_bits_per_page = (after.allocated_bytes - before.allocated_bytes) * 8 / pages;
  told.resident_bits_per_page = (after.resident_bytes - before.resident_bytes) * 8 / pages;
  wanted(co_await stream.async_stop(use_awaitable));
}

// --- time ---

/// Tells a bitmap as it is, each time, in slices.
class bitmap_source final : public cpu_dirty_source {
 public:
  explicit bitmap_source(std::span<const std::uint64_t> bits) : bits_(bits) {}
  std::string_view name() const noexcept override { return "bitmap"; }
  result<void> harvest(page_sink& to) override {
    for (std::uint64_t word = 0; word < bits_.size(); word += slice_words)
      to.merge(0, word * 64, slice_words * 64, bits_.subspan(word, slice_words));
    return {};
  }

 private:
  std::span<const std::uint64_t> bits_;
};

constexpr int rounds_timed = 15;

double wall_seconds() { return seconds_by(CLOCK_MONOTONIC); }

[[gnu::noinline]] awaitable<void> time_rounds(dirty_stream& stream, std::span<const bitmap_words> bits, const evictor& evict,
                                              stream_figures& told) {
  std::vector<bitmap_words> copies(bits.begin(), bits.end());
  std::array<std::vector<double>, 4> times;  // as the figures
  wanted(co_await stream.async_start(use_awaitable));
  wanted(co_await stream.async_begin_round(use_awaitable));
  co_await take_all(stream);  // in the first round every page
  for (int i = 0; i < rounds_timed; ++i) {
    evict();
    const auto began = wall_seconds();
    wanted(co_await stream.async_begin_round(use_awaitable));
    const auto synced = wall_seconds();
    co_await take_all(stream);
    const auto taken = wall_seconds();
    evict();
    const auto copying = wall_seconds();
    for (std::size_t k = 0; k < bits.size(); ++k) {
      std::memcpy(copies[k].data(), bits[k].data(), bits[k].size() * sizeof(std::uint64_t));
      use(copies[k][0]);
    }
    const auto copied = wall_seconds();
    times[0].push_back((copied - copying) / (taken - began));
    times[1].push_back((synced - began) * 1e3);
    times[2].push_back((taken - synced) * 1e3);
    times[3].push_back((copied - copying) * 1e3);
  }
  wanted(co_await stream.async_stop(use_awaitable));
  told = {median(times[0]), median(times[1]), median(times[2]), median(times[3])};
}

}  // namespace

tracking_memory memory_of_a_stream() {
  tracking_memory told;
  guest in;
  in.run(use_all_bitmaps(in, told));
  return told;
}

stream_figures scan_by_a_stream(const evictor& evict) {
  std::vector<bitmap_words> bits(sources_max, bitmap_words(tebibyte_pages / 64));
  for (std::size_t i = 0; i < sources_max; ++i) make_bitmap(bits[i], shape::scattered, 10, i + 1);
  bitmap_source first(bits[0]);
  bitmap_source second(bits[1]);
  bitmap_source third(bits[2]);
  stream_figures told;
  guest in;
  dirty_stream stream(in.space(), {&first, &second, &third});
  in.run(time_rounds(stream, bits, evict, told));
  return told;
}

}  // namespace tidemark::bench
