// SPDX-License-Identifier: Apache-2.0
//
// The dirty stream: which pages of a guest were dirtied, by devices and by CPUs, in rounds, pulled at the consumer's pace.
//
//   co_await stream.async_start(token);               // every page is dirty
//   for (;;) {
//     co_await stream.async_begin_round(token);       // take in what the sources saw
//     while (auto batch = co_await stream.async_next(token)) { send(batch->runs()); batch->acknowledge(); }
//   }
//
// Invariants
//  1. A page dirtied after async_start is in a batch that was not acknowledged, is handed out later, or is still in a
//  source.
//  2. In one round no page is handed out twice, to however many consumers.
//  3. A batch destroyed without acknowledge() goes back, to be handed out in the next round; after a stop it is forgotten.
//  4. A page that is discarded (region::granule) is not handed out, whoever says that it is dirty. Populated again, it is
//     dirty.
//
// Threading: the address space's executor; batches too. Source::harvest is called there.
// Cancellation: async_next of a queued consumer may simply be dropped: the batch goes back.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/dirty_source.hpp>
#include <tidemark/error.hpp>
#include <tidemark/operation.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace tidemark {

/// Where a dirty stream stands.
struct dirty_round {
  std::uint32_t number = 0;       ///< 1 for the first
  std::uint64_t dirty_pages = 0;  ///< to be handed out in it
};

class dirty_stream {
  class state;

 public:
  /// Runs of pages handed to one consumer. Move-only; knows its stream only while that lives and tracks.
  class batch {
   public:
    batch(std::weak_ptr<state> from, std::vector<page_run> runs, std::uint64_t pages) noexcept
        : from_(std::move(from)), runs_(std::move(runs)), pages_(pages) {}
    batch(batch&&) noexcept = default;
    batch& operator=(batch&&) = delete;
    ~batch();

    const std::vector<page_run>& runs() const noexcept { return runs_; }
    std::uint64_t pages() const noexcept { return pages_; }
    bool empty() const noexcept { return runs_.empty(); }

    /// The pages reached the consumer's destination: they do not come again unless they are dirtied again.
    void acknowledge() noexcept { from_.reset(); }

   private:
    std::weak_ptr<state> from_;
    std::vector<page_run> runs_;
    std::uint64_t pages_;
  };

  /// `batch_pages_max` bounds a batch; 0 is taken as 1. The space and the sources outlive the stream, which outlives its
  /// operations and is destroyed only when async_stop has completed (or nothing was started): until then the space writes
  /// into it.
  dirty_stream(address_space& space, std::vector<cpu_dirty_source*> cpu_sources, std::uint64_t batch_pages_max);
  ~dirty_stream();

  /// Turns tracking on and takes every page of every RAM block as dirty that is not discarded.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_start(Token&& token) {
    return detail::initiate<Token>(this, token, &dirty_stream::start_tracking);
  }

  /// Takes in what every source saw and begins the next round at the first page.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<dirty_round>)) Token>
  auto async_begin_round(Token&& token) {
    return detail::initiate<Token>(this, token, &dirty_stream::start_round);
  }

  /// The next batch of the round; an empty one at its end.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<batch>)) Token>
  auto async_next(Token&& token) {
    return detail::initiate<Token>(this, token, &dirty_stream::start_next);
  }

  /// Turns tracking off. What was not handed out is forgotten.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<void>)) Token>
  auto async_stop(Token&& token) {
    return detail::initiate<Token>(this, token, &dirty_stream::start_stop);
  }

  /// Pages known to be dirty and not handed out.
  std::uint64_t dirty_pages() const noexcept;

 private:
  void start_tracking(completion<void> done);
  void start_round(completion<dirty_round> done);
  void start_next(completion<batch> done);
  void start_stop(completion<void> done);

  std::shared_ptr<state> state_;
};

}  // namespace tidemark
