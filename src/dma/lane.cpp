// SPDX-License-Identifier: Apache-2.0

#include "dma/lane.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <tidemark/error.hpp>

#include <atomic>
#include <utility>

namespace tidemark::dma {

namespace asio = boost::asio;

/// Shared by the lane, its worker and the drain that is posted: the last of them frees it.
struct lane::mailbox : std::enable_shared_from_this<mailbox> {
  mailbox(asio::any_io_executor where, std::size_t waiting_max, carry_out how)
      : executor(asio::prefer(std::move(where), asio::execution::outstanding_work.untracked)),
        queue_max(waiting_max),
        work(std::move(how)) {}
  ~mailbox() {
    inbox.clear_and_dispose(std::default_delete<request>());
    outbox.clear_and_dispose(std::default_delete<request>());
  }

  /// One more is in the lane. Under the lock.
  void count_in() {
    if (in_lane++ == 0) has_work = asio::prefer(executor, asio::execution::outstanding_work.tracked);
  }

  /// Adds to the outbox under the lock. True if the caller must post a drain once it has let go of the lock.
  bool add_outcomes(batch& done) {
    if (done.empty()) return false;
    outbox.splice(outbox.end(), done);
    return !std::exchange(drain_posted, true);
  }

  void wake() {
    std::lock_guard lock(mutex);
    if (!closed) hand->wake();
  }

  void post_wake() {
    asio::post(executor, [self = shared_from_this()] { self->wake(); });
  }

  void post_drain() {
    asio::post(executor, [self = shared_from_this()] { self->drain(); });
  }

  /// `was_in`: counted in the lane, which it leaves with this.
  void refuse(request& item, boost::system::error_code code, bool was_in) {
    item.refuse(code);
    batch done;
    done.push_back(item);
    bool must_post;
    {
      std::lock_guard lock(mutex);
      if (was_in) ++to_leave;
      must_post = add_outcomes(done);
    }
    if (must_post) post_drain();
  }

  /// The worker's job: turns until nothing waits and nothing is unfinished.
  void run() {
    bool unfinished = false;
    for (;;) {
      batch taken;
      {
        std::lock_guard lock(mutex);
        if (!unfinished) {
          if (busy || inbox.empty()) return;  // whoever is in the lane looks into the inbox when he leaves
          busy = true;
        }
        taken.swap(inbox);
        gathering = false;
        for (auto& item : taken) item.waiting_ = false;
      }
      batch done;
      unfinished = work(taken, done, closed);
      const auto count = done.size();
      bool must_post;
      {
        std::lock_guard lock(mutex);
        to_leave += count;
        must_post = add_outcomes(done);
        if (!unfinished) busy = false;
      }
      if (must_post) post_drain();
    }
  }

  void drain() {
    batch done;
    {
      std::lock_guard lock(mutex);
      done.swap(outbox);
      drain_posted = false;
      cost_entered = 0;
      in_lane -= std::exchange(to_leave, 0);
      if (in_lane == 0) has_work = {};
    }
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
        std::lock_guard lock(box.mutex);
        left.splice(left.end(), box.outbox);
        must_post = box.add_outcomes(left);
      }
      if (must_post) box.post_drain();
    }
  };

  const asio::any_io_executor executor;
  const std::size_t queue_max;
  const carry_out work;

  std::mutex mutex;
  batch inbox;
  batch outbox;
  asio::any_io_executor has_work;  // while something is in the lane
  std::size_t in_lane = 0;         // accepted, and not yet taken by a drain
  std::size_t to_leave = 0;        // of those, in the outbox
  std::size_t cost_entered = 0;    // since the last drain
  worker* hand = nullptr;          // until it is closed
  bool busy = false;               // somebody is in the lane
  bool gathering = false;          // the inbox waits for the executor to come round
  bool drain_posted = false;
  std::atomic<bool> closed = false;  // changes under the lock
};

lane::lane(asio::any_io_executor executor, workers& threads, const std::string& name, std::size_t queue_max, carry_out work)
    : mailbox_(std::make_shared<mailbox>(std::move(executor), queue_max, std::move(work))),
      worker_(threads.make(name, [box = mailbox_.get()] { box->run(); })) {
  mailbox_->hand = worker_.get();
}

// Here and below: by the time the lock is let go of, the request may have completed, and its handler ended the lane.
void lane::submit(std::unique_ptr<request> item, submission how) {
  const auto kept = mailbox_;
  auto& box = *kept;
  boost::system::error_code refusal;
  bool must_wake = false;
  bool must_gather = false;
  {
    std::lock_guard lock(box.mutex);
    if (box.closed) {
      refusal = make_error_code(errc::closed);
    } else if (!how.always && box.in_lane >= box.queue_max) {
      refusal = make_error_code(errc::queue_full);
    } else {
      item->waiting_ = true;
      box.count_in();
      must_wake = !how.gathers && !box.busy && (box.inbox.empty() || box.gathering);
      must_gather = how.gathers && !box.busy && box.inbox.empty();
      if (must_wake) box.gathering = false;
      if (must_gather) box.gathering = true;
      box.inbox.push_back(*item.release());
    }
  }
  if (must_wake) box.wake();
  if (must_gather) box.post_wake();
  if (item) box.refuse(*item.release(), refusal, false);
}

bool lane::enter(std::size_t cost, std::size_t costs_max) {
  auto& box = *mailbox_;
  std::lock_guard lock(box.mutex);
  if (box.busy || box.closed || !box.inbox.empty() || box.in_lane >= box.queue_max) return false;
  if (box.cost_entered + cost > costs_max) return false;
  box.cost_entered += cost;
  box.busy = true;
  return true;
}

void lane::leave(std::unique_ptr<request> item) {
  const auto kept = mailbox_;
  auto& box = *kept;
  batch done;
  done.push_back(*item.release());
  bool must_post;
  bool must_wake;
  {
    std::lock_guard lock(box.mutex);
    box.count_in();
    ++box.to_leave;
    must_post = box.add_outcomes(done);
    box.busy = false;
    must_wake = !box.inbox.empty();
  }
  if (must_post) box.post_drain();
  if (must_wake) box.wake();
}

void lane::canceller::operator()(asio::cancellation_type) const {
  const auto box = box_.lock();
  if (!box) return;
  {
    std::lock_guard lock(box->mutex);
    if (!std::exchange(item_->waiting_, false)) return;
    box->inbox.erase(box->inbox.iterator_to(*item_));
  }
  box->refuse(*item_, asio::error::operation_aborted, true);
}

void lane::close() {
  auto& box = *mailbox_;
  batch left;
  {
    std::lock_guard lock(box.mutex);
    box.closed = true;
    left.swap(box.inbox);
    for (auto& item : left) item.waiting_ = false;
  }
  worker_.reset();
  while (!left.empty()) {
    auto& item = left.front();
    left.pop_front();
    box.refuse(item, asio::error::operation_aborted, true);
  }
}

}  // namespace tidemark::dma
