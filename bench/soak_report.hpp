// SPDX-License-Identifier: Apache-2.0
//
// What a soak did and found. Threading: the executor's, one thread; what is atomic from any.

#pragma once

#include <tidemark/address_space.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace tidemark::bench {

struct soak_request {
  std::string kernel;  ///< "model" or "linux"
  std::uint64_t writes = 0;
  std::uint64_t seed = 0;
  std::uint64_t exact_rounds = 0;  ///< of each configuration
  double poll_seconds = 0;         ///< of each row
  bool json = false;
};

/// Of one rate, polled in one way.
struct poll_row {
  std::string teller;
  std::uint64_t set_pages_per_s = 0;
  std::chrono::milliseconds every{};  ///< 0: back to back
  double written_pages_per_s = 0;     ///< by the device
  double measured_pages_per_s = 0;    ///< by the stream
  std::uint64_t rounds = 0;
  double pages_a_round = 0;
  double sync_us_p50 = 0, sync_us_p99 = 0, sync_us_max = 0;
};

class soak_report {
 public:
  explicit soak_report(const soak_request& request) : request_(request) {}

  /// Tells the first of each kind on standard error, and counts all.
  void lost(page_run pages, const std::string& when);
  void needless(page_run pages, const std::string& when);
  void warn(const std::string& what);
  /// On a terminal, every few seconds.
  void progress(const std::string& where);

  bool is_clean() const noexcept { return lost_pages == 0 && resent_unneeded == 0; }
  void print() const;

  std::atomic<std::uint64_t> device_writes = 0;   ///< that were carried out
  std::atomic<std::uint64_t> refused_writes = 0;  ///< their region was away
  std::uint64_t lost_pages = 0;
  std::uint64_t resent_unneeded = 0;
  std::uint64_t rounds = 0;
  std::uint64_t exact_rounds = 0;  ///< of those: what was to be handed out was known
  std::uint64_t checks = 0;        ///< memory compared
  std::uint64_t restarts = 0;
  std::uint64_t region_events = 0;
  std::uint64_t reattached = 0;
  std::uint64_t dropped_batches = 0;
  std::uint64_t handed_out_pages = 0;
  std::uint64_t given_back_pages = 0;
  std::uint64_t warnings = 0;
  std::array<std::uint64_t, dirty_origins> told_pages{};
  std::vector<poll_row> polls;

 private:
  double seconds() const;
  const poll_row* hardest_poll() const;
  void print_json() const;
  void print_words() const;
  void print_polls() const;
  std::string again() const;

  const soak_request& request_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_progress_{};
};

}  // namespace tidemark::bench
