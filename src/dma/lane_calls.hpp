// SPDX-License-Identifier: Apache-2.0
//
// What the library itself does in a container's lane, beside what a container offers.
//
// Threading: as container's operations; the call runs in the lane.

#pragma once

#include <tidemark/container.hpp>
#include <tidemark/operation.hpp>

#include <functional>
#include <utility>

#include "dma/container_request.hpp"

namespace tidemark::dma {

class lane_calls {
 public:
  using call = std::function<result<void>(const lane_place&)>;

  /// `range`: what it is about; an empty one is about everything, so that it waits for all before it, and all behind it
  /// wait.
  template <class Token>
  static auto async_call(container& in, operation what, iova_range range, call work, Token&& token) {
    return detail::initiate<Token>(&in, token, &container::start_call, what, range, std::move(work));
  }
};

}  // namespace tidemark::dma
