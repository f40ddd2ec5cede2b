// SPDX-License-Identifier: Apache-2.0
//
// A lane carries out blocking requests beside the loop. It solves two problems: VFIO's ioctls block, some for seconds, so
// they must not run on the loop; and handing each one over and back by itself costs more than the ioctl (a wake is 7 to 9
// µs), so requests travel in batches: the worker takes all that has queued up, and the loop is woken once for all that it
// completed.
//
// One exception, for latency: who finds the lane idle may enter() it and carry out a request on his own thread.
//
// Invariants
//  1. At any time one thread at most is in the lane: the worker, or who entered it.
//  2. Each submitted request is completed exactly once, on the executor, never inside submit(), leave() or a canceller.
//  3. At most one drain of the outbox is posted to the executor at a time.
//  4. At most `queue_max` requests are in the lane: waiting, under way, or in the outbox until a drain takes them. One more
//  is refused, unless it gives something back. (The refusals themselves pass through the outbox uncounted.)
//  5. While a request is in the lane the executor counts as having work.
//
// Threading: submit(), enter() and cancellers from any thread. The worker runs the batches; the executor runs the
// completions. Shutdown: close() refuses what comes, completes what waits as cancelled, waits for the turn under way, and
// gives one more turn if something is unfinished, which carry_out then ends as cancelled, too. Completions posted by then
// still run: they hold what they need.

#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/intrusive/list.hpp>
#include <tidemark/threads.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace tidemark::dma {

/// How a request comes into a lane.
struct submission {
  bool always = false;   ///< taken however full the lane is: it gives something back
  bool gathers = false;  ///< the worker is woken when the executor comes round, so that more of its kind come with it
};

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

  /// One turn: takes all of `taken`, and moves what has come to its end to `done`, outcomes left in the requests. What is
  /// unfinished it keeps, and answers true to get another turn, with what has come by then. Once `closing` is true
  /// everything comes to its end as soon as it can. On the worker.
  using carry_out = std::function<bool(batch& taken, batch& done, const std::atomic<bool>& closing)>;

  lane(boost::asio::any_io_executor executor, workers& threads, const std::string& name, std::size_t queue_max,
       carry_out work);
  ~lane() { close(); }

  void submit(std::unique_ptr<request> item, submission how = {});

  /// Whether the lane was idle, and no more than `costs_max` of cost were spent by those who entered since the executor last
  /// drained the outbox. Then the caller is in it, for a request of this cost, until leave().
  bool enter(std::size_t cost, std::size_t costs_max);
  /// With the request carried out.
  void leave(std::unique_ptr<request> done);

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
