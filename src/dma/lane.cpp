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

  /// Adds to the outbox under the lock. True if the caller must post a drain once it has let go of the lock.
  bool add_outcomes(batch& done) {
    outbox.splice(outbox.end(), done);
    return !std::exchange(drain_posted, true);
  }

  void post_drain() {
    asio::post(executor, [self = shared_from_this()] { self->drain(); });
  }

  void refuse(request& item, boost::system::error_code code) {
    item.refuse(code);
    batch done;
    done.push_back(item);
    bool must_post;
    {
      std::lock_guard lock(mutex);
      must_post = add_outcomes(done);
    }
    if (must_post) post_drain();
  }

  void run_batch() {
    batch taken;
    {
      std::lock_guard lock(mutex);
      taken.swap(inbox);
      for (auto& item : taken) item.waiting_ = false;
    }
    if (taken.empty()) return;
    work(taken);
    bool must_post;
    {
      std::lock_guard lock(mutex);
      to_leave += taken.size();
      must_post = add_outcomes(taken);
    }
    if (must_post) post_drain();
  }

  void drain() {
    batch done;
    {
      std::lock_guard lock(mutex);
      done.swap(outbox);
      drain_posted = false;
      in_lane -= std::exchange(to_leave, 0);
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
  std::size_t in_lane = 0;   // accepted, and not yet taken by a drain
  std::size_t to_leave = 0;  // of those, in the outbox
  bool drain_posted = false;
  std::atomic<bool> closed = false;  // changes under the lock
};

lane::lane(asio::any_io_executor executor, workers& threads, const std::string& name, std::size_t queue_max, carry_out work)
    : mailbox_(std::make_shared<mailbox>(std::move(executor), queue_max, std::move(work))),
      worker_(threads.make(name, [box = mailbox_.get()] { box->run_batch(); })) {}

void lane::submit(std::unique_ptr<request> item, room wanted) {
  auto& box = *mailbox_;
  boost::system::error_code refusal;
  bool was_empty = false;
  {
    std::lock_guard lock(box.mutex);
    if (box.closed) {
      refusal = make_error_code(errc::closed);
    } else if (wanted == room::needed && box.in_lane >= box.queue_max) {
      refusal = make_error_code(errc::queue_full);
    } else {
      item->waiting_ = true;
      ++box.in_lane;
      was_empty = box.inbox.empty();
      box.inbox.push_back(*item.release());
    }
  }
  if (was_empty) worker_->wake();
  if (item) box.refuse(*item.release(), refusal);
}

bool lane::closing() const noexcept { return mailbox_->closed; }

void lane::canceller::operator()(asio::cancellation_type) const {
  const auto box = box_.lock();
  if (!box) return;
  {
    std::lock_guard lock(box->mutex);
    if (!std::exchange(item_->waiting_, false)) return;
    box->inbox.erase(box->inbox.iterator_to(*item_));
    --box->in_lane;
  }
  box->refuse(*item_, asio::error::operation_aborted);
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
    box.refuse(item, asio::error::operation_aborted);
  }
}

}  // namespace tidemark::dma
