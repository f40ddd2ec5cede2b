// SPDX-License-Identifier: Apache-2.0
//
// A kernel that notes to which migration states devices are told to go, and answers in the kernel's place where a test says
// so.
//
// Threading: as the kernel behind it; the notes are locked.

#pragma once

#include <linux/vfio.h>
#include <tidemark/device.hpp>

#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/device_state.hpp"
#include "kernel/passing.hpp"
#include "kernel/vfio_newer.h"

namespace tidemark::tests {

class watching_kernel final : public kernel::passing {
 public:
  /// What to answer instead of asking the kernel, by the note of the call; nothing: ask it.
  using rule = std::function<std::optional<int>(const std::string& note, std::uintptr_t argument)>;

  explicit watching_kernel(kernel::files& behind) : passing(behind) {}

  /// The same open device through this kernel, with other abilities where they are given. `of` outlives it.
  device watch(const device& of, std::optional<device_migration> abilities = {}) {
    names_[of.file()] = of.name();
    auto info = of.info();
    if (abilities) info.migration = *abilities;
    return {*this, kernel::handle(*this, of.file()), of.name(), of.group(), std::move(info)};
  }

  void set_rule(rule answer) { rule_ = std::move(answer); }
  /// In order, as "tidemark-test.0 STOP_COPY", "tidemark-test.0 RESET", and, for rules only, "tidemark-test.0 state?" and
  /// "size?", "precopy_info".
  std::vector<std::string> take_notes() {
    const std::lock_guard lock(mutex_);
    return std::exchange(notes_, {});
  }

  using files::ioctl;
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    const auto note = note_of(fd, request, argument);
    const bool asks = note.empty() || note.ends_with('?') || note == "precopy_info";
    if (!asks) {
      const std::lock_guard lock(mutex_);
      notes_.push_back(note);
    }
    if (rule_ && !note.empty())
      if (const auto answer = rule_(note, argument)) return *answer;
    return passing::ioctl(fd, request, argument);
  }
  int close(int fd) noexcept override { return names_.contains(fd) ? 0 : passing::close(fd); }

 private:
  std::string note_of(int fd, unsigned long request, std::uintptr_t argument) const {
    if (request == VFIO_MIG_GET_PRECOPY_INFO) return "precopy_info";
    const auto known = names_.find(fd);
    if (known == names_.end()) return {};
    if (request == VFIO_DEVICE_RESET) return known->second + " RESET";
    if (request != VFIO_DEVICE_FEATURE) return {};
    const auto* head = reinterpret_cast<const vfio_device_feature*>(argument);
    const auto which = head->flags & VFIO_DEVICE_FEATURE_MASK;
    if (which == VFIO_DEVICE_FEATURE_MIG_DATA_SIZE) return known->second + " size?";
    if (which != VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE) return {};
    if ((head->flags & VFIO_DEVICE_FEATURE_GET) != 0) return known->second + " state?";
    vfio_device_feature_mig_state state{};
    std::memcpy(&state, head->data, sizeof state);
    return known->second + " " + std::string(backend::name_of(static_cast<backend::device_state>(state.device_state)));
  }

  std::map<int, std::string> names_;
  rule rule_;
  std::mutex mutex_;
  std::vector<std::string> notes_;
};

}  // namespace tidemark::tests
