// SPDX-License-Identifier: Apache-2.0
//
// A lane carries out blocking requests beside the loop. It solves two problems: VFIO's ioctls block, some for seconds, so
// they must not run on the loop; and handing each one over and back by itself costs more than the ioctl (a wake is 7 to 9
// µs), so requests travel in batches: the worker takes all that has queued up, and the loop is woken once for all that it
// completed.
//
// One exception, for latency: requests that are known to take a moment only wait for the executor's next turn, and are
// carried out there, all that came by then as one batch, if the lane is idle and they are few. What their handlers ask for
// belongs to the same turn, up to the bound of a turn.
//
// Invariants
//  1. At any time one thread at most is in the lane: the worker, or the executor's.
//  2. Each submitted request is completed exactly once, on the executor, never inside submit() or a canceller.
//  3. At most one turn that has not begun is posted to the executor at a time.
//  4. At most `queue_max` requests are in the lane: waiting, under way, or in the outbox until a turn takes them. One more
//  is refused, unless it gives something back. (The refusals themselves pass through the outbox uncounted.)
//  5. While a request is in the lane the executor counts as having work.
//  6. No turn of the executor carries out more than `in_place_max` of cost.
//
// Threading: submit() and cancellers from any thread. The worker runs the batches, small ones the executor; the executor
// runs the completions. Shutdown: close() refuses what comes, completes what waits as cancelled, waits for the turn under
// way, and gives the worker one more turn if something is unfinished, which carry_out then ends as cancelled, too.
// Completions posted by then still run: they hold what they need.

#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/intrusive/list.hpp>
#include <tidemark/threads.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <string>

namespace tidemark::dma {

/// How a request comes into a lane.
struct submission {
  static constexpr std::size_t at_once = std::numeric_limits<std::size_t>::max();

  bool always = false;         ///< taken however full the lane is: it gives something back
  bool gathers = false;        ///< waits for the executor's next turn, so that more of its kind come with it
  std::size_t cost = at_once;  ///< of carrying it out on the executor, in the unit of `in_place_max`; not given: never there
};

class lane {
 public:
  /// What travels. Owned by the lane from submit() until complete().
  class request : public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>> {
   public:
    virtual ~request() = default;
    /// The lane will not carry it out: `code` is what it completes with.
    virtual void refuse(boost::system::error_code code) noexcept = 0;
    /// Hands the outcome to whoever asked. On the executor. What a handler throws goes to whoever runs the executor, as with
    /// any Asio handler. `self` is this request: kept for as long as its canceller may still be called.
    virtual void complete(std::unique_ptr<request>&& self) = 0;

   private:
    friend class lane;
    bool waiting_ = false;  // in the inbox; guarded by the lane's mutex
  };
  using batch = boost::intrusive::list<request, boost::intrusive::constant_time_size<false>>;

  /// One turn: takes all of `taken`, and moves what has come to its end to `done`, outcomes left in the requests. What is
  /// unfinished it keeps, and answers true to get another turn, with what has come by then. Once `closing` is true
  /// everything comes to its end as soon as it can. On the worker, or with requests that have a cost on the executor, where
  /// nothing may be left unfinished.
  using carry_out = std::function<bool(batch& taken, batch& done, const std::atomic<bool>& closing)>;

  struct limits {
    std::size_t queue_max = 65536;
    std::size_t in_place_max = 0;  ///< cost of what the executor carries out in one turn; 0: nothing
  };

  lane(boost::asio::any_io_executor executor, workers& threads, const std::string& name, limits bounds, carry_out work);
  ~lane() { close(); }

  void submit(std::unique_ptr<request> item, const submission& how = {});

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
