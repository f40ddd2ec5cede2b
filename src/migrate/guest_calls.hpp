// SPDX-License-Identifier: Apache-2.0
//
// The calls of a `guest`, awaited by a task. Threading: the executor named by `here`.

#pragma once

#include <tidemark/migration.hpp>

#include <utility>

#include "ring/await.hpp"

namespace tidemark::migrate {

inline auto pause_guest(guest& vm, ring::resume_on here) {
  return boost::asio::async_initiate<ring::resume_on, void(result<void>)>(
      [&vm](auto handler) { vm.start_pause(completion<void>(std::move(handler))); }, here);
}

inline auto resume_guest(guest& vm, ring::resume_on here) {
  return boost::asio::async_initiate<ring::resume_on, void(result<void>)>(
      [&vm](auto handler) { vm.start_resume(completion<void>(std::move(handler))); }, here);
}

inline auto throttle_guest(guest& vm, unsigned percent, ring::resume_on here) {
  return boost::asio::async_initiate<ring::resume_on, void(result<void>)>(
      [&vm, percent](auto handler) { vm.start_throttle(percent, completion<void>(std::move(handler))); }, here);
}

}  // namespace tidemark::migrate
