// SPDX-License-Identifier: Apache-2.0

#include "backend/device_state.hpp"

#include <linux/vfio.h>

#include <string>
#include <utility>

#include "backend/feature.hpp"
#include "kernel/vfio_newer.h"

namespace tidemark::backend {

namespace {

constexpr auto changing = operation::change_device_state;

static_assert(static_cast<std::uint32_t>(device_state::error) == VFIO_DEVICE_STATE_ERROR);
static_assert(static_cast<std::uint32_t>(device_state::stop) == VFIO_DEVICE_STATE_STOP);
static_assert(static_cast<std::uint32_t>(device_state::running) == VFIO_DEVICE_STATE_RUNNING);
static_assert(static_cast<std::uint32_t>(device_state::stop_copy) == VFIO_DEVICE_STATE_STOP_COPY);
static_assert(static_cast<std::uint32_t>(device_state::resuming) == VFIO_DEVICE_STATE_RESUMING);
static_assert(static_cast<std::uint32_t>(device_state::running_p2p) == VFIO_DEVICE_STATE_RUNNING_P2P);
static_assert(static_cast<std::uint32_t>(device_state::pre_copy) == VFIO_DEVICE_STATE_PRE_COPY);
static_assert(static_cast<std::uint32_t>(device_state::pre_copy_p2p) == VFIO_DEVICE_STATE_PRE_COPY_P2P);

std::string text_of(device_state state) { return std::string(name_of(state)); }

error refused(const device& of, int answer, const std::string& request) {
  return kernel_error(changing, -answer, {}, of.name() + ": " + request);
}

/// One request. The data file it opened, or an empty one.
result<kernel::handle> set_state(const device& of, device_state to) {
  vfio_device_feature_mig_state request{};
  request.device_state = static_cast<std::uint32_t>(to);
  request.data_fd = -1;
  const int answer = feature(of, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, request);
  if (answer < 0) return refused(of, answer, "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE " + text_of(to));
  return request.data_fd < 0 ? kernel::handle() : kernel::handle(of.kernel(), request.data_fd);
}

/// The last means. `why` and `found` are of what was tried before.
state_change reset_or_lose(const device& of, error why, const std::string& found) {
  const auto reset = reset_device(of);
  if (reset) {
    why.undone = found + "; it was reset: it is RUNNING, and its state is gone";
    return {device_state::running, {}, std::move(why)};
  }
  auto lost = make_error(changing, errc::device_lost, {},
                         why.detail + " answered " + why.code.message() + ", and VFIO_DEVICE_RESET " +
                             reset.error().code.message() + ": detach it; the kernel's log says what its driver met");
  lost.undone = found;
  return {device_state::error, {}, std::move(lost)};
}

}  // namespace

std::string_view name_of(device_state state) noexcept {
  switch (state) {
    case device_state::error:
      return "ERROR";
    case device_state::stop:
      return "STOP";
    case device_state::running:
      return "RUNNING";
    case device_state::stop_copy:
      return "STOP_COPY";
    case device_state::resuming:
      return "RESUMING";
    case device_state::running_p2p:
      return "RUNNING_P2P";
    case device_state::pre_copy:
      return "PRE_COPY";
    case device_state::pre_copy_p2p:
      return "PRE_COPY_P2P";
  }
  return "an unknown state";
}

state_change change_state(const device& of, device_state to, device_state recover) {
  auto changed = set_state(of, to);
  if (changed) return {to, std::move(*changed), {}};
  auto why = changed.error();
  const auto found = state_of(of);
  if (!found) return reset_or_lose(of, std::move(why), "where it is then the kernel does not say");
  const std::string was_in = "it was in " + text_of(*found) + " then";
  if (*found == device_state::error) return reset_or_lose(of, std::move(why), was_in);
  auto recovered = set_state(of, recover);
  if (!recovered) return reset_or_lose(of, std::move(why), was_in + ", and could not go to " + text_of(recover));
  if (recover == to) return {to, std::move(*recovered), {}};
  why.undone = was_in + ", and is in " + text_of(recover);
  return {recover, std::move(*recovered), std::move(why)};
}

result<void> reset_device(const device& of) {
  const int answer = of.kernel().ioctl(of.file(), VFIO_DEVICE_RESET);
  if (answer >= 0) return {};
  return refused(of, answer, "VFIO_DEVICE_RESET");
}

result<device_state> state_of(const device& of) {
  vfio_device_feature_mig_state request{};
  const int answer = feature(of, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, request);
  if (answer < 0) return refused(of, answer, "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE");
  return static_cast<device_state>(request.device_state);
}

result<pre_copy_estimate> pre_copy_left(const device& of, int data_fd) {
  vfio_precopy_info info{};
  info.argsz = sizeof info;
  const int answer = of.kernel().ioctl(data_fd, VFIO_MIG_GET_PRECOPY_INFO, &info);
  if (answer < 0) return refused(of, answer, "VFIO_MIG_GET_PRECOPY_INFO");
  return pre_copy_estimate{info.initial_bytes, info.dirty_bytes};
}

std::optional<std::uint64_t> stop_copy_bytes(const device& of) {
  vfio_device_feature_mig_data_size size{};
  const int answer = feature(of, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, size);
  if (answer < 0) return std::nullopt;
  return size.stop_copy_length;
}

}  // namespace tidemark::backend
