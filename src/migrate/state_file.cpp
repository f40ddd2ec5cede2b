// SPDX-License-Identifier: Apache-2.0

#include "migrate/state_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "ring/offload.hpp"

namespace tidemark::migrate {

using ring::task;

namespace {

constexpr auto reading = operation::read_device_state;
constexpr auto writing = operation::write_device_state;

/// The files are streams, without a position; what is none has its own moved, as read(2) does.
constexpr auto here = ~std::uint64_t{0};

/// What one call moves at most; Linux stops a page short of 2 GiB.
constexpr std::size_t call_bytes_max = 1UL << 30;

unsigned call_bytes(std::size_t bytes) noexcept { return static_cast<unsigned>(std::min(bytes, call_bytes_max)); }

std::string why_not_read(int errno_value, const std::string& name) {
  if (errno_value == ENODEV) return name + ": its migration state was left, or it was reset, while its state was read";
  return name;
}

std::string why_not_written(int errno_value, const std::string& name) {
  switch (errno_value) {
    case ENODEV:
      return name + ": its migration state was left, or it was reset, while its state was written";
    case ENOSPC:
      return name + ": it takes no more: the source's device is of another kind, or of another version";
    case EINVAL:
      return name + ": it does not take this for its state: the source's device is of another kind, or of another version";
    default:
      return name;
  }
}

}  // namespace

state_file::state_file(kernel::files& kernel, std::string name, std::shared_ptr<const data_slot> data, state_place where)
    : kernel_(kernel), name_(std::move(name)), data_(std::move(data)), place_(std::move(where)) {}

task<result<state_read>> state_file::read(std::span<std::byte> into) {
  const auto file = data_->get();
  if (!file && data_->is_closed())
    co_return make_error(reading, errc::closed, {}, name_ + ": its state is not being saved any more");
  if (!file) co_return state_read{};
  ssize_t answer = -EINTR;
  while (answer == -EINTR) answer = co_await read_some(file->get(), into);
  if (answer == -ENOMSG) co_return state_read{};
  if (answer < 0) {
    const int errno_value = static_cast<int>(-answer);
    co_return kernel_error(reading, errno_value, {}, why_not_read(errno_value, name_));
  }
  co_return state_read{static_cast<std::size_t>(answer), answer == 0};
}

task<result<void>> state_file::write(std::span<const std::byte> from) {
  const auto file = data_->get();
  if (!file) co_return make_error(writing, errc::closed, {}, name_ + ": it is not resuming");
  while (!from.empty()) {
    const ssize_t answer = co_await write_some(file->get(), from);
    if (answer == -EINTR) continue;
    if (answer <= 0) {
      const int errno_value = answer == 0 ? ENOSPC : static_cast<int>(-answer);
      co_return kernel_error(writing, errno_value, {}, why_not_written(errno_value, name_));
    }
    from = from.subspan(static_cast<std::size_t>(answer));
  }
  co_return result<void>{};
}

task<ssize_t> state_file::read_some(int fd, std::span<std::byte> into) {
  if (on_ring()) {
    const int answer = co_await place_.ring->submit(
        [fd, into](io_uring_sqe* entry) { io_uring_prep_read(entry, fd, into.data(), call_bytes(into.size()), here); });
    co_return answer;
  }
  auto& kernel = kernel_;
  const ssize_t answer = co_await ring::offload(place_.threads, place_.executor, [&kernel, fd, into] {
    return kernel.read(fd, into.data(), call_bytes(into.size()));
  });
  co_return answer;
}

task<ssize_t> state_file::write_some(int fd, std::span<const std::byte> from) {
  if (on_ring()) {
    const int answer = co_await place_.ring->submit(
        [fd, from](io_uring_sqe* entry) { io_uring_prep_write(entry, fd, from.data(), call_bytes(from.size()), here); });
    co_return answer;
  }
  auto& kernel = kernel_;
  const ssize_t answer = co_await ring::offload(place_.threads, place_.executor, [&kernel, fd, from] {
    return kernel.write(fd, from.data(), call_bytes(from.size()));
  });
  co_return answer;
}

}  // namespace tidemark::migrate
