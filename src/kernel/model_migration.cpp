// SPDX-License-Identifier: Apache-2.0

#include "kernel/model_migration.hpp"

#include <algorithm>
#include <cstring>

#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr unsigned states = VFIO_DEVICE_STATE_RUNNING_P2P + 1;

constexpr auto error = VFIO_DEVICE_STATE_ERROR;
constexpr auto stop = VFIO_DEVICE_STATE_STOP;
constexpr auto running = VFIO_DEVICE_STATE_RUNNING;
constexpr auto saving = VFIO_DEVICE_STATE_STOP_COPY;
constexpr auto resuming = VFIO_DEVICE_STATE_RESUMING;
constexpr auto p2p = VFIO_DEVICE_STATE_RUNNING_P2P;

/// The next state on the way from the row's to the column's.
constexpr std::array<std::array<vfio_device_mig_state, states>, states> next_states = {{
    // error, stop,  running, saving,  resuming,  p2p
    {error, error, error, error, error, error},
    {error, stop, p2p, saving, resuming, p2p},
    {error, p2p, running, p2p, p2p, p2p},
    {error, stop, stop, saving, stop, stop},
    {error, stop, stop, stop, resuming, stop},
    {error, stop, running, stop, stop, p2p},
}};

std::uint32_t needs(unsigned state) noexcept {
  if (state == error) return ~0U;
  return state == p2p ? VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P : VFIO_MIGRATION_STOP_COPY;
}

bool has(unsigned state, std::uint32_t flags) noexcept { return (needs(state) & flags) == needs(state); }

/// As vfio_mig_get_next_state(): states that the device has not are passed over. ERROR when there is no way.
vfio_device_mig_state next_state(unsigned from, unsigned to, std::uint32_t flags) noexcept {
  if (to >= states || !has(to, flags)) return error;
  auto next = next_states[from][to];
  while (next != error && !has(next, flags)) next = next_states[next][to];
  return next;
}

}  // namespace

ssize_t data_file::read(void* buffer, std::size_t bytes) {
  if (!stream_->saving) return -EBADF;
  if (stream_->ended) return -ENODEV;
  const std::size_t told = std::min(bytes, stream_->bytes.size() - stream_->position);
  const auto to = reinterpret_cast<std::uintptr_t>(buffer);
  if (told > 0 && !user::copy_argument_out(to, stream_->bytes.data() + stream_->position, told)) return -EFAULT;
  stream_->position += told;
  return static_cast<ssize_t>(told);
}

ssize_t data_file::write(const void* buffer, std::size_t bytes) {
  if (stream_->saving) return -EBADF;
  if (stream_->ended) return -ENODEV;
  const std::size_t room = stream_->bytes.size() - stream_->position;
  if (bytes > 0 && room == 0) return -ENOSPC;
  const std::size_t taken = std::min(bytes, room);
  const auto from = reinterpret_cast<std::uintptr_t>(buffer);
  if (taken > 0 && !user::copy_argument_in(from, stream_->bytes.data() + stream_->position, taken)) return -EFAULT;
  stream_->position += taken;
  return static_cast<ssize_t>(taken);
}

int migration::go(unsigned to, std::uint32_t flags, tidemark_test_state& device, std::shared_ptr<data_stream>& opened) {
  while (state_ != to) {
    const auto next = next_state(state_, to, flags);
    if (next == error) return -EINVAL;
    opened.reset();
    if (const int failure = step(next, device, opened)) return failure;
    state_ = next;
  }
  return 0;
}

int migration::step(vfio_device_mig_state next, tidemark_test_state& device, std::shared_ptr<data_stream>& opened) {
  if (next == saving || next == resuming) {
    opened = std::make_shared<data_stream>();
    opened->saving = next == saving;
    const tidemark_test_migration_data data{.magic = TIDEMARK_TEST_MIGRATION_MAGIC, .state = device};
    if (opened->saving) std::memcpy(opened->bytes.data(), &data, sizeof(data));
    stream_ = opened;
    return 0;
  }
  if (state_ == saving) end();
  return state_ == resuming ? finish_resume(device) : 0;
}

// Takes over the state that was written, if it is one, and ends the file; else changes nothing.
int migration::finish_resume(tidemark_test_state& device) {
  tidemark_test_migration_data data{};
  std::memcpy(&data, stream_->bytes.data(), sizeof(data));
  if (stream_->position != sizeof(data) || data.magic != TIDEMARK_TEST_MIGRATION_MAGIC) return -EINVAL;
  device = data.state;
  end();
  return 0;
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
