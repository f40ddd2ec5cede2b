// SPDX-License-Identifier: Apache-2.0
//
// The dirty stream: which pages of a guest were dirtied, by devices and by CPUs, in rounds, pulled at the consumer's pace.
//
//   co_await stream.async_start(token);               // every page is dirty
//   for (;;) {
//     co_await stream.async_begin_round(token);       // take in what the sources saw
//     for (;;) {
//       auto batch = co_await stream.async_next(token);   // result<dirty_stream::batch>
//       if (batch->empty()) break;
//       send(batch->runs());
//       batch->acknowledge();
//     }
//   }
//
// Invariants
//  1. A page dirtied after async_start is in a batch that was not acknowledged, is handed out later, or is still in
//     a source.
//  2. In one round no page is handed out twice, to however many consumers.
//  3. A batch destroyed without acknowledge() goes back, to be handed out in the next round; after a stop it is forgotten.
//  4. A page that is discarded (region::granule) is not handed out, whoever says that it is dirty. Populated again, it is
//     dirty.
//
// Threading: the address space's executor; batches too. statistics() and dirty_pages() from any thread. Sources are asked on
// worker threads, and what takes long for a large guest is done there: nothing here holds up the executor for longer than
// writing one batch takes.
// Cancellation: async_next may be cancelled, and its consumer may go at any time: the batch goes back. The others cannot be
// cancelled, and end when the sources have answered.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/dirty_source.hpp>
#include <tidemark/dirty_statistics.hpp>
#include <tidemark/error.hpp>
#include <tidemark/operation.hpp>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace tidemark {

/// Where a dirty stream stands.
struct dirty_round {
  std::uint32_t number = 0;       ///< 1 for the first
  std::uint64_t dirty_pages = 0;  ///< to be handed out in it
};

struct dirty_stream_options {
  /// A batch is at most so many pages and so many bytes of them, one page at least, in at most 65536 runs.
  std::uint64_t batch_pages_max = 4096;
  std::uint64_t batch_bytes_max = std::numeric_limits<std::uint64_t>::max();
  /// What time it is, for statistics; any thread.
  std::function<std::chrono::steady_clock::time_point()> now = [] { return std::chrono::steady_clock::now(); };
};

class dirty_stream {
  class state;

  /// Goes back to its stream unless it is acknowledged. Knows the stream only while that lives and tracks.
  class handed_out {
   public:
    handed_out(std::weak_ptr<state> from, std::uint64_t pages) noexcept : from_(std::move(from)), pages_(pages) {}
    handed_out(handed_out&&) noexcept = default;
    handed_out& operator=(handed_out&&) = delete;

    std::uint64_t pages() const noexcept { return pages_; }
    bool empty() const noexcept { return pages_ == 0; }
    /// The pages reached the consumer's destination: they do not come again unless they are dirtied again.
    void acknowledge() noexcept;

   protected:
    ~handed_out() = default;
    /// Null: acknowledged, or the stream has stopped.
    std::shared_ptr<state> taken_back() noexcept { return std::exchange(from_, {}).lock(); }

   private:
    std::weak_ptr<state> from_;
    std::uint64_t pages_;
  };

 public:
  /// Runs of pages handed to one consumer: ascending by block and page, none meeting or touching another. Move-only.
  class batch : public handed_out {
   public:
    struct freed {
      void operator()(page_run* runs) const noexcept { std::free(runs); }
    };
    using memory = std::unique_ptr<page_run[], freed>;  // of std::malloc: nobody writes zeros first

    batch(std::weak_ptr<state> from, memory runs, std::size_t count, std::uint64_t pages) noexcept
        : handed_out(std::move(from), pages), runs_(std::move(runs)), count_(count) {}
    batch(batch&&) noexcept = default;
    ~batch();

    std::span<const page_run> runs() const noexcept { return {runs_.get(), count_}; }

   private:
    memory runs_;
    std::size_t count_;
  };

  /// Pages handed to one consumer as a bitmap: for engines that want bitmaps. Move-only.
  class bitmap_batch : public handed_out {
   public:
    bitmap_batch(std::weak_ptr<state> from, page_run range, std::vector<std::uint64_t> bits, std::uint64_t pages) noexcept
        : handed_out(std::move(from), pages), range_(range), bits_(std::move(bits)) {}
    bitmap_batch(bitmap_batch&&) noexcept = default;
    ~bitmap_batch();

    /// What the bits are for; first_page is a multiple of 64, and there are at most 32768 pages.
    const page_run& range() const noexcept { return range_; }
    /// A bit a page of the range, the lowest bit of the first word first.
    std::span<const std::uint64_t> bits() const noexcept { return bits_; }

   private:
    page_run range_;
    std::vector<std::uint64_t> bits_;
  };

  /// The space and the sources outlive the stream, which outlives its operations and is destroyed only when async_stop has
  /// completed (or nothing was started): until then the space writes into it. The RAM blocks are those that the space has at
  /// async_start; pages of one that is added later are not in the stream before the next.
  dirty_stream(address_space& space, std::vector<cpu_dirty_source*> cpu_sources, dirty_stream_options options = {});
  ~dirty_stream();

  /// Turns tracking on in every source and takes every page of every RAM block as dirty that is not discarded. On failure
  /// none tracks.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_start(Token&& token) {
    return detail::initiate<Token>(this, token, &dirty_stream::start_tracking);
  }

  /// Takes in what every source saw and begins the next round at the first page. A source that fails has everything count
  /// as dirty: nothing is lost, and container_options::warn is told. On failure no round has begun: EINVAL before
  /// async_start; EAGAIN, there is no thread to ask the sources on. What was taken in by then is in the next.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<dirty_round>)) Token>
  auto async_begin_round(Token&& token) {
    return detail::initiate<Token>(this, token, &dirty_stream::start_round);
  }

  /// The next batch of the round; an empty one at its end.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<batch>)) Token>
  auto async_next(Token&& token) {
    return detail::initiate<Token>(this, token, &dirty_stream::start_next);
  }

  /// The same as a bitmap: the next part of the round, of at most 32768 pages whatever the options say, in which pages are
  /// dirty. Consumers of batches and of bitmaps share one round.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<bitmap_batch>)) Token>
  auto async_next_bitmap(Token&& token) {
    return detail::initiate<Token>(this, token, &dirty_stream::start_next_bitmap);
  }

  /// Turns tracking off. What was not handed out is forgotten.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_stop(Token&& token) {
    return detail::initiate<Token>(this, token, &dirty_stream::start_stop);
  }

  /// Pages known to be dirty and not handed out.
  std::uint64_t dirty_pages() const noexcept;

  dirty_statistics statistics() const;

 private:
  void start_tracking(completion<void> done);
  void start_round(completion<dirty_round> done);
  void start_next(completion<batch> done);
  void start_next_bitmap(completion<bitmap_batch> done);
  void start_stop(completion<void> done);

  std::shared_ptr<state> state_;
};

}  // namespace tidemark
