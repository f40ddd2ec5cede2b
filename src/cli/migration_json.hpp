// SPDX-License-Identifier: Apache-2.0
//
// A migration's values in JSON, with the same field names wherever the tool tells them; units are in the names. Pure
// functions; any thread.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>

#include <boost/json/object.hpp>

#include "cli/migration_forecast.hpp"

namespace tidemark::cli {

/// {"event": "progress", ...}; "eta_ms" is null when it is not known or never.
boost::json::object json_of(const migration_progress& now, const forecast& when);
/// {"event": "summary", ...}
boost::json::object json_of(const migration_summary& done);
/// {"event": "failed", "why": ..., "guest": where it is, or null}
boost::json::object json_of(const error& failure);
/// {"pause_ms": ..., "sync_ms": ..., "send_ms": ..., "hand_over_ms": ...}; null is a part without an end.
boost::json::object json_of(const blackout_parts& parts);

}  // namespace tidemark::cli
