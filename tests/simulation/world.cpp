// SPDX-License-Identifier: Apache-2.0

#include "simulation/world.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <cstring>

#include "ring/condition.hpp"

namespace tidemark::simulation {

using ring::task;

namespace {

class turn_worker final : public worker {
 public:
  turn_worker(ring::loop& loop, chance& luck, std::function<void()> job)
      : shared_(std::make_shared<state>(state{loop, luck, std::move(job)})) {}
  ~turn_worker() override { shared_->ended = true; }

  void wake() noexcept override {
    if (std::exchange(shared_->woken, true)) return;
    ring::start(serve(shared_));
  }

 private:
  struct state {
    ring::loop& loop;
    chance& luck;
    std::function<void()> job;
    bool woken = false;
    bool ended = false;
  };

  static task<> serve(std::shared_ptr<state> self) {
    ring::timer pause(self->loop);
    co_await pause.until(self->loop.now() + self->luck.within(200us));
    self->woken = false;
    if (!self->ended) self->job();
  }

  std::shared_ptr<state> shared_;
};

/// One direction. Whoever waits is woken in a turn of his own: close() resumes nobody.
class pipe : public std::enable_shared_from_this<pipe> {
 public:
  pipe(ring::loop& loop, chance& luck, std::uint64_t cut_after_bytes)
      : loop_(loop), luck_(luck), allowed_(cut_after_bytes) {}

  task<result<void>> write(std::span<iovec> parts) {
    for (auto& part : parts) {
      while (part.iov_len != 0) {
        const auto sent = co_await push(static_cast<const char*>(part.iov_base), part.iov_len);
        if (sent == 0) co_return make_error(operation::send, errc::peer_closed);
        part.iov_base = static_cast<char*>(part.iov_base) + sent;
        part.iov_len -= sent;
      }
    }
    co_return result<void>{};
  }

  task<result<void>> read(std::span<iovec> parts) {
    for (auto& part : parts) {
      while (part.iov_len != 0) {
        const auto got = co_await pull(static_cast<char*>(part.iov_base), part.iov_len);
        if (got == 0) co_return make_error(operation::receive, errc::peer_closed);
        part.iov_base = static_cast<char*>(part.iov_base) + got;
        part.iov_len -= got;
      }
    }
    co_return result<void>{};
  }

  task<result<std::size_t>> read_some(std::span<std::byte> into) {
    if (into.empty()) co_return std::size_t{0};
    const auto got = co_await pull(reinterpret_cast<char*>(into.data()), into.size());
    if (got == 0) co_return make_error(operation::receive, errc::peer_closed);
    co_return got;
  }

  void cut() noexcept {
    if (!std::exchange(cut_, true)) change();
  }
  /// What is held, if it is cut.
  void lose() noexcept {
    if (cut_) held_.clear();
  }

 private:
  static constexpr std::size_t capacity_bytes = 64 * 1024;

  void change() {
    boost::asio::post(loop_.get_executor(), [self = shared_from_this()] { self->changed_.notify(); });
  }

  task<void> a_while() {
    ring::timer pause(loop_);
    co_await pause.until(loop_.now() + luck_.within(20us));
  }

  /// Bytes that left, at least one; 0 when the connection is cut.
  task<std::size_t> push(const char* from, std::size_t bytes) {
    co_await a_while();
    while (!cut_ && held_.size() == capacity_bytes) co_await changed_.wait();
    if (cut_) co_return 0;
    const auto room = std::min<std::uint64_t>(bytes, capacity_bytes - held_.size());
    const auto now = std::min(1 + luck_.below(room), allowed_);
    allowed_ -= now;
    held_.insert(held_.end(), from, from + now);
    if (allowed_ == 0) cut_ = true;
    change();
    co_return now;
  }

  task<std::size_t> pull(char* to, std::size_t bytes) {
    while (held_.empty()) {
      if (cut_) co_return 0;
      co_await changed_.wait();
      co_await a_while();
    }
    const auto now = 1 + luck_.below(std::min<std::uint64_t>(bytes, held_.size()));
    std::copy_n(held_.begin(), now, to);
    held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(now));
    change();
    co_return now;
  }

  ring::loop& loop_;
  chance& luck_;
  std::uint64_t allowed_;
  std::deque<char> held_;
  bool cut_ = false;
  ring::condition changed_;
};

/// What is under way may outlive it.
class end final : public ring::byte_stream {
 public:
  end(std::shared_ptr<pipe> out, std::shared_ptr<pipe> in) : out_(std::move(out)), in_(std::move(in)) {}
  ~end() override { close(); }

  task<result<void>> write(std::span<iovec> parts) override { return write_to(out_, in_, parts); }
  task<result<void>> read(std::span<iovec> parts) override { return read_from(in_, parts); }
  task<result<std::size_t>> read_some(std::span<std::byte> into) override { return read_some_from(in_, into); }
  void end_writing() noexcept override { out_->cut(); }
  void close() noexcept override {
    out_->cut();
    in_->cut();
  }

 private:
  /// Whoever writes to a peer that has left loses what that one said last and what he has not read yet: as TCP may.
  static task<result<void>> write_to(std::shared_ptr<pipe> out, std::shared_ptr<pipe> in, std::span<iovec> parts) {
    auto written = co_await out->write(parts);
    if (!written) in->lose();
    co_return written;
  }
  static task<result<void>> read_from(std::shared_ptr<pipe> in, std::span<iovec> parts) {
    co_return co_await in->read(parts);
  }
  static task<result<std::size_t>> read_some_from(std::shared_ptr<pipe> in, std::span<std::byte> into) {
    co_return co_await in->read_some(into);
  }

  std::shared_ptr<pipe> out_;
  std::shared_ptr<pipe> in_;
};

}  // namespace

std::unique_ptr<worker> turn_workers::make(const std::string&, std::function<void()> job) {
  return std::make_unique<turn_worker>(loop_, luck_, std::move(job));
}

connection connect(ring::loop& loop, chance& luck, std::uint64_t cut_forth_after_bytes, std::uint64_t cut_back_after_bytes) {
  auto forth = std::make_shared<pipe>(loop, luck, cut_forth_after_bytes);
  auto back = std::make_shared<pipe>(loop, luck, cut_back_after_bytes);
  return {std::make_unique<end>(forth, back), std::make_unique<end>(back, forth), [forth, back] {
            forth->cut();
            back->cut();
          }};
}

}  // namespace tidemark::simulation
