// SPDX-License-Identifier: Apache-2.0
//
// Migrations as their reports would tell them, to look at and to test what is written of them: made up by a small model of
// rounds whose bandwidth swings, always the same. Threading: any.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>

#include "cli/migration_record.hpp"

namespace tidemark::cli::told {

inline constexpr std::uint64_t mib = 1ull << 20;
inline constexpr std::uint64_t gib = 1ull << 30;

struct plan {
  std::uint64_t bytes = 8 * gib;
  double bandwidth = 3.6 * gib;
  double dirtied = 0.9 * gib;
  std::chrono::microseconds step{4000};
  std::chrono::nanoseconds downtime_target{300'000'000};
  double throttled_dirtied = 0;            ///< once the guest is slowed down, in round 3; 0: it is not
  std::chrono::nanoseconds recovers_at{};  ///< a connection breaks for some steps; 0: none does
  std::chrono::nanoseconds gives_up_at = std::chrono::hours(1);
};

/// Tells a migration report by report; what it returns is the last.
class teller {
 public:
  teller(plan what, std::function<void(const migration_progress&)> tell) : plan_(what), tell_(std::move(tell)) {
    now_.total_bytes = plan_.bytes;
  }

  migration_progress run() {
    tell_(now_);
    now_.phase = migration_phase::pre_copy;
    now_.remaining_bytes = plan_.bytes;
    for (now_.round = 1; now_.elapsed < plan_.gives_up_at; ++now_.round) {
      const auto began = now_.elapsed;
      send_round();
      if (now_.elapsed >= plan_.gives_up_at) return now_;
      if (now_.round >= 3 && plan_.throttled_dirtied != 0) now_.throttle_percent = std::min(80U, now_.throttle_percent + 20);
      now_.dirty_bytes_per_s = rate();
      now_.remaining_bytes = std::min(plan_.bytes, dirtied_in(now_.elapsed - began));
      now_.predicted = {std::chrono::milliseconds(1), std::chrono::microseconds(1500),
                        std::chrono::nanoseconds(1'000'000'000 * now_.remaining_bytes / now_.bandwidth_bytes_per_s),
                        std::chrono::milliseconds(2)};
      if (now_.predicted.total() <= plan_.downtime_target) break;
    }
    now_.phase = migration_phase::stop_and_copy;
    ++now_.round;
    send_round();
    if (now_.elapsed >= plan_.gives_up_at) return now_;
    now_.phase = migration_phase::handed_over;
    now_.elapsed += std::chrono::milliseconds(2);
    tell_(now_);
    return now_;
  }

 private:
  std::uint64_t rate() const noexcept {
    const double swing = 1 + 0.15 * std::sin(static_cast<double>(now_.round) * 2.3);
    return static_cast<std::uint64_t>(swing * (now_.throttle_percent != 0 ? plan_.throttled_dirtied : plan_.dirtied));
  }

  std::uint64_t dirtied_in(std::chrono::nanoseconds time) const noexcept {
    return static_cast<std::uint64_t>(static_cast<double>(rate()) * std::chrono::duration<double>(time).count());
  }

  void send_round() {
    tell_(now_);
    while (now_.remaining_bytes != 0 && now_.elapsed < plan_.gives_up_at) {
      now_.elapsed += plan_.step;
      const bool broken = plan_.recovers_at.count() != 0 && now_.elapsed >= plan_.recovers_at && broken_steps_ < 40;
      if (broken) {
        ++broken_steps_;
        now_.phase = migration_phase::recovering;
        now_.bandwidth_bytes_per_s = static_cast<std::uint64_t>(static_cast<double>(now_.bandwidth_bytes_per_s) * 0.9);
      } else {
        if (now_.phase == migration_phase::recovering) {
          now_.phase = migration_phase::pre_copy;
          now_.recoveries = 1;
        }
        send_step();
      }
      tell_(now_);
    }
  }

  void send_step() {
    const double t = std::chrono::duration<double>(now_.elapsed).count();
    const double pace = 1 + 0.06 * std::sin(t * 9) + 0.04 * std::sin(t * 31) + 0.02 * std::sin(t * 117);
    const double bandwidth = plan_.bandwidth * pace;
    const auto bytes = std::min(now_.remaining_bytes,
                                static_cast<std::uint64_t>(bandwidth * std::chrono::duration<double>(plan_.step).count()));
    const bool first = now_.round == 1;
    now_.bandwidth_bytes_per_s = static_cast<std::uint64_t>(bandwidth);
    now_.remaining_bytes -= bytes;
    now_.sent_bytes += bytes;
    const double zero = first && now_.sent_bytes > plan_.bytes / 2 ? 0.45 : 0.06;
    now_.zero_bytes += static_cast<std::uint64_t>(static_cast<double>(bytes) * zero);
    now_.repeated_bytes += static_cast<std::uint64_t>(static_cast<double>(bytes) * 0.08);
    now_.wire_bytes += static_cast<std::uint64_t>(static_cast<double>(bytes) * (0.92 - zero) * 0.55);
  }

  plan plan_;
  std::function<void(const migration_progress&)> tell_;
  migration_progress now_;
  int broken_steps_ = 0;
};

inline migration_subject subject() {
  migration_subject what;
  what.target = "tls://ganymede.example.net:7700";
  what.source_host = "callisto";
  what.destination_host = "ganymede";
  what.began = "2026-11-25 17:04:45 UTC";
  what.channels = 4;
  what.blocks = {{"pc.ram", 7 * gib}, {"pc.ram.above", gib - 16 * mib}, {"vga.vram", 16 * mib}};
  return what;
}

inline migration_record of(const plan& what, migration_subject whose = subject()) {
  whose.options.downtime_target = std::chrono::duration_cast<std::chrono::milliseconds>(what.downtime_target);
  migration_record record(std::move(whose));
  teller(what, [&](const migration_progress& now) { record.add(now); }).run();
  return record;
}

/// What would come out of the record's last report.
inline migration_summary summary_of(const migration_record& record) {
  const auto& last = record.last();
  migration_summary done;
  done.rounds = last.round - 1;
  done.channels = 4;
  done.total_bytes = last.total_bytes;
  done.sent_bytes = last.sent_bytes;
  done.zero_bytes = last.zero_bytes;
  done.repeated_bytes = last.repeated_bytes;
  done.wire_bytes = last.wire_bytes;
  done.device_bytes = 5 * mib;
  done.stop_and_copy_bytes = 30 * mib;
  done.recoveries = last.recoveries;
  done.total = last.elapsed;
  done.predicted = {std::chrono::milliseconds(1), std::chrono::microseconds(1500), std::chrono::microseconds(8500),
                    std::chrono::milliseconds(2)};
  done.blackout = {std::chrono::microseconds(700), std::chrono::microseconds(1900), std::chrono::microseconds(9300),
                   std::chrono::microseconds(2100)};
  return done;
}

inline migration_record good() {
  plan what;
  what.downtime_target = std::chrono::milliseconds(20);
  auto record = of(what);
  record.finish(summary_of(record));
  return record;
}

/// A guest that dirties faster than can be sent, until it is slowed down; and a connection that breaks.
inline migration_record eventful() {
  plan what;
  what.bytes = 64 * gib;
  what.bandwidth = 1.1 * gib;
  what.dirtied = 1.3 * gib;
  what.throttled_dirtied = 0.35 * gib;
  what.step = std::chrono::microseconds(50'000);
  what.recovers_at = std::chrono::seconds(95);
  auto record = of(what);
  record.finish(summary_of(record));
  return record;
}

inline error broken() {
  auto failure = make_error(operation::send, errc::peer_closed, {}, "ganymede did not answer for 10 s");
  failure.undone = "the guest runs on here, its memory and mappings as before";
  return failure;
}

inline migration_record failed() {
  plan what;
  what.gives_up_at = std::chrono::milliseconds(2900);
  auto record = of(what);
  record.fail(broken());
  return record;
}

}  // namespace tidemark::cli::told
