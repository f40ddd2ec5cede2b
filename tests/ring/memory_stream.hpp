// SPDX-License-Identifier: Apache-2.0
//
// A connection in memory: two byte_streams over two small queues, which hand over a random number of bytes at a time.
//
// Threading: one thread, the loop's. Memory: operations under way keep their queue.

#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "ring/byte_stream.hpp"
#include "ring/loop.hpp"

namespace tidemark::tests {

/// One direction.
class memory_pipe {
  static constexpr std::size_t capacity_bytes = 100'000;

  auto changed() {
    struct awaiter {
      memory_pipe& of;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiting) const { of.waiting_.push_back(waiting); }
      void await_resume() const noexcept {}
    };
    return awaiter{*this};
  }

 public:
  memory_pipe(ring::loop& loop, unsigned seed) : loop_(loop), random_(seed) {}

  /// Bytes that left: at least one, 0 when it was cut.
  ring::task<std::size_t> push(const char* from, std::size_t size) {
    while (!cut_ && held_.size() >= capacity_bytes) co_await changed();
    if (cut_) co_return 0;
    const auto now = 1 + random_() % std::min(size, capacity_bytes - held_.size());
    held_.insert(held_.end(), from, from + now);
    ring_all();
    co_return now;
  }

  /// Bytes that came: at least one, 0 when it was cut and is empty.
  ring::task<std::size_t> pull(char* into, std::size_t size) {
    while (!cut_ && held_.empty()) co_await changed();
    if (held_.empty()) co_return 0;
    const auto now = 1 + random_() % std::min(size, held_.size());
    std::copy_n(held_.begin(), now, into);
    held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(now));
    ring_all();
    co_return now;
  }

  void cut() noexcept {
    cut_ = true;
    ring_all();
  }

 private:
  void ring_all() {
    for (const auto one : std::exchange(waiting_, {})) loop_.post(ring::make_work([one] { one.resume(); }));
  }

  ring::loop& loop_;
  std::mt19937 random_;
  std::deque<char> held_;
  std::vector<std::coroutine_handle<>> waiting_;
  bool cut_ = false;
};

class memory_stream final : public ring::byte_stream {
 public:
  using pipe = std::shared_ptr<memory_pipe>;
  memory_stream(pipe out, pipe in) : out_(std::move(out)), in_(std::move(in)) {}
  ~memory_stream() override { memory_stream::close(); }

  ring::task<result<void>> write(std::span<iovec> parts) override { return write_to(out_, closed_, parts); }
  ring::task<result<void>> read(std::span<iovec> parts) override { return read_from(in_, closed_, parts); }
  ring::task<result<std::size_t>> read_some(std::span<std::byte> into) override {
    return read_some_from(in_, closed_, into);
  }
  void end_writing() noexcept override { out_->cut(); }
  void close() noexcept override {
    *closed_ = true;
    out_->cut();
    in_->cut();
  }

 private:
  using flag = std::shared_ptr<bool>;

  static error over(operation what, const flag& closed) {
    return make_error(what, *closed ? errc::closed : errc::peer_closed);
  }
  static ring::task<result<void>> write_to(pipe to, flag closed, std::span<iovec> parts) {
    for (parts = ring::consume(parts, 0); !parts.empty();) {
      const auto left = co_await to->push(static_cast<const char*>(parts.front().iov_base), parts.front().iov_len);
      if (left == 0) co_return over(operation::send, closed);
      parts = ring::consume(parts, left);
    }
    co_return result<void>{};
  }
  static ring::task<result<void>> read_from(pipe from, flag closed, std::span<iovec> parts) {
    for (parts = ring::consume(parts, 0); !parts.empty();) {
      if (*closed) co_return over(operation::receive, closed);
      const auto came = co_await from->pull(static_cast<char*>(parts.front().iov_base), parts.front().iov_len);
      if (came == 0) co_return over(operation::receive, closed);
      parts = ring::consume(parts, came);
    }
    co_return result<void>{};
  }
  static ring::task<result<std::size_t>> read_some_from(pipe from, flag closed, std::span<std::byte> into) {
    if (*closed) co_return over(operation::receive, closed);
    if (into.empty()) co_return std::size_t{0};
    const auto came = co_await from->pull(reinterpret_cast<char*>(into.data()), into.size());
    if (came == 0) co_return over(operation::receive, closed);
    co_return came;
  }

  pipe out_, in_;
  flag closed_ = std::make_shared<bool>(false);
};

}  // namespace tidemark::tests
