// SPDX-License-Identifier: Apache-2.0
//
// Byte streams for tests: one that counts, records and spoils what passes, one that takes everything, one that plays a
// recording, one that says nothing.
//
// Threading: one thread.

#pragma once

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "ring/byte_stream.hpp"
#include "ring/loop.hpp"

namespace tidemark::tests {

using bytes = std::vector<unsigned char>;

inline std::uint64_t size_of(std::span<const iovec> parts) noexcept {
  std::uint64_t sum = 0;
  for (const auto& part : parts) sum += part.iov_len;
  return sum;
}

/// What went through a tapped stream, which bytes of what comes to flip on the way, and whether nothing comes for now.
struct tap {
  std::uint64_t written_bytes = 0;
  std::uint64_t read_bytes = 0;
  bytes read;                            ///< all that was read
  std::vector<std::uint64_t> flip_read;  ///< positions
  ring::loop* stalls_on = nullptr;
};

class tapped_stream final : public ring::byte_stream {
 public:
  tapped_stream(std::unique_ptr<ring::byte_stream> below, tap& on) : below_(std::move(below)), on_(on) {}

  ring::task<result<void>> write(std::span<iovec> parts) override {
    on_.written_bytes += size_of(parts);
    return below_->write(parts);
  }
  ring::task<result<void>> read(std::span<iovec> parts) override {
    co_await stall();
    const std::vector<iovec> whole(parts.begin(), parts.end());
    auto done = co_await below_->read(parts);
    if (done)
      for (const auto& part : whole) note(static_cast<unsigned char*>(part.iov_base), part.iov_len);
    co_return done;
  }
  ring::task<result<std::size_t>> read_some(std::span<std::byte> into) override {
    co_await stall();
    auto done = co_await below_->read_some(into);
    if (done) note(reinterpret_cast<unsigned char*>(into.data()), *done);
    co_return done;
  }
  void end_writing() noexcept override { below_->end_writing(); }
  void close() noexcept override {
    closed_ = true;
    below_->close();
  }

 private:
  ring::task<void> stall() {
    while (on_.stalls_on && !closed_) {
      ring::timer pause(*on_.stalls_on);
      co_await pause.until(on_.stalls_on->now() + std::chrono::milliseconds(1));
    }
  }
  void note(unsigned char* at, std::uint64_t count) {
    for (const auto position : on_.flip_read)
      if (position >= on_.read_bytes && position - on_.read_bytes < count) at[position - on_.read_bytes] ^= 0x10;
    on_.read.insert(on_.read.end(), at, at + count);
    on_.read_bytes += count;
  }

  std::unique_ptr<ring::byte_stream> below_;
  tap& on_;
  bool closed_ = false;
};

/// Takes what is written, and calls `on_write` with it; there is nothing to read.
class sink_stream final : public ring::byte_stream {
 public:
  using call = std::function<ring::task<void>(std::span<const iovec>)>;
  explicit sink_stream(call on_write) : on_write_(std::move(on_write)) {}

  ring::task<result<void>> write(std::span<iovec> parts) override {
    co_await on_write_(parts);
    co_return result<void>{};
  }
  ring::task<result<void>> read(std::span<iovec>) override { co_return make_error(operation::receive, errc::peer_closed); }
  ring::task<result<std::size_t>> read_some(std::span<std::byte>) override {
    co_return make_error(operation::receive, errc::peer_closed);
  }
  void end_writing() noexcept override {}
  void close() noexcept override {}

 private:
  call on_write_;
};

/// Plays these bytes, then ends; takes what is written.
class playing_stream final : public ring::byte_stream {
 public:
  explicit playing_stream(bytes what) : what_(std::move(what)) {}

  ring::task<result<void>> write(std::span<iovec>) override { co_return result<void>{}; }
  ring::task<result<void>> read(std::span<iovec> parts) override {
    for (const auto& part : parts) {
      const auto now = std::min(part.iov_len, what_.size() - at_);
      if (now != 0) std::memcpy(part.iov_base, what_.data() + at_, now);
      at_ += now;
      if (now != part.iov_len) co_return make_error(operation::receive, errc::peer_closed);
    }
    co_return result<void>{};
  }
  ring::task<result<std::size_t>> read_some(std::span<std::byte> into) override {
    iovec part{into.data(), std::min(into.size(), std::max<std::size_t>(what_.size() - at_, 1))};
    const std::size_t size_bytes = part.iov_len;
    auto done = co_await read({&part, 1});
    if (!done) co_return done.error();
    co_return size_bytes;
  }
  void end_writing() noexcept override {}
  void close() noexcept override {}

 private:
  bytes what_;
  std::size_t at_ = 0;
};

/// A destination's end that never answers, nor reads more than its buffer holds, until it is closed.
class silent_stream final : public ring::byte_stream {
 public:
  silent_stream(ring::loop& loop, std::uint64_t takes_bytes) : loop_(loop), takes_bytes_(takes_bytes) {}
  ring::task<result<void>> write(std::span<iovec> parts) override {
    const auto all = size_of(parts);
    if (all <= takes_bytes_) {
      takes_bytes_ -= all;
      co_return result<void>{};
    }
    co_return co_await read(parts);
  }
  ring::task<result<void>> read(std::span<iovec>) override {
    ring::timer pause(loop_);
    while (!closed_) co_await pause.until(loop_.now() + std::chrono::milliseconds(1));
    co_return make_error(operation::receive, errc::closed);
  }
  ring::task<result<std::size_t>> read_some(std::span<std::byte>) override {
    co_return (co_await read(std::span<iovec>())).error();
  }
  void end_writing() noexcept override {}
  void close() noexcept override { closed_ = true; }

 private:
  ring::loop& loop_;
  std::uint64_t takes_bytes_;
  bool closed_ = false;
};

}  // namespace tidemark::tests
