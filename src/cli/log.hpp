// SPDX-License-Identifier: Apache-2.0
//
// What the tool tells about its work, on standard error. Any thread, once start_log() has returned.

#pragma once

#include <string_view>

#include "cli/config.hpp"

namespace tidemark::cli {

/// Messages below `least` are dropped from now on. Call it once, before other threads start.
void start_log(log_level least);

void log(log_level severity, std::string_view message);

}  // namespace tidemark::cli
