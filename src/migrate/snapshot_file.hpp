// SPDX-License-Identifier: Apache-2.0
//
// A file's descriptor, and reads and writes of it through the ring, whole: short counts are continued. And what both sides
// of a snapshot share: page-aligned buffers, and several coroutines that work off one list.
//
// Threading: the loop's thread. The file and the memory outlive the tasks, and the tasks are awaited to their end.

#pragma once

#include <tidemark/page_run.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::migrate {

class snapshot_file {
 public:
  snapshot_file() noexcept = default;
  explicit snapshot_file(int fd) noexcept : fd_(fd) {}
  snapshot_file(snapshot_file&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  snapshot_file& operator=(snapshot_file&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~snapshot_file() { close(); }

  bool is_open() const noexcept { return fd_ >= 0; }
  int fd() const noexcept { return fd_; }
  void close() noexcept;

  /// These answer 0 or an errno; ENODATA: the file ends before.
  ring::task<int> read(ring::uring_loop& loop, std::uint64_t offset, std::span<std::byte> to) const;
  ring::task<int> write(ring::uring_loop& loop, std::uint64_t offset, std::span<const std::byte> from) const;
  /// The range reads as zeros from then on, and takes no room. EOPNOTSUPP: the filesystem has no holes.
  ring::task<int> punch(ring::uring_loop& loop, std::uint64_t offset, std::uint64_t bytes) const;
  /// All that was written is on the disk.
  ring::task<int> sync(ring::uring_loop& loop) const;

 private:
  int fd_ = -1;
};

struct memory_freed {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};
using page_buffer = std::unique_ptr<std::byte, memory_freed>;

/// Whole pages, not initialised.
inline page_buffer make_page_buffer(std::uint64_t bytes) {
  page_buffer buffer(static_cast<std::byte*>(std::aligned_alloc(page_bytes, bytes)));
  if (!buffer) throw std::bad_alloc();
  return buffer;
}

/// How many requests of memory are in flight.
inline constexpr std::size_t snapshot_lanes = 8;

namespace detail {

template <class Call>
ring::task<void> in_lane(Call& call, std::size_t lane, ring::latch& open) {
  co_await call(lane);
  open.count_down();
}

}  // namespace detail

/// Awaits call(0), call(1), ... of every lane, all at once. Each gives a task<void>.
template <class Call>
ring::task<void> in_lanes(Call call) {
  ring::latch open(snapshot_lanes);
  for (std::size_t lane = 0; lane < snapshot_lanes; ++lane) ring::start(detail::in_lane(call, lane, open));
  co_await open;
}

template <class Value>
std::span<std::byte> bytes_of(Value& value) noexcept {
  return std::as_writable_bytes(std::span<Value, 1>(&value, 1));
}
template <class Value>
std::span<const std::byte> bytes_of(const Value& value) noexcept {
  return std::as_bytes(std::span<const Value, 1>(&value, 1));
}

}  // namespace tidemark::migrate
