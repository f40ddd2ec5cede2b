// SPDX-License-Identifier: Apache-2.0
//
// The commands of the tool and their options, as CLI11 takes them apart and --help shows them. Any thread.

#pragma once

#include "cli/command_words.hpp"
#include "cli/config.hpp"

namespace CLI {
class App;
}

namespace tidemark::cli {

/// Makes `app` put the words of a command line into `given`, which outlives it.
void describe_commands(CLI::App& app, command_words& given, const settings& built_in);

/// Whether the command of this name has an option for the key. Two commands may have an option of the same name, each for a
/// key of its own.
bool has_key(const std::string& command, const key& k);

}  // namespace tidemark::cli
