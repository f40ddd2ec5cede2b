// SPDX-License-Identifier: Apache-2.0
//
// The command line: words in, a checked request out. It reads the --config file and touches nothing else. Any thread.

#pragma once

#include <string>
#include <variant>

#include "cli/request.hpp"

namespace tidemark::cli {

inline constexpr int exit_failed = 1;   ///< what was asked for did not work
inline constexpr int exit_refused = 2;  ///< it was asked for wrongly, and nothing was begun

/// Nothing to run: a text for standard output (--help, --version) or one line for standard error, and the exit status.
struct answer {
  int status = 0;
  std::string out;
  std::string err;
};

using parsed =
    std::variant<answer, demo_request, migrate_request, receive_request, map_bench_request, devices_request, doctor_request>;

parsed parse_command_line(int argc, const char* const* argv);

}  // namespace tidemark::cli
