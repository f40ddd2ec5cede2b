// SPDX-License-Identifier: Apache-2.0
//
// One piece of work for a loop: a move-only call, made once, chained through itself so that a queue of them never allocates.
// Threading: a piece of work belongs to one queue at a time.

#pragma once

#include <memory>
#include <utility>

namespace tidemark::ring {

class work {
 public:
  virtual ~work() = default;
  virtual void run() = 0;

 private:
  friend class work_queue;
  std::unique_ptr<work> next_;
};

template <class Call>
std::unique_ptr<work> make_work(Call call) {
  struct bound final : work {
    explicit bound(Call c) : call(std::move(c)) {}
    void run() override { call(); }
    Call call;
  };
  return std::make_unique<bound>(std::move(call));
}

/// First in, first out. Not synchronised. Destroying it destroys what was not run, without running it.
class work_queue {
 public:
  work_queue() noexcept = default;
  work_queue(work_queue&& other) noexcept : head_(std::move(other.head_)), tail_(std::exchange(other.tail_, nullptr)) {}
  work_queue& operator=(work_queue&& other) noexcept {
    std::swap(head_, other.head_);
    std::swap(tail_, other.tail_);
    return *this;
  }
  ~work_queue() {
    while (pop()) {  // one by one: a long chain of owners would recurse
    }
  }

  bool empty() const noexcept { return head_ == nullptr; }

  void push(std::unique_ptr<work> item) noexcept {
    work* last = item.get();
    (tail_ ? tail_->next_ : head_) = std::move(item);
    tail_ = last;
  }

  std::unique_ptr<work> pop() noexcept {
    auto item = std::move(head_);
    if (item) head_ = std::move(item->next_);
    if (!head_) tail_ = nullptr;
    return item;
  }

 private:
  std::unique_ptr<work> head_;
  work* tail_ = nullptr;
};

}  // namespace tidemark::ring
