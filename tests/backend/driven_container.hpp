// SPDX-License-Identifier: Apache-2.0
//
// A container file whose driver's calls are at hand: what tests of the backend drive. Threading: one thread.

#pragma once

#include <span>

#include "backend/container_file.hpp"

namespace tidemark::tests {

class driven_container : public backend::container_file {
 public:
  explicit driven_container(kernel::files& kernel, container_options options = {})
      : container_file(kernel, std::move(options)) {}

  result<void> map(const mapping& what) {
    const auto to = driver(operation::map, what.at);
    return to ? (*to)->map(what) : result<void>(to.error());
  }
  result<std::uint64_t> unmap(iova_range range, std::span<std::uint64_t> dirty) {
    const auto to = driver(operation::unmap, range);
    return to ? (*to)->unmap(range, dirty) : result<std::uint64_t>(to.error());
  }
  result<void> set_dirty_tracking(bool on) {
    const auto to = driver(operation::start_dirty_tracking, {});
    return to ? (*to)->set_dirty_tracking(on) : result<void>(to.error());
  }
  result<void> query_dirty(iova_range range, std::span<std::uint64_t> dirty) {
    const auto to = driver(operation::query_dirty, range);
    return to ? (*to)->query_dirty(range, dirty) : result<void>(to.error());
  }
};

}  // namespace tidemark::tests
