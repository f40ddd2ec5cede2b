// SPDX-License-Identifier: Apache-2.0
//
// VFIO_DEVICE_FEATURE of a test device: migration, and logging of its DMA. The checks common to all features are those of
// the VFIO core.

#include <linux/vfio.h>

#include <cerrno>
#include <cstddef>

#include "kernel/model_objects.hpp"
#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

constexpr std::uint32_t get = VFIO_DEVICE_FEATURE_GET;
constexpr std::uint32_t set = VFIO_DEVICE_FEATURE_SET;
constexpr std::uint32_t probe = VFIO_DEVICE_FEATURE_PROBE;
constexpr int to_be_done = 1;

/// As vfio_check_feature(): to_be_done, or the answer.
int check(std::uint32_t flags, std::size_t bytes, std::uint32_t supported, std::size_t needed) noexcept {
  if ((flags & (get | set) & ~supported) != 0) return -EINVAL;
  if ((flags & probe) != 0) return 0;
  if ((flags & (get | set)) == 0) return -EINVAL;
  return bytes < needed ? -EINVAL : to_be_done;
}

}  // namespace

int test_device_file::feature(std::uintptr_t argument) {
  vfio_device_feature head{};
  if (!user::copy_argument_in(argument, &head, sizeof(head))) return -EFAULT;
  if (head.argsz < sizeof(head)) return -EINVAL;
  const std::uint32_t flags = head.flags & ~std::uint32_t{VFIO_DEVICE_FEATURE_MASK};
  if ((flags & ~(get | set | probe)) != 0 || flags == (get | set)) return -EINVAL;
  const std::uintptr_t data = argument + sizeof(head);
  const std::size_t bytes = head.argsz - sizeof(head);
  switch (head.flags & VFIO_DEVICE_FEATURE_MASK) {
    case VFIO_DEVICE_FEATURE_MIGRATION:
      return migration_feature(flags, data, bytes);
    case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
      return state_feature(flags, data, bytes);
    case VFIO_DEVICE_FEATURE_MIG_DATA_SIZE:
      return size_feature(flags, data, bytes);
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
      if (version_ < kernel_version{6, 1}) return -ENOTTY;
      return log_feature(head.flags, data, bytes);
    default:
      return -ENOTTY;  // EINVAL before a fix that late stable kernels have, too: no version tells which it is
  }
}

int test_device_file::migration_feature(std::uint32_t flags, std::uintptr_t data, std::size_t bytes) {
  const vfio_device_feature_migration told{.flags = owner_->about().about.migration_flags};
  if (told.flags == 0) return -ENOTTY;
  const int answer = check(flags, bytes, get, sizeof(told));
  if (answer != to_be_done) return answer;
  return user::copy_argument_out(data, &told, sizeof(told)) ? 0 : -EFAULT;
}

int test_device_file::state_feature(std::uint32_t flags, std::uintptr_t data, std::size_t bytes) {
  vfio_device_feature_mig_state request{};
  const std::uint32_t migration_flags = owner_->about().about.migration_flags;
  if (migration_flags == 0) return -ENOTTY;
  const int checked = check(flags, bytes, get | set, sizeof(request));
  if (checked != to_be_done) return checked;
  if (!user::copy_argument_in(data, &request, sizeof(request))) return -EFAULT;
  std::shared_ptr<data_stream> stream;
  int answer = 0;
  if ((flags & get) != 0) {
    request.device_state = device_.migration.state();
  } else {
    answer = device_.migration.go(request.device_state, migration_flags, device_.state, stream);
  }
  const bool opened = answer == 0 && stream != nullptr;
  request.data_fd = opened ? descriptors_.install(std::make_shared<data_file>(std::move(stream))) : -1;
  if (user::copy_argument_out(data, &request, sizeof(request))) return answer;
  if (opened) descriptors_.take(request.data_fd);
  return -EFAULT;
}

int test_device_file::size_feature(std::uint32_t flags, std::uintptr_t data, std::size_t bytes) const {
  if (owner_->about().about.migration_flags == 0) return -ENOTTY;
  const vfio_device_feature_mig_data_size told{tidemark_test_stream_bytes(device_.state.ballast_bytes)};
  const int checked = check(flags, bytes, get, sizeof(told));
  if (checked != to_be_done) return checked;
  return user::copy_argument_out(data, &told, sizeof(told)) ? 0 : -EFAULT;
}

int test_device_file::log_feature(std::uint32_t flags, std::uintptr_t data, std::size_t bytes) {
  const std::uint32_t which = flags & VFIO_DEVICE_FEATURE_MASK;
  const bool reports = which == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT;
  const bool starts = which == VFIO_DEVICE_FEATURE_DMA_LOGGING_START;
  vfio_device_feature_dma_logging_report request{};
  std::size_t needed = starts ? sizeof(vfio_device_feature_dma_logging_control) : 0;
  if (reports) needed = sizeof(request);
  if (!owner_->about().about.logs_dma) return -ENOTTY;
  const int checked = check(flags, bytes, reports ? get : set, needed);
  if (checked != to_be_done) return checked;
  if (starts) return device_.log.start(data);
  if (!reports) {
    device_.log.stop();
    return 0;
  }
  return user::copy_argument_in(data, &request, sizeof(request)) ? device_.log.report(request) : -EFAULT;
}

}  // namespace tidemark::kernel::modelled
