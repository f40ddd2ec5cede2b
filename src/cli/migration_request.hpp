// SPDX-License-Identifier: Apache-2.0
//
// Makes requests of `tidemark migrate` and `tidemark receive` of their words. Pure; any thread.

#pragma once

#include <tidemark/error.hpp>

#include <optional>
#include <string>
#include <vector>

#include "cli/request.hpp"

namespace tidemark::cli {

/// As they stand on the command line.
struct migration_words {
  std::string address;
  std::vector<std::string> ram;
  std::optional<std::string> device;
  std::optional<std::string> report;
  bool plain = false;
};

result<migrate_request> migrate_of(const migration_words& given, bool json, settings chosen);
result<receive_request> receive_of(const migration_words& given, bool json, settings chosen);

}  // namespace tidemark::cli
