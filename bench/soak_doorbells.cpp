// SPDX-License-Identifier: Apache-2.0

#include "soak_doorbells.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

namespace tidemark::bench {

namespace {

constexpr std::size_t bells_a_call = 512;
/// Of the process: no two doorbells write the same.
std::atomic<std::uint64_t> next_value{1};

/// One that is shown somewhere; there always are such.
view& shown_one(std::deque<view>& views, choices& random, std::uint64_t& at) noexcept {
  for (;;) {
    auto& one = views[random() % views.size()];
    at = one.at.load();
    if (at != 0) return one;
  }
}

}  // namespace

tidemark_test_doorbell doorbell_at(std::uint64_t view_at, std::uint64_t page, choices& random) noexcept {
  const auto word = random() % (page_bytes / sizeof(std::uint64_t));
  return {view_at + page * page_bytes + word * sizeof(std::uint64_t), sizeof(std::uint64_t), next_value.fetch_add(1)};
}

rung ring_all(const device& on, std::span<const tidemark_test_doorbell> bells) noexcept {
  rung all;
  while (!bells.empty()) {
    const auto written = on.kernel().write(on.file(), bells.data(), bells.size_bytes());
    if (written < 0 && written != -EINVAL) {
      all.failed = static_cast<int>(-written);
      return all;
    }
    const auto done = written > 0 ? static_cast<std::size_t>(written) / sizeof bells[0] : 0;
    all.carried_out += done;
    bells = bells.subspan(done);
    if (written >= 0) continue;
    ++all.refused;
    bells = bells.subspan(1);
  }
  return all;
}

rung ring_at_random(const device& on, std::deque<view>& views, std::uint64_t writes, choices& random) noexcept {
  rung all;
  while (writes != 0 && all.failed == 0) {
    std::array<tidemark_test_doorbell, bells_a_call> bells;
    const auto count = std::min<std::uint64_t>(writes, bells.size());
    for (std::uint64_t i = 0; i < count; ++i) {
      std::uint64_t at = 0;
      const auto& one = shown_one(views, random, at);
      bells[i] = doorbell_at(at, random() % one.pages, random);
    }
    writes -= count;
    const auto done = ring_all(on, {bells.data(), count});
    all.carried_out += done.carried_out;
    all.refused += done.refused;
    all.failed = done.failed;
  }
  return all;
}

}  // namespace tidemark::bench
