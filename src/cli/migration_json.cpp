// SPDX-License-Identifier: Apache-2.0

#include "cli/migration_json.hpp"

#include <boost/json/value.hpp>

#include "cli/human.hpp"
#include "cli/migration_rounds.hpp"

namespace tidemark::cli {
namespace {

namespace json = boost::json;

json::value length_ms(const blackout_parts& parts) {
  const auto length = length_of(parts);
  return length ? json::value(milliseconds(*length)) : json::value(nullptr);
}

json::value left_ms(const forecast& when) {
  const bool told = when.is == forecast::kind::about || when.is == forecast::kind::at_least;
  return told ? json::value(milliseconds(when.left)) : json::value(nullptr);
}

}  // namespace

json::object json_of(const blackout_parts& parts) {
  return {{"pause_ms", length_ms({parts.pause, {}, {}, {}})},
          {"sync_ms", length_ms({{}, parts.sync, {}, {}})},
          {"send_ms", length_ms({{}, {}, parts.send, {}})},
          {"hand_over_ms", length_ms({{}, {}, {}, parts.hand_over})}};
}

json::object json_of(const migration_progress& now, const forecast& when) {
  return {{"event", "progress"},
          {"phase", name_of(now.phase)},
          {"round", now.round},
          {"paused", is_paused(now.phase)},
          {"elapsed_ms", milliseconds(now.elapsed)},
          {"eta_ms", left_ms(when)},
          {"total_bytes", now.total_bytes},
          {"remaining_bytes", now.remaining_bytes},
          {"sent_bytes", now.sent_bytes},
          {"zero_bytes", now.zero_bytes},
          {"repeated_bytes", now.repeated_bytes},
          {"wire_bytes", now.wire_bytes},
          {"device_bytes", now.device_bytes},
          {"dirty_bytes_per_s", now.dirty_bytes_per_s},
          {"bandwidth_bytes_per_s", now.bandwidth_bytes_per_s},
          {"throttle_percent", now.throttle_percent},
          {"recoveries", now.recoveries},
          {"predicted_blackout_ms", length_ms(now.predicted)},
          {"predicted_blackout", json_of(now.predicted)}};
}

json::object json_of(const migration_summary& done) {
  return {{"event", "summary"},
          {"total_ms", milliseconds(done.total)},
          {"bytes", done.total_bytes},
          {"sent_bytes", done.sent_bytes},
          {"wire_bytes", done.wire_bytes},
          {"zero_bytes", done.zero_bytes},
          {"repeated_bytes", done.repeated_bytes},
          {"device_bytes", done.device_bytes},
          {"stop_and_copy_bytes", done.stop_and_copy_bytes},
          {"rounds", done.rounds},
          {"channels", done.channels},
          {"recoveries", done.recoveries},
          {"compared", done.compared},
          {"blackout_ms", length_ms(done.blackout)},
          {"predicted_blackout_ms", length_ms(done.predicted)},
          {"blackout", json_of(done.blackout)},
          {"predicted_blackout", json_of(done.predicted)}};
}

json::object json_of(const error& failure) {
  return {{"event", "failed"},
          {"why", failure.message()},
          {"guest", failure.undone.empty() ? json::value(nullptr) : json::value(failure.undone)}};
}

}  // namespace tidemark::cli
