// SPDX-License-Identifier: Apache-2.0
//
// A lane carries out blocking requests beside the loop, in order. It solves two problems: VFIO's ioctls block, some for
// seconds, so they must not run on the loop; and handing each one over and back by itself costs more than the ioctl (a wake
// is 7 to 9 µs), so requests travel in batches: the worker takes all that has queued up, and the loop is woken once for all
// that it completed.
//
// Invariants
//  1. Requests are carried out in the order they were submitted, one batch at a time.
//  2. Each submitted request is completed exactly once, on the executor, never inside submit() or a canceller.
//  3. At most one drain of the outbox is posted to the executor at a time.
//  4. At most `queue_max` requests are in the lane: waiting, under way, or in the outbox until a drain takes them. One more
//  is refused, unless it gives something back. (The refusals themselves pass through the outbox uncounted.)
//
// Threading: submit() and cancellers from any thread. The worker runs the batches; the executor runs the completions.
// Shutdown: close() refuses what comes, completes what waits as cancelled, waits for the batch under way, which carry_out
// may cut short when closing() says so. Completions posted by then still run: they hold what they need.

#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/intrusive/list.hpp>
#include <tidemark/threads.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace tidemark::dma {

class lane {
 public:
  /// What travels. Owned by the lane from submit() until complete().
  class request : public boost::intrusive::list_base_hook<> {
   public:
    virtual ~request() = default;
    /// The lane will not carry it out: `code` is what it completes with.
    virtual void refuse(boost::system::error_code code) noexcept = 0;
    /// Hands the outcome to whoever asked. On the executor. What a handler throws goes to whoever runs the executor, as with
    /// any Asio handler. `self` is this request: kept for as long as its canceller may still be called.
    virtual void complete(std::unique_ptr<request> self) = 0;

   private:
    friend class lane;
    bool waiting_ = false;  // in the inbox; guarded by the lane's mutex
  };
  using batch = boost::intrusive::list<request>;

  /// Carries out a batch in order and leaves each outcome in its request. On the worker.
  using carry_out = std::function<void(batch&)>;

  lane(boost::asio::any_io_executor executor, workers& threads, const std::string& name, std::size_t queue_max,
       carry_out work);
  ~lane() { close(); }

  /// What gives back is taken however full the lane is.
  enum class room { needed, always };
  void submit(std::unique_ptr<request> item, room wanted = room::needed);

  /// Whether close() has begun. Any thread.
  bool closing() const noexcept;

 private:
  struct mailbox;

 public:
  /// Takes its request out if that still waits. To be called only while the request exists; the lane may be gone by then.
  class canceller {
   public:
    canceller(std::weak_ptr<mailbox> box, request& item) : box_(std::move(box)), item_(&item) {}
    void operator()(boost::asio::cancellation_type) const;

   private:
    std::weak_ptr<mailbox> box_;
    request* item_;
  };
  canceller canceller_of(request& item) const { return {mailbox_, item}; }

  void close();

 private:
  std::shared_ptr<mailbox> mailbox_;
  std::unique_ptr<worker> worker_;  // last: its job uses the mailbox
};

}  // namespace tidemark::dma
