// SPDX-License-Identifier: Apache-2.0

#include "migrate/snapshot_file.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace tidemark::migrate {

using ring::task;

namespace {

constexpr std::uint64_t request_bytes_max =
    1 << 30;  // an entry's length has 32 bits, and the kernel moves less than 2 GiB at once

unsigned length_of(std::size_t bytes) noexcept {
  return static_cast<unsigned>(std::min<std::uint64_t>(bytes, request_bytes_max));
}

bool is_passing(int answer) noexcept { return answer == -EINTR || answer == -EAGAIN; }

}  // namespace

void snapshot_file::close() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

task<int> snapshot_file::read(ring::uring_loop& loop, std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const int answer = co_await loop.submit([this, to, offset](io_uring_sqe* entry) {
      io_uring_prep_read(entry, fd_, to.data(), length_of(to.size()), offset);
    });
    if (is_passing(answer)) continue;
    if (answer < 0) co_return -answer;
    if (answer == 0) co_return ENODATA;
    to = to.subspan(static_cast<std::size_t>(answer));
    offset += static_cast<std::uint64_t>(answer);
  }
  co_return 0;
}

task<int> snapshot_file::write(ring::uring_loop& loop, std::uint64_t offset, std::span<const std::byte> from) const {
  while (!from.empty()) {
    const int answer = co_await loop.submit([this, from, offset](io_uring_sqe* entry) {
      io_uring_prep_write(entry, fd_, from.data(), length_of(from.size()), offset);
    });
    if (is_passing(answer)) continue;
    if (answer < 0) co_return -answer;
    if (answer == 0) co_return EIO;
    from = from.subspan(static_cast<std::size_t>(answer));
    offset += static_cast<std::uint64_t>(answer);
  }
  co_return 0;
}

task<int> snapshot_file::punch(ring::uring_loop& loop, std::uint64_t offset, std::uint64_t bytes) const {
  int answer = -EINTR;
  while (is_passing(answer)) {
    answer = co_await loop.submit([this, offset, bytes](io_uring_sqe* entry) {
      io_uring_prep_fallocate(entry, fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                              static_cast<off_t>(bytes));
    });
  }
  co_return -answer;
}

task<int> snapshot_file::sync(ring::uring_loop& loop) const {
  int answer = -EINTR;
  while (is_passing(answer))
    answer = co_await loop.submit([this](io_uring_sqe* entry) { io_uring_prep_fsync(entry, fd_, 0); });
  co_return -answer;
}

}  // namespace tidemark::migrate
