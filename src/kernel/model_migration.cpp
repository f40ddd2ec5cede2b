// SPDX-License-Identifier: Apache-2.0

#include "kernel/model_migration.hpp"

#include <algorithm>
#include <array>

#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr unsigned states = VFIO_DEVICE_STATE_PRE_COPY_P2P + 1;

constexpr auto error = VFIO_DEVICE_STATE_ERROR;
constexpr auto stop = VFIO_DEVICE_STATE_STOP;
constexpr auto running = VFIO_DEVICE_STATE_RUNNING;
constexpr auto saving = VFIO_DEVICE_STATE_STOP_COPY;
constexpr auto resuming = VFIO_DEVICE_STATE_RESUMING;
constexpr auto p2p = VFIO_DEVICE_STATE_RUNNING_P2P;
constexpr auto pre = VFIO_DEVICE_STATE_PRE_COPY;
constexpr auto pre_p2p = VFIO_DEVICE_STATE_PRE_COPY_P2P;

/// The next state on the way from the row's to the column's.
constexpr std::array<std::array<vfio_device_mig_state, states>, states> next_states = {{
    // error, stop,  running, saving,  resuming,  p2p, pre, pre_p2p
    {error, error, error, error, error, error, error, error},
    {error, stop, p2p, saving, resuming, p2p, p2p, p2p},
    {error, p2p, running, p2p, p2p, p2p, pre, p2p},
    {error, stop, stop, saving, stop, stop, error, error},
    {error, stop, stop, stop, resuming, stop, stop, stop},
    {error, stop, running, stop, stop, p2p, running, pre_p2p},
    {error, running, running, pre_p2p, running, running, pre, pre_p2p},
    {error, p2p, p2p, saving, p2p, p2p, pre, pre_p2p},
}};

std::uint32_t needs(unsigned state) noexcept {
  if (state == error) return ~0U;
  std::uint32_t flags = VFIO_MIGRATION_STOP_COPY;
  if (state == p2p || state == pre_p2p) flags |= VFIO_MIGRATION_P2P;
  if (state == pre || state == pre_p2p) flags |= VFIO_MIGRATION_PRE_COPY;
  return flags;
}

bool has(unsigned state, std::uint32_t flags) noexcept { return (needs(state) & flags) == needs(state); }

/// As vfio_mig_get_next_state(): states that the device has not are passed over. ERROR when there is no way.
vfio_device_mig_state next_state(unsigned from, unsigned to, std::uint32_t flags) noexcept {
  if (to >= states || !has(to, flags)) return error;
  auto next = next_states[from][to];
  while (next != error && !has(next, flags)) next = next_states[next][to];
  return next;
}

/// The states that share a data file.
bool saves(unsigned state) noexcept { return state == saving || state == pre || state == pre_p2p; }

constexpr std::size_t piece_bytes = 4096;

}  // namespace

int data_file::ioctl(unsigned long request, std::uintptr_t argument) {
  if (!stream_->saves || request != VFIO_MIG_GET_PRECOPY_INFO) return -ENOTTY;
  vfio_precopy_info info{};
  if (!user::copy_argument_in(argument, &info, sizeof(info))) return -EFAULT;
  if (info.argsz < sizeof(info) || stream_->ended || stream_->saving.stopped != 0) return -EINVAL;
  info.flags = 0;
  info.initial_bytes = tidemark_test_initial_bytes(&stream_->saving);
  info.dirty_bytes = tidemark_test_dirty_bytes(&stream_->saving);
  return user::copy_argument_out(argument, &info, sizeof(info)) ? 0 : -EFAULT;
}

// In pieces, each of which counts once it is copied.
ssize_t data_file::read(void* buffer, std::size_t bytes) {
  if (!stream_->saves) return -EBADF;
  if (stream_->ended) return -ENODEV;
  std::array<__u8, piece_bytes> piece;
  std::size_t done = 0;
  while (done < bytes) {
    auto after = stream_->saving;
    const std::size_t told = tidemark_test_save(&after, piece.data(), std::min(bytes - done, piece.size()));
    if (told == 0 && done == 0 && after.stopped == 0) return -ENOMSG;
    if (told == 0) break;
    if (!user::copy_argument_out(reinterpret_cast<std::uintptr_t>(buffer) + done, piece.data(), told)) return -EFAULT;
    stream_->saving = after;
    done += told;
  }
  return static_cast<ssize_t>(done);
}

ssize_t data_file::write(const void* buffer, std::size_t bytes) {
  if (stream_->saves) return -EBADF;
  if (stream_->ended) return -ENODEV;
  std::array<__u8, piece_bytes> piece;
  std::size_t done = 0;
  while (done < bytes) {
    const std::size_t given = std::min(bytes - done, piece.size());
    if (!user::copy_argument_in(reinterpret_cast<std::uintptr_t>(buffer) + done, piece.data(), given)) return -EFAULT;
    const std::size_t taken = tidemark_test_load(&stream_->loading, piece.data(), given);
    if (taken == 0 && done == 0) return -ENOSPC;
    if (taken == 0) break;
    done += taken;
  }
  return static_cast<ssize_t>(done);
}

int migration::go(unsigned to, std::uint32_t flags, test_device_state& device, std::shared_ptr<data_stream>& opened) {
  while (state_ != to) {
    const auto next = next_state(state_, to, flags);
    if (next == error) return -EINVAL;
    opened.reset();
    if (const int failure = step(next, device, opened)) return failure;
    state_ = next;
  }
  return 0;
}

int migration::step(vfio_device_mig_state next, test_device_state& device, std::shared_ptr<data_stream>& opened) {
  if (saves(next) && saves(state_)) {
    stream_->saving.stopped = next == saving ? 1 : 0;
    return 0;
  }
  if (saves(state_)) end();
  if (state_ == resuming) return finish_resume(device);
  if (saves(next) || next == resuming) opened = begin(next, device);
  return 0;
}

std::shared_ptr<data_stream> migration::begin(vfio_device_mig_state next, const test_device_state& device) {
  stream_ = std::make_shared<data_stream>();
  stream_->saves = saves(next);
  stream_->saving.ballast = stream_->loading.ballast = device.ballast_bytes;
  stream_->saving.now = device.counters;
  stream_->saving.stopped = next == saving ? 1 : 0;
  return stream_;
}

// Takes over the state that was written, if it is one, and ends the file; else changes nothing.
int migration::finish_resume(test_device_state& device) {
  if (tidemark_test_loaded(&stream_->loading) == 0) return -EINVAL;
  device.counters = stream_->loading.state;
  end();
  return 0;
}

void migration::used(const test_device_state& device) noexcept {
  if (stream_) stream_->saving.now = device.counters;
}

void migration::reset() noexcept {
  end();
  state_ = VFIO_DEVICE_STATE_RUNNING;
}

void migration::end() noexcept {
  if (stream_) stream_->ended = true;
  stream_.reset();
}

}  // namespace tidemark::kernel::modelled
