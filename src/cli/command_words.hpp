// SPDX-License-Identifier: Apache-2.0
//
// The words of a command line as they stand there. CLI11 only takes them apart: what they mean is checked afterwards, when
// the configuration file has been read, by the same table that checks the file. Values.

#pragma once

#include <map>
#include <string>

#include "cli/demo_request.hpp"
#include "cli/keys.hpp"
#include "cli/map_bench_request.hpp"
#include "cli/migration_request.hpp"

namespace tidemark::cli {

struct command_words {
  std::map<const key*, std::string> keys;
  std::string config_file;
  demo_words demo;
  migration_words migration;
  map_bench_words map_bench;
  bool json = false;
  bool all = false;
};

}  // namespace tidemark::cli
