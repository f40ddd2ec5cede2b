// SPDX-License-Identifier: Apache-2.0

#include "migrate/packing_choice.hpp"

#include <algorithm>

namespace tidemark::migrate {

namespace {

// Each new frame counts an eighth, so a change of the guest's pages or of the network shows within some frames; a trial,
// which is rare, a half.
constexpr double usual_share = 1.0 / 8;
constexpr double trial_share = 1.0 / 2;

void blend(double& average, double seen, bool known, double share) noexcept {
  average = known ? average + (seen - average) * share : seen;
}

double per_byte(std::chrono::nanoseconds took, std::uint64_t bytes) noexcept {
  return static_cast<double>(took.count()) / static_cast<double>(std::max<std::uint64_t>(bytes, 1));
}

}  // namespace

packing packing_choice::next() noexcept {
  switch (wanted_) {
    case compression::none:
      return packing::none;
    case compression::lz4:
      return packing::lz4;
    case compression::zstd:
      return packing::zstd;
    case compression::automatic:
      break;
  }
  for (std::size_t i = 0; i != ways; ++i) {
    if (static_cast<packing>(i) == best_) continue;
    auto& other = of_[i];
    if (++other.since_trial < other.trial_every) continue;
    other.since_trial = 0;
    other.trial_every = std::min(other.trial_every * 2, trial_every_most);
    return static_cast<packing>(i);
  }
  return best_;
}

void packing_choice::note(packing how, std::uint64_t bytes, std::uint64_t wire_bytes, std::chrono::nanoseconds packing_took,
                          std::chrono::nanoseconds sending_took) noexcept {
  auto& of = of_[static_cast<std::size_t>(how)];
  const auto share = how == best_ ? usual_share : trial_share;
  const auto ratio = static_cast<double>(wire_bytes) / static_cast<double>(std::max<std::uint64_t>(bytes, 1));
  blend(of.pack_ns_per_byte, per_byte(packing_took, bytes), of.known, share);
  blend(of.wire_ratio, ratio, of.known, share);
  of.known = true;
  blend(wire_ns_per_byte_, per_byte(sending_took, wire_bytes), wire_ns_per_byte_ != 0, usual_share);
  for (std::size_t i = 0; i != ways; ++i) {
    const auto other = static_cast<packing>(i);
    if (!of_[i].known || cost(other) >= cost(best_)) continue;
    best_ = other;
    for (auto& each : of_) each.trial_every = trial_every_first;
  }
}

double packing_choice::cost(packing how) const noexcept {
  const auto& of = of_[static_cast<std::size_t>(how)];
  return of.pack_ns_per_byte + of.wire_ratio * wire_ns_per_byte_;
}

}  // namespace tidemark::migrate
