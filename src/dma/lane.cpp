// SPDX-License-Identifier: Apache-2.0

#include "dma/lane.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/require.hpp>
#include <tidemark/error.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "core/light_mutex.hpp"

namespace tidemark::dma {

namespace asio = boost::asio;

namespace {

/// Calls come back later, never inside execute(), and what waits does not count as work.
asio::any_io_executor later(const asio::any_io_executor& where) {
  return asio::require(asio::prefer(where, asio::execution::outstanding_work.untracked), asio::execution::blocking.never);
}

}  // namespace

/// Shared by the lane, its worker and the turn that is posted: the last of them frees it.
struct lane::mailbox : std::enable_shared_from_this<mailbox> {
  mailbox(const asio::any_io_executor& where, limits within, carry_out how)
      : executor(later(where)), bounds(within), work(std::move(how)) {}
  ~mailbox() {
    inbox.clear_and_dispose(std::default_delete<request>());
    outbox.clear_and_dispose(std::default_delete<request>());
  }

  // ---- under the lock

  /// True if the caller must post a turn once it has let go of the lock.
  bool want_turn() noexcept { return !std::exchange(turn_posted, true); }

  bool add_outcomes(batch& done) {
    if (done.empty()) return false;
    outbox.splice(outbox.end(), done);
    return want_turn();
  }

  void take_inbox(batch& taken) {
    taken.swap(inbox);
    for (auto& item : taken) item.waiting_ = false;
    waits_for_turn = false;
    cost_waiting = 0;
  }

  /// What was done in the lane is seen by whoever finds it idle, close() included, which has no lock then.
  void set_busy(bool is) noexcept { busy.store(is, std::memory_order_release); }

  /// Until a turn takes the last of what is in the lane.
  void keep_at_work() {
    if (!has_work) has_work = asio::prefer(executor, asio::execution::outstanding_work.tracked);
  }

  /// Hands the inbox to the worker. No turn need be posted meanwhile: the executor has work until it comes back.
  void hand_over() {
    waits_for_turn = false;
    keep_at_work();
    if (!closed) hand->wake();
  }

  /// A request has come into the idle lane's inbox, as the `first` there or behind others. Sees to it that somebody comes
  /// for it. True if the caller must post a turn.
  bool expect(const submission& how, bool first) {
    cost_waiting = how.cost > bounds.in_place_max ? submission::at_once : std::max(cost_waiting, cost_waiting + how.cost);
    const bool can_wait = how.gathers || how.cost <= bounds.in_place_max;
    if (!can_wait && (first || waits_for_turn)) hand_over();
    if (!can_wait || !first) return false;
    waits_for_turn = true;
    return want_turn();
  }

  // ---- without

  void post_turn() {
    executor.execute([self = shared_from_this()] { self->turn(); });
  }

  /// `was_in`: counted in the lane, which it leaves with this.
  [[gnu::cold]] void refuse(request& item, boost::system::error_code code, bool was_in) {
    item.refuse(code);
    batch done;
    done.push_back(item);
    bool must_post;
    {
      const std::lock_guard lock(mutex);
      if (was_in) ++to_leave;
      must_post = add_outcomes(done);
    }
    if (must_post) post_turn();
  }

  /// The worker's job: turns until nothing waits and nothing is unfinished.
  void run() {
    bool unfinished = false;
    for (;;) {
      batch taken;
      {
        const std::lock_guard lock(mutex);
        if (!unfinished) {
          if (busy || inbox.empty()) return;  // whoever is in the lane looks into the inbox when he leaves
          set_busy(true);
        }
        keep_at_work();  // what it takes may have waited for a turn, which finds nothing then
        take_inbox(taken);
      }
      batch done;
      unfinished = work(taken, done, closed);
      const auto count = done.size();
      bool must_post;
      {
        const std::lock_guard lock(mutex);
        to_leave += count;
        must_post = add_outcomes(done);
        if (!unfinished) set_busy(false);
      }
      if (must_post) post_turn();
    }
  }

  /// The executor's: carries out what waits for it, completes that and what the worker is done with. Having carried out
  /// something, it looks again, for handlers ask for more: so whoever asks for one thing after the other pays for few turns,
  /// and no turn goes on for longer than its bound. What comes otherwise has a turn of its own, behind what else the
  /// executor has to do.
  void turn() {
    std::size_t spent = 0;
    batch done;
    batch taken;
    for (bool begins = true;; begins = false) {
      look(begins, spent, taken, done);
      const bool carries_out = !taken.empty();
      if (carries_out) carry_out_here(taken, done);
      complete(done);
      if (!carries_out) return;
    }
  }

  /// What there is to do for the executor, in a turn that begins, or has spent so much already.
  void look(bool begins, std::size_t& spent, batch& taken, batch& done) {
    bool must_post = false;
    {
      const std::lock_guard lock(mutex);
      if (begins) turn_posted = false;
      done.swap(outbox);
      if (waits_for_turn && !busy) must_post = take_or_leave(spent, taken);
      in_lane -= std::exchange(to_leave, 0) + taken.size();
      if (in_lane == 0 && has_work) has_work = {};
    }
    if (must_post) post_turn();
  }

  /// True if it is left to the next turn, which the caller must post.
  bool take_or_leave(std::size_t& spent, batch& taken) {
    if (cost_waiting > bounds.in_place_max) return hand_over(), false;
    if (cost_waiting > bounds.in_place_max - spent) return want_turn();
    spent += cost_waiting;
    set_busy(!inbox.empty());  // what waited may have been cancelled
    take_inbox(taken);
    return false;
  }

  void carry_out_here(batch& taken, batch& done) {
    work(taken, done, closed);
    const std::lock_guard lock(mutex);
    set_busy(false);
    if (!inbox.empty()) hand_over();
    if (closed) busy.notify_all();
  }

  void complete(batch& done) {
    const give_back rest{*this, done};
    while (!done.empty()) {
      std::unique_ptr<request> item(&done.front());
      done.pop_front();
      auto& completed = *item;
      completed.complete(std::move(item));
    }
  }

  /// A handler that throws must not cost the others their completion: what is left goes back, to the next turn of the
  /// executor.
  struct give_back {
    mailbox& box;
    batch& left;

    ~give_back() {
      if (left.empty()) return;
      bool must_post;
      {
        const std::lock_guard lock(box.mutex);
        left.splice(left.end(), box.outbox);
        must_post = box.add_outcomes(left);
      }
      if (must_post) box.post_turn();
    }
  };

  const asio::any_io_executor executor;
  const limits bounds;
  const carry_out work;

  core::light_mutex mutex;
  batch inbox;
  batch outbox;
  asio::any_io_executor has_work;    // while the worker has something
  std::size_t in_lane = 0;           // accepted, and not yet taken by a turn
  std::size_t to_leave = 0;          // of those, in the outbox
  std::size_t cost_waiting = 0;      // of the inbox
  worker* hand = nullptr;            // until it is closed
  std::atomic<bool> busy = false;    // somebody is in the lane; changes under the lock
  bool waits_for_turn = false;       // the inbox, for the executor; else the worker was woken for it
  bool turn_posted = false;          // and not begun
  std::atomic<bool> closed = false;  // changes under the lock
};

lane::lane(asio::any_io_executor executor, workers& threads, const std::string& name, limits bounds, carry_out work)
    : mailbox_(std::make_shared<mailbox>(executor, bounds, std::move(work))),
      worker_(threads.make(name, [box = mailbox_.get()] { box->run(); })) {
  mailbox_->hand = worker_.get();
}

// By the time the lock is let go of, the request may have completed, and its handler ended the lane.
void lane::submit(std::unique_ptr<request> item, const submission& how) {
  auto& box = *mailbox_;
  std::unique_lock lock(box.mutex);
  if (box.closed || (!how.always && box.in_lane >= box.bounds.queue_max)) {
    const auto refusal = box.closed ? errc::closed : errc::queue_full;
    const auto kept = mailbox_;
    lock.unlock();
    return kept->refuse(*item.release(), make_error_code(refusal), false);
  }
  const bool first = box.inbox.empty();
  item->waiting_ = true;
  ++box.in_lane;
  box.inbox.push_back(*item.release());
  if (box.busy || !box.expect(how, first)) return;
  const auto kept = mailbox_;
  lock.unlock();
  kept->post_turn();
}

void lane::canceller::operator()(asio::cancellation_type) const {
  const auto box = box_.lock();
  if (!box) return;
  {
    const std::lock_guard lock(box->mutex);
    if (!std::exchange(item_->waiting_, false)) return;
    box->inbox.erase(box->inbox.iterator_to(*item_));
  }
  box->refuse(*item_, asio::error::operation_aborted, true);
}

void lane::close() {
  auto& box = *mailbox_;
  batch left;
  {
    const std::lock_guard lock(box.mutex);
    box.closed = true;
    box.take_inbox(left);
  }
  worker_.reset();
  box.busy.wait(true);  // for the executor's thread, if that is in the lane
  while (!left.empty()) {
    auto& item = left.front();
    left.pop_front();
    box.refuse(item, asio::error::operation_aborted, true);
  }
}

}  // namespace tidemark::dma
